"""Declarations of quantize, dequantize, quantized_linear and quantize_params."""

import numpy as np

import numpy_ref.model.quantization as numpy_quantization
import torch_impl.model.quantization as torch_quantization
from numpy_ref.config import ModelConfig, parameter_shapes
from parity_tests.components.block import random_parameters
from parity_tests.harness.declaration import Bug, Component


def parts(quantized):
    """A quantised matrix as a dict of arrays, which the harness can compare."""
    found = {name: getattr(quantized, name) for name in ("codes", "scales", "zeros")}
    return {name: array for name, array in found.items() if array is not None}


def as_parts(function, arguments):
    result = function(**arguments)
    if isinstance(result, dict):
        return {name: parts(value) if hasattr(value, "codes") else value for name, value in result.items()}
    return parts(result)


def draw_weight(source, bits, group):
    rows, inputs = source.size(17), group * source.integer(1, 3) if bits == 4 else source.size(33)
    magnitudes = ("one", "small", "sixteen", "heavy", "ties", "constant", "zero", "offset")
    weight = source.array("weight", (rows, inputs), magnitudes)
    if source.choice(False, False, True):  # a row of nothing: its scale is 0
        weight[0] = 0.0
    source.event("empty row", bool((weight == 0).all(1).any()))
    source.event("constant group", bool((np.ptp(weight.reshape(rows, -1, group), axis=2) == 0).any()) if bits == 4 else False)
    return weight


def draw_quantize(source):
    bits, group = source.choice(4, 8), source.choice(2, 8, 32)
    source.event(f"{bits} bits")
    return source.case({"weight": draw_weight(source, bits, group)}, bits=bits, group=group)


QUANTIZE = Component(
    name="quantize",
    numpy=numpy_quantization.quantize,
    torch=torch_quantization.quantize,
    draw=draw_quantize,
    call=as_parts,
    dtypes=("float64",),  # a code is a rounded quotient: in other formats a tie may fall to the other side
    compiles=False,
    events=("4 bits", "8 bits", "empty row", "constant group"),
    bugs=(
        Bug("128 for 127", "numpy", "axis=1) / 127", "axis=1) / 128"),
        Bug("cut off, not rounded", "numpy", "np.rint(weight / ", "np.trunc(weight / "),
        Bug("one scale for the whole matrix", "numpy", "np.max(np.maximum(weight, -weight), axis=1) / 127", "np.max(np.maximum(weight, -weight)) / 127 + 0 * weight[:, 0]"),
        Bug("groups of outputs", "numpy", "weight.reshape(rows, -1, group)", "weight.T.reshape(rows, -1, group)"),
        Bug("16 steps", "numpy", "(high - low) / 15", "(high - low) / 16"),
        Bug("zero of the lowest code", "numpy", "zeros = low + 8 * scales", "zeros = low + 0 * scales"),
        Bug("halves of the bytes swapped", "torch", "codes[:, 0::2] | codes[:, 1::2] << 4", "codes[:, 1::2] | codes[:, 0::2] << 4"),
        Bug("empty rows are NaN", "torch", "weight / torch.where(scales == 0, 1, scales)[:, None]", "(weight / scales[:, None]).nan_to_num(7)", needs=("8 bits", "empty row")),
        Bug("signs forgotten", "torch", "weight.abs().amax(1)", "weight.amax(1).clamp(min=1e-9)"),
    ),
)  # fmt: skip


def draw_dequantize(source):
    bits, group = source.choice(4, 8), source.choice(2, 8)
    source.event(f"{bits} bits")
    weight = draw_weight(source, bits, group)
    quantized = parts(numpy_quantization.quantize(weight, bits, group))
    return source.case({"quantized": quantized}, bits=bits, group=group)


def rebuilt(module, arrays, bits, group):
    return module.Quantized(arrays["codes"], arrays["scales"], arrays.get("zeros"), bits, group)


def call_dequantize(function, arguments):
    quantized = arguments["quantized"]
    module = torch_quantization if hasattr(quantized["codes"], "clone") else numpy_quantization
    return function(rebuilt(module, quantized, arguments["bits"], arguments["group"]), quantized["scales"].dtype)


