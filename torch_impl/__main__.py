"""``python -m torch_impl``: the command line of the fast side."""

import sys

from numpy_ref import cli
from torch_impl.device import choose_device, choose_dtype
from torch_impl.inference.generate import generate
from torch_impl.tokenizers.byte import Decoder, encode
from torch_impl.training.checkpoint import load
from torch_impl.training.evaluate import evaluate
from torch_impl.training.loop import train

WING = cli.Wing(
    name="torch_impl",
    train=train,
    choose_device=choose_device,
    choose_dtype=choose_dtype,
    load=load,
    evaluate=evaluate,
    generate=generate,
    encode=encode,
    decoder=Decoder,
    chats=True,
)


def main(argv=None):
    """Run a command; returns the exit status."""
    return cli.main(WING, argv)


if __name__ == "__main__":
    sys.exit(main())
