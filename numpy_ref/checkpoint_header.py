"""What the header of a checkpoint says, and whether its arrays are what it says."""

import json
import math

import numpy as np

from numpy_ref.config import ModelConfig, TrainConfig, from_json, parameter_shapes
from numpy_ref.errors import UserError
from numpy_ref.sft import adapters

DEFINITION = "a file format: arrays are looked at, not computed with"

NAME = "checkpoint.npz"
PARTS = ("codes", "scales", "zeros")  # of a quantised weight


def configs(header):
    """(ModelConfig, TrainConfig) of a header."""
    return from_json(ModelConfig, json.dumps(header["model"])), from_json(TrainConfig, json.dumps(header["train"]))


def lora_of(header):
    """The LoRA of a run that trains adapters, or None."""
    return adapters.from_header(header["lora"]) if header.get("lora") else None


def check(path, arrays, header):
    """Raise UserError unless header and arrays are what the header's own config says."""
    try:
        model, _ = configs(header)
        numbers = [header[name] for name in ("step", "position", "tokens")]
        fine = all(type(number) is int and number >= 0 for number in numbers) and math.isfinite(header["seconds"])
        fine = fine and isinstance(header["loss_scale"], dict | None) and isinstance(header["wing"], str)
        best = header.get("best")
        fine = fine and (best is None or type(best["step"]) is int and math.isfinite(best["val_loss"]))
        fine = fine and isinstance(header.get("extra"), dict | None)
        fine = fine and model.layers <= len(arrays)  # or the list of parameters could be longer than the memory
    except (KeyError, TypeError, AttributeError, OverflowError):
        fine = False
    if not fine:
        raise UserError(f"{path} is not a checkpoint: its header lacks a setting; give a run folder or its {NAME}")
    shapes = parameter_shapes(model)
    if lora_of(header):
        weights = {f"frozen/{name}": shape for name, shape in shapes.items()}
        if any(name not in arrays or arrays[name].shape != shape for name, shape in weights.items()):
            raise UserError(f"{path} is of another config: its frozen weights do not fit the model that its header describes")
        arrays = {name: value for name, value in arrays.items() if name not in weights}
        shapes = adapters.trained_shapes(model, lora_of(header))
    arrays = _unquantized(arrays, header, shapes, path)
    wrong = [name for name in shapes if f"model/{name}" not in arrays]
    for key, value in arrays.items():
        part, _, rest = key.partition("/")
        name, _, field = rest.partition("/")
        known = name in shapes and (part == "optimizer" and "/" not in field if field else part in ("model", "ema"))
        if not known or value.shape not in ((shapes[name], ()) if field else (shapes[name],)):
            wrong.append(key)
    if wrong:
        raise UserError(f"{path} is of another config: {wrong[0]} does not fit the model that its header describes")


def _unquantized(arrays, header, shapes, path):
    """The arrays without the parts of quantised weights, each of which is an empty stand-in of its matrix's shape."""
    settings = header.get("quantization")
    names = {name for name in shapes if f"model/{name}.codes" in arrays}
    if not names:
        return arrays
    try:
        bits, group = settings["bits"], settings["group"]
        for name in names:
            rows, inputs = shapes[name]
            codes, scales = arrays[f"model/{name}.codes"], arrays[f"model/{name}.scales"]
            wide = codes.shape == (rows, inputs) and codes.dtype == np.int8 and scales.shape == (rows,)
            few = (rows, inputs // group) if bits == 4 else None
            packed = codes.shape == (rows, inputs // 2) and codes.dtype == np.uint8 and scales.shape == few
            zeros = arrays.get(f"model/{name}.zeros")
            if not (wide if bits == 8 and zeros is None else packed and zeros.shape == few):
                raise ValueError(name)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{path} is damaged: its quantised weights do not fit its model ({error})") from None
    parts = {f"model/{name}.{part}" for name in names for part in PARTS}
    rest = {key: value for key, value in arrays.items() if key not in parts}
    return rest | {f"model/{name}": np.broadcast_to(np.float32(0), shapes[name]) for name in names}
