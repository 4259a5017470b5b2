"""Declaration of H-Net. The gradient of a straight-through step is not that of its forward pass, so the two sides are
compared without it here, and with it in test_patching.py."""

import numpy as np
import torch

import numpy_ref.patching.hnet as numpy_hnet
import torch_impl.patching.hnet as torch_hnet
from parity_tests.components.block import KERNELS
from parity_tests.components.byte_stack import parameters, short, small_config
from parity_tests.harness.declaration import Bug, Component


def draw(source):
    config, tokens = small_config(source, "hnet", target=source.choice(1.5, 6.0)), short(source)
    return source.case({"tokens": tokens, "params": parameters(source, config)}, config=config)


def flat(function, arguments):
    """Logits and ratio loss as one array, so that one cotangent is enough."""
    result = function(*(arguments[name] for name in ("tokens", "params", "config")), straight_through=False)
    if torch.is_tensor(result[0]):
        logits, ratio, _ = result
        return torch.cat((logits.flatten(), ratio[None].to(logits.dtype)))
    (logits, ratio, _), vjp = result
    flat = np.concatenate([logits.reshape(-1), np.reshape(ratio, 1)])
    return flat, lambda dy: vjp(dy[:-1].reshape(logits.shape), dy[-1:].reshape(()))


HNET = Component(
    name="hnet",
    numpy=numpy_hnet.hnet,
    torch=torch_hnet.hnet,
    draw=draw,
    call=flat,
    differentiable=("params",),
    kernels=KERNELS,
    dtypes=("float64",),  # where chunks begin: in fewer digits it may be elsewhere
    events=("n-grams", "no n-grams", "window", "one byte"),
    weight=8,
    compiles=False,
    bugs=(
        Bug("the ratio loss without a gradient", "numpy", " + ratio_vjp(dratio)", "", dtype="float64"),
        Bug("smoothing without a gradient to the router", "numpy", " + strength_vjp(dstrength[..., None])[..., 0]", "", dtype="float64"),
        Bug("the router without a gradient to the bytes", "numpy", " + dh_route", "", dtype="float64"),
        Bug("the residual without a gradient", "numpy", "dh, grads[\"residual.weight\"], _ = residual_vjp(du)", "dh, grads[\"residual.weight\"], _ = residual_vjp(du); dh = 0 * dh", dtype="float64"),
        Bug("not smoothed", "numpy", "spread(smooth, p, borders", "spread(z, p, borders", dtype="float64"),
        Bug("the residual left out", "numpy", "stack(u + past,", "stack(u,", dtype="float64"),
        Bug("chunks without a gradient to the bytes", "torch", "linear(select(h, borders),", "linear(select(h.detach(), borders),", dtype="float64"),
        Bug("borders at every byte", "torch", "borders = p > 0.5", "borders = p > -1", dtype="float64"),
        Bug("another target", "torch", "config.target)", "config.target + 1)", dtype="float64"),
        Bug("encoder without its norm", "numpy", 'rms_norm(raw, params["encoder_norm.weight"], config.stack("encoder").norm_eps)', "raw, lambda d: (d, 0 * params[\"encoder_norm.weight\"])", dtype="float64"),
        Bug("no norm behind the encoder", "torch", '    h = rms_norm(h, params["encoder_norm.weight"], config.stack("encoder").norm_eps)', '    h = 1.0 * h + 0 * params["encoder_norm.weight"]', dtype="float64"),
        Bug("global norm left out", "torch", 'rms_norm(x, params["global_norm.weight"], config.stack("global").norm_eps)', "x", dtype="float64"),
    ),
)  # fmt: skip

COMPONENTS = (HNET,)
