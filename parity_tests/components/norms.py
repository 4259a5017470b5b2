"""Declarations of layer_norm, rms_norm, and of their choice by name."""

import numpy as np

import numpy_ref.model.norms as numpy_norms
import torch_impl.model.norms as torch_norms
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    lead, width = source.leading(), source.size(65)
    bias = source.flag()
    arrays = {
        "x": source.array("x", (*lead, width)),
        "weight": source.weight("weight", (width,)),
        "bias": source.weight("bias", (width,)) if bias else None,
    }
    source.event("no bias", not bias)
    source.event("width 1", width == 1)
    return source.case(arrays, eps=source.choice(1e-5, 1e-5, 1e-6, 1e-2))


def shape(batch, length, width):
    def build(rng):
        normal = rng.standard_normal
        return Case({"x": normal((batch, length, width)), "weight": normal(width), "bias": normal(width)})

    return build


def cancellation(arguments, dy, unit):
    """The fused kernel computes n = x / r - mean / r, and its backward sums dn * x where the reference sums dn * n.

    With M = |mean| + max|x - mean|, the terms that cancel are M / r in n and mean|dn| M / r in the mean of dn * n.
    """
    x, weight = arguments["x"], arguments["weight"]
    mean = x.mean(-1, keepdims=True)
    centred = np.abs(x - mean)
    r = np.sqrt((centred**2).mean(-1, keepdims=True) + arguments["eps"])
    large = (np.abs(mean) + centred.max(-1, keepdims=True)) / r
    n, dn = centred / r, np.abs(dy * weight)
    slope = np.abs((dy * weight * (x - mean) / r).mean(-1, keepdims=True))
    return {
        "value": large * np.abs(weight),
        "dx": (dn.mean(-1, keepdims=True) * n + slope) * large / r,
        "dweight": (np.abs(dy) * large).reshape(-1, x.shape[-1]).sum(0),
    }


LAYER_NORM = Component(
    name="layer_norm",
    numpy=numpy_norms.layer_norm,
    torch=torch_norms.layer_norm,
    draw=draw,
    differentiable=("x", "weight", "bias"),
    inside="float32",  # also the sums over rows in the gradients of weight and bias
    cancellation=cancellation,
    events=("no bias", "width 1", "offset", "constant", "tiny", "zero", "strided", "expanded"),
    shapes={"small": shape(2, 5, 33), "showcase": shape(32, 128, 128), "wide": shape(32, 256, 384)},
    flops=lambda case: 8 * case.arrays["x"].size,
    bytes=lambda case, size: 2 * size * case.arrays["x"].size,
    bugs=(
        Bug(
            "deviation over d - 1",
            "numpy",
            "np.mean(centred * centred, axis=-1, keepdims=True)",
            "np.sum(centred * centred, axis=-1, keepdims=True) / max(1, x.shape[-1] - 1)",
        ),
        Bug("eps outside the root", "numpy", "keepdims=True) + eps)", "keepdims=True)) + eps"),
        Bug(
            "variance in one pass",
            "numpy",
            "np.mean(centred * centred, axis=-1, keepdims=True)",
            "np.maximum(np.mean(x * x, axis=-1, keepdims=True) - np.mean(x, axis=-1, keepdims=True) ** 2, 0)",
        ),
        Bug("eps ignored", "numpy", "+ eps)", "+ 1e-12)"),
        Bug("weight forgotten in dx", "numpy", "dn = dy * weight", "dn = dy"),
        Bug("mean of dn forgotten in dx", "numpy", "dx = dn - np.mean(dn, axis=-1, keepdims=True)", "dx = dn.copy()"),
        Bug("slope term forgotten in dx", "numpy", "dx -= n * np.mean(dn * n, axis=-1, keepdims=True)", "pass"),
        Bug(
            "dweight without n", "numpy", "np.sum((dy * n).reshape(-1, d), axis=0)", "np.sum(dy.reshape(-1, d), axis=0)"
        ),
        Bug(
            "dbias averaged over rows",
            "numpy",
            "np.sum(dy.reshape(-1, d), axis=0)",
            "np.mean(dy.reshape(-1, d), axis=0)",
        ),
        Bug("1 + weight", "numpy", "y = n * weight", "y = n * (1 + weight)"),
        Bug(
            "no mean subtracted",
            "torch",
            "F.layer_norm(x, weight.shape, weight, bias, eps)",
            "F.rms_norm(x, weight.shape, weight, eps) + (0 if bias is None else bias)",
        ),
        Bug("bias forgotten", "torch", "weight, bias, eps)", "weight, None, eps) + (0 if bias is None else 0 * bias)"),
        Bug(
            "moments in 16 bits",
            "torch",
            "F.layer_norm(x.float(), weight.shape, weight.float(), bias, eps)",
            "((x - x.mean(-1, keepdim=True)) * (x.var(-1, keepdim=True, correction=0) + eps).rsqrt() * weight "
            "+ (0 if bias is None else bias.to(x.dtype)))",
            dtype="bfloat16",
        ),
    ),
)


