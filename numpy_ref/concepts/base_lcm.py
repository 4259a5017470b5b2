"""Base-LCM (arXiv:2412.08821, section 2.3.1): a causal transformer over concepts that regresses the next one."""

import numpy as np

from numpy_ref.model.block import with_prefix
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm
from numpy_ref.patching.byte_stack import stack, under


def contextualise(x, params, config):
    """What every concept model knows at each sentence: h = norm(blocks(Wi x)), causal, with RoPE.

    params: those of ``context_shapes``, and any others. config: ConceptConfig.

    Shapes: x (B, T, c) normalised concepts -> (B, T, d);  vjp: dy -> dx, grads of these parameters.
    """
    embedded, input_vjp = linear(x, params["input.weight"])
    h, stack_vjp = stack(embedded, with_prefix(params, "context"), config.stack("context"))
    y, norm_vjp = rms_norm(h, params["context_norm.weight"], config.stack("context").norm_eps)

    def vjp(dy):
        dh, dnorm = norm_vjp(dy)
        dembedded, blocks = stack_vjp(dh)
        dx, dinput, _ = input_vjp(dembedded)
        grads = {"input.weight": dinput, "context_norm.weight": dnorm} | under("context", blocks)
        return dx, {name: grads[name] for name in params if name in grads}

    return y, vjp


def base_lcm(x, params, config):
    """The next concept after each sentence: y = Wo h + b.

    Shapes: x (B, T, c) -> (B, T, c);  vjp: dy -> dx, grads with the keys of params.
    """
    h, context_vjp = contextualise(x, params, config)
    y, output_vjp = linear(h, params["output.weight"], params["output.bias"])

    def vjp(dy):
        dh, dweight, dbias = output_vjp(dy)
        dx, grads = context_vjp(dh)
        grads |= {"output.weight": dweight, "output.bias": dbias}
        return dx, {name: grads[name] for name in params}

    return y, vjp


def squared_distance(prediction, target):
    """The loss of regression: the squared distance of concepts, on average over sentences.

        L = mean over places of the sum over features of (p - t)^2

    The sum, not the mean, over features: what one feature counts does not depend on how many there are.

    Shapes: prediction, target (..., c) -> ();  vjp: dy -> dprediction. Targets are constants.

    Backward: dp = 2 (p - t) / places.
    """
    apart = prediction - target
    places = apart.size // apart.shape[-1]

    def vjp(dy):
        return (dy * 2.0 / places) * apart

    return np.sum(apart * apart) / places, vjp
