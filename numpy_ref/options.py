"""Dataclasses of settings: their fields are options of the command line, are checked, and are written as JSON."""

import dataclasses
import json
import math
import typing
from dataclasses import field

from numpy_ref.errors import UserError, shown

DEFINITION = "settings: no arrays"


def option(default, help, choices=None, none=None):
    """A dataclass field that is also a command line option. ``none``: the number by which older files said None."""
    return field(default=default, metadata={"help": help, "choices": choices, "none": none})


def require(config, name, allowed, words):
    """Raise UserError unless the field passes; a comparison that can't be made (text, NaN) fails too."""
    value = getattr(config, name)
    try:
        fine = bool(allowed(value)) and not (isinstance(value, bool) and type(config).__dataclass_fields__[name].type is not bool)
    except TypeError:
        fine = False
    if not fine:
        raise UserError(f"{name}={shown(value)} is not allowed; it must be {words}")


def to_json(config):
    """One line of JSON with every field."""
    return json.dumps(dataclasses.asdict(config))


def from_json(kind, text):
    """The config of class ``kind`` from its JSON. Raises UserError on unknown fields, wrong types and bad values."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the configuration is not JSON ({error}); write one with {kind.__name__} and to_json") from None
    if not isinstance(values, dict):
        raise UserError(f"the configuration must be a JSON object, got {type(values).__name__}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in fields:
            raise UserError(f"{kind.__name__} has no field {shown(name)}; its fields are {', '.join(fields)}")
        allowed = allowed_types(fields[name])
        if type(value) is int and allowed[0] is float:
            values[name] = float(value) if abs(value) < 2**1000 else math.inf
        elif type(value) not in allowed:
            raise UserError(f"{name}={shown(value)} must be of type {allowed[0].__name__}")
        if value == fields[name].metadata.get("none"):
            values[name] = None
    return kind(**values)


def allowed_types(field):
    """The types that a field's value may have: (float, NoneType) where it is declared as ``float | None``."""
    return typing.get_args(field.type) or (field.type,)
