"""``python -m numpy_ref``: the command line of the reference."""

import sys

from numpy_ref import cli
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.inference.generate import generate
from numpy_ref.tokenizers.byte import Decoder, encode
from numpy_ref.training.checkpoint import load
from numpy_ref.training.evaluate import evaluate
from numpy_ref.training.loop import train

WING = cli.Wing(
    name="numpy_ref",
    train=train,
    choose_device=choose_device,
    choose_dtype=choose_dtype,
    load=load,
    evaluate=evaluate,
    generate=generate,
    encode=encode,
    decoder=Decoder,
)


def main(argv=None):
    """Run a command; returns the exit status."""
    return cli.main(WING, argv)


if __name__ == "__main__":
    sys.exit(main())