def draw_rms(source):
    lead, width = source.leading(), source.size(65)
    arrays = {"x": source.array("x", (*lead, width)), "weight": source.weight("weight", (width,))}
    source.event("width 1", width == 1)
    return source.case(arrays, eps=source.choice(1e-6, 1e-5, 1e-2))


def rms_cancellation(arguments, dy, unit):
    """The kernel's backward sums dn * x where the reference sums dn * n, and rounds 1 / r once more."""
    x, weight = arguments["x"], arguments["weight"]
    r = np.sqrt((x * x).mean(-1, keepdims=True) + arguments["eps"])
    n, dn = np.abs(x) / r, np.abs(dy * weight)
    return {"dx": n * (dn * n).mean(-1, keepdims=True) / r}


RMS_NORM = Component(
    name="rms_norm",
    numpy=numpy_norms.rms_norm,
    torch=torch_norms.rms_norm,
    draw=draw_rms,
    differentiable=("x", "weight"),
    inside="float32",
    cancellation=rms_cancellation,
    events=("width 1", "offset", "constant", "tiny", "zero", "strided", "expanded"),
    shapes={
        name: lambda rng, size=size: Case({"x": rng.standard_normal(size), "weight": rng.standard_normal(size[-1])})
        for name, size in {"small": (2, 5, 33), "showcase": (32, 128, 128), "wide": (32, 256, 384)}.items()
    },
    flops=lambda case: 5 * case.arrays["x"].size,
    bytes=lambda case, size: 2 * size * case.arrays["x"].size,
    bugs=(
        Bug("eps outside the root", "numpy", "keepdims=True) + eps)", "keepdims=True)) + eps"),
        Bug("eps ignored", "numpy", "+ eps)", "+ 1e-20)"),
        Bug("sum for mean", "numpy", "np.mean(x * x,", "np.sum(x * x,"),
        Bug("centred, as a layer norm", "numpy", "n = x / r", "n = (x - np.mean(x, axis=-1, keepdims=True)) / r"),
        Bug("1 + weight", "numpy", "n * weight, vjp", "n * (1 + weight), vjp"),
        Bug("weight forgotten in dx", "numpy", "dn = dy * weight", "dn = dy"),
        Bug("slope term forgotten in dx", "numpy", "(dn - n * np.mean(dn * n, axis=-1, keepdims=True)) / r", "dn / r"),
        Bug("dweight without n", "numpy", "(dy * n).reshape", "(dy * x).reshape"),
        Bug("PyTorch's own eps", "torch", "F.rms_norm(x, weight.shape, weight, eps)", "F.rms_norm(x, weight.shape, weight)"),
        Bug(
            "squares summed in 16 bits",
            "torch",
            "_RmsNorm.apply(x, weight, eps)",
            "x * (x.square().cumsum(-1)[..., -1:] / x.shape[-1] + eps).rsqrt() * weight",
            dtype="bfloat16",
        ),
        Bug("slope term forgotten by hand", "torch", "n, slope, value=-1", "n, slope, value=0", "_RmsNorm", dtype="bfloat16"),
        Bug("1 / r forgotten by hand", "torch", ".mul_(inverse)", "", "_RmsNorm", dtype="bfloat16"),
    ),
)


def draw_named(source):
    kind = source.choice("rms", "layer")
    lead, width, bias = source.leading(), source.size(33), kind == "layer" and source.flag()
    params = {"weight": source.weight("params", (width,))}
    if bias:
        params["bias"] = source.weight("params", (width,))
    source.event(kind)
    source.event("bias", bias)
    x = source.array("x", (*lead, width), ("one", "small", "sixteen", "ties", "constant", "zero"))
    return source.case({"x": x, "params": params}, kind=kind, eps=source.choice(1e-5, 1e-2))


NORM = Component(
    name="norm",
    numpy=numpy_norms.norm,
    torch=torch_norms.norm,
    draw=draw_named,
    differentiable=("x", "params"),
    kernels=(LAYER_NORM, RMS_NORM),
    inside="float32",
    events=("rms", "layer", "bias"),
    weight=2,
    bugs=(
        Bug("always a layer norm", "numpy", 'kind == "rms"', "False"),
        Bug("eps left at its default", "numpy", 'params["weight"], eps)', 'params["weight"])'),
        Bug("bias forgotten", "numpy", 'params.get("bias"), eps)', "None, eps)"),
        Bug("always an RMS norm", "torch", 'kind == "rms"', "True"),
        Bug("the other's default eps", "torch", 'params.get("bias"), eps)', 'params.get("bias"))'),
    ),
)

COMPONENTS = (LAYER_NORM, RMS_NORM, NORM)