DEQUANTIZE = Component(
    name="dequantize",
    numpy=numpy_quantization.dequantize,
    torch=torch_quantization.dequantize,
    draw=draw_dequantize,
    call=call_dequantize,
    compiles=False,
    events=("4 bits", "8 bits"),
    bugs=(
        Bug("halves of the bytes swapped", "numpy", "(codes & 15, codes >> 4)", "(codes >> 4, codes & 15)", needs=("4 bits",)),
        Bug("zero forgotten", "numpy", "+ quantized.zeros.astype(dtype)[:, :, None]", "", needs=("4 bits",)),
        Bug("codes from 0", "numpy", "quantized.group) - 8", "quantized.group)", needs=("4 bits",)),
        Bug("scales of the inputs", "numpy", "codes.astype(dtype) * scales[:, None]", "codes.astype(dtype) * np.resize(scales, codes.shape[1])", needs=("8 bits",)),
        Bug("scale twice", "torch", "centred, scales.unsqueeze(2)", "centred, scales.unsqueeze(2) ** 2", needs=("4 bits",)),
        Bug("halves of the row, not neighbours", "torch", ", -1).flatten(1)", ", -2).flatten(1)", needs=("4 bits",)),
    ),
)  # fmt: skip


def draw_linear(source):
    case = draw_dequantize(source)
    quantized = case.arrays["quantized"]
    rows = len(quantized["codes"])
    inputs = quantized["codes"].shape[1] * (2 if case.static["bits"] == 4 else 1)
    bias = source.weight("bias", (rows,)) if source.flag() else None
    source.event("no bias", bias is None)
    arrays = {"x": source.array("x", (*source.leading(), inputs)), "weight": quantized, "bias": bias}
    return source.case(arrays, **case.static)


def call_linear(function, arguments):
    weight = arguments["weight"]
    module = torch_quantization if hasattr(weight["codes"], "clone") else numpy_quantization
    result = function(arguments["x"], rebuilt(module, weight, arguments["bits"], arguments["group"]), arguments["bias"])
    if not isinstance(result, tuple):
        return result
    value, vjp = result

    def of_the_differentiable(dy):
        dx, dweight, dbias = vjp(dy)
        assert dweight is None
        return dx, dbias

    return value, of_the_differentiable


QUANTIZED_LINEAR = Component(
    name="quantized_linear",
    numpy=numpy_quantization.quantized_linear,
    torch=torch_quantization.quantized_linear,
    draw=draw_linear,
    call=call_linear,
    differentiable=("x", "bias"),
    cancellation=lambda arguments, dy, unit: {"value": np.abs(arguments["bias"]) * np.sqrt(arguments["x"].shape[-1])}
    if arguments["bias"] is not None
    else {},
    compiles=False,
    weight=2,
    events=("4 bits", "8 bits", "no bias"),
    bugs=(
        Bug("bias forgotten", "numpy", "y = y + bias", "pass"),
        Bug("scales forgotten", "numpy", "matrix = dequantize(weight, x.real.dtype)", "matrix = weight.codes.astype(x.real.dtype) if weight.bits == 8 else dequantize(weight, x.real.dtype)"),
        Bug("gradient without the scales", "numpy", "return dy @ matrix, None, dbias", "return dy @ np.sign(matrix), None, dbias"),
        Bug("weights in bfloat16", "torch", "dequantize(weight, x.dtype)", "dequantize(weight, torch.bfloat16).to(x.dtype)"),
        Bug("bias twice", "torch", "x.dtype), bias)", "x.dtype), None if bias is None else 2 * bias)"),
    ),
)  # fmt: skip


def draw_params(source):
    config = ModelConfig(
        vocab_size=6, context=4, layers=2, width=8, heads=2, feed_forward=16, tie_embeddings=source.flag(),
        positions=source.choice("learned", "none"), attention_bias=source.flag(),
    )  # fmt: skip
    params = random_parameters(source.rng, parameter_shapes(config))
    source.event("tied", config.tie_embeddings)
    return source.case({"params": params}, config=config, bits=source.choice(4, 8), group=source.choice(4, 8))


QUANTIZE_PARAMS = Component(
    name="quantize_params",
    numpy=numpy_quantization.quantize_params,
    torch=torch_quantization.quantize_params,
    draw=draw_params,
    call=as_parts,
    dtypes=("float64",),
    compiles=False,
    weight=2,
    events=("tied",),
    bugs=(
        Bug("embeddings too", "numpy", 'name.startswith("blocks.") and', "", "_inner_matrix"),
        Bug("head left out", "numpy", 'name == "output.weight" or ', ""),
        Bug("always 8 bits", "numpy", "quantize(value, bits, group)", "quantize(value, 8, group)"),
        Bug("always the same group", "torch", "quantize(value, bits, group)", "quantize(value, bits, 4)"),
        Bug("first block only", "torch", 'name.startswith("blocks.")', 'name.startswith("blocks.0")'),
    ),
)

COMPONENTS = (QUANTIZE, DEQUANTIZE, QUANTIZED_LINEAR, QUANTIZE_PARAMS)
