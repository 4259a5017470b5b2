"""Options that several commands share, and those that are fields of a dataclass."""

import argparse
from dataclasses import fields

from numpy_ref.config import TrainConfig
from numpy_ref.options import allowed_types

DEFINITION = "text in, text out: the wings compute"


def add_checkpoint(parser):
    """Options of every command that reads a checkpoint."""
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="run folder or .npz file")
    device = next(field for field in fields(TrainConfig) if field.name == "device")
    parser.add_argument("--device", choices=device.metadata["choices"], help=device.metadata["help"])


def add_dtype(parser):
    """The number format of a command that only reads a model."""
    dtype = next(field for field in fields(TrainConfig) if field.name == "dtype")
    parser.add_argument("--dtype", choices=dtype.metadata["choices"], help="number format (that of the checkpoint)")


def add_fields(parser, kind, defaults, leave_out=()):
    """One option for each field of the dataclass ``kind``, but those to ``leave_out``; the help names the values of
    ``defaults``."""
    for field in fields(kind):
        if field.name in leave_out:
            continue
        flag, default = "--" + field.name.replace("_", "-"), getattr(defaults, field.name)
        shown = f"{default:.4g}" if isinstance(default, float) else "none" if default is None else default
        kind, *none = allowed_types(field)
        help = f"{field.metadata['help']} ({shown})".replace("%", "%%")
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=help)
        else:
            metavar = None if field.metadata["choices"] else {int: "N", float: "X"}.get(kind, "NAME")
            read = number_or_none if none else kind
            parser.add_argument(flag, type=read, choices=field.metadata["choices"], metavar=metavar, help=help)


def number_or_none(text):
    """The value of an option that may also be left out by name."""
    try:
        return None if text == "none" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it must be a number, or none") from None
