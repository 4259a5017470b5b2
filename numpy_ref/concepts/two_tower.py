"""Two-tower diffusion (arXiv:2412.08821, section 2.3.4): one tower reads the context, the other takes noise off a concept.

The denoiser works on every sentence's successor at once. There is no attention between the noisy concepts: each looks at
the context alone, which the first tower has made. Two things are not as in the paper. Its attention turns queries and keys
by their places (RoPE), so that the last sentence can be told from the first: small models learn much faster so. And the
paper's blocks begin with self-attention in which every place sees itself alone; that is one more matrix, and left out.
"""

import numpy as np

from numpy_ref.concepts.adaln import gated, modulate, time_features
from numpy_ref.model.activations import silu
from numpy_ref.model.attention import scaled_dot_product_attention
from numpy_ref.model.block import with_prefix
from numpy_ref.model.feed_forward import feed_forward
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm
from numpy_ref.model.positions import rope_phases, rotary
from numpy_ref.patching.byte_stack import under


def tower_mask(keep):
    """Which of the context the denoiser sees: bool, True = sees.

        column 0, the empty context: always        column j + 1: where j <= t and keep_t

    Place t predicts what follows sentence t. Where ``keep`` is False it knows nothing but the empty context: in training
    that happens now and then, so that the model also learns to do without.

    Shapes: keep bool (B, T) -> (B, 1, T, T + 1).
    """
    length = keep.shape[1]
    seen = np.tril(np.ones((length, length), bool)) & keep[..., None]
    return np.concatenate([np.ones((len(keep), length, 1), bool), seen], axis=-1)[:, None]


def cross_attention(x, memory, params, config, mask):
    """Queries from one sequence, keys and values from another, with RoPE (arXiv:2104.09864).

        y = Wo attention(turn(Wq x), turn(Wk memory), Wv memory)

    Row j of the memory turns as place j. The queries stand at its end: the last of them where the last row is, and so
    each where the last row stands that it may see.

    params: "query.weight" (d, d), "key_value.weight" (2d, d), keys first, "output.weight" (d, d).
    Shapes: x (B, Q, d), memory (B, M, d), mask (B, 1, Q, M) -> (B, Q, d);  vjp: dy -> dx, dmemory, grads.
    """
    query, query_vjp = linear(x, params["query.weight"])
    stacked, key_value_vjp = linear(memory, params["key_value.weight"])
    query, key, value = (_heads(part, config.heads) for part in (query, *np.split(stacked, 2, axis=-1)))
    cos, sin = rope_phases(np.arange(memory.shape[1]), config.stack("context"), x.dtype)
    query, query_turn_vjp = rotary(query, cos[-x.shape[1] :], sin[-x.shape[1] :])
    key, key_turn_vjp = rotary(key, cos, sin)
    attended, attention_vjp = scaled_dot_product_attention(query, key, value, mask)
    y, output_vjp = linear(_joined(attended), params["output.weight"])

    def vjp(dy):
        dattended, doutput, _ = output_vjp(dy)
        dquery, dkey, dvalue = attention_vjp(_heads(dattended, config.heads))
        dx, dquery_weight, _ = query_vjp(_joined(query_turn_vjp(dquery)))
        dmemory, dkey_value, _ = key_value_vjp(np.concatenate([_joined(key_turn_vjp(dkey)), _joined(dvalue)], axis=-1))
        grads = {"query.weight": dquery_weight, "key_value.weight": dkey_value, "output.weight": doutput}
        return dx, dmemory, {name: grads[name] for name in params}

    return y, vjp


def _heads(x, heads):
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def _joined(x):
    return np.swapaxes(x, 1, 2).reshape(len(x), x.shape[2], -1)


def denoiser_block(x, step, memory, mask, params, config):
    """Cross-attention and feed-forward network, each modulated by the step of noise and let in by a gate.

        (b1, s1, g1, b2, s2, g2) = Wm step + bm
        x = x + g1 cross_attention((1 + s1) norm(x) + b1, memory)
        x = x + g2 feed_forward((1 + s2) norm(x) + b2)

    params: those of ``denoiser_block_shapes``. config: ConceptConfig.
    Shapes: x and step (B, Q, d), memory (B, M, d), mask (B, 1, Q, M) -> (B, Q, d);
    vjp: dy -> dx, dstep, dmemory, grads.
    """
    modulation, modulation_vjp = linear(step, params["modulation.weight"], params["modulation.bias"])
    parts = np.split(modulation, 6, axis=-1)

    def attend(x):
        return cross_attention(x, memory, with_prefix(params, "attention"), config, mask)

    def feed(x):
        return feed_forward(x, with_prefix(params, "feed_forward"))

    x, attention_vjp = _modulated(x, attend, params["attention_norm.weight"], parts[:3])
    y, feed_forward_vjp = _modulated(x, feed, params["feed_forward_norm.weight"], parts[3:])

    def vjp(dy):
        dx, dsecond, dfeed_norm, (feed_grads,) = feed_forward_vjp(dy)
        dx, dfirst, dattention_norm, (dmemory, attention_grads) = attention_vjp(dx)
        dstep, dweight, dbias = modulation_vjp(np.concatenate([*dfirst, *dsecond], axis=-1))
        grads = {"modulation.weight": dweight, "modulation.bias": dbias, "attention_norm.weight": dattention_norm}
        grads |= {"feed_forward_norm.weight": dfeed_norm} | under("attention", attention_grads)
        grads |= under("feed_forward", feed_grads)
        return dx, dstep, dmemory, {name: grads[name] for name in params}

    return y, vjp


def _modulated(x, function, weight, parts):
    """x + gate function((1 + scale) norm(x) + shift);  vjp: dy -> dx, (dshift, dscale, dgate), dweight, rest of function's."""
    shift, scale, gate = parts
    normed, norm_vjp = rms_norm(x, weight)
    modulated, modulate_vjp = modulate(normed, shift, scale)
    branch, function_vjp = function(modulated)
    y, gate_vjp = gated(x, branch, gate)

    def vjp(dy):
        dx, dbranch, dgate = gate_vjp(dy)
        dmodulated, *rest = function_vjp(dbranch)
        dnormed, dshift, dscale = modulate_vjp(dmodulated)
        dx_branch, dweight = norm_vjp(dnormed)
        return dx + dx_branch, (dshift, dscale, dgate), dweight, rest

    return y, vjp


def denoise(noisy, times, context, mask, params, config):
    """The clean concepts that noisy ones come from, given the context.

        step = silu(W2 silu(W1 features(time) + b1) + b2)
        y = Wo norm(blocks(Wn noisy; step, [0; context])) + b

    The row of zeros in front of the context is the empty one: it gives attention a place to look at where there is
    nothing else.

    params: those of ``denoiser_shapes``, and any others.
    Shapes: noisy (B, Q, c), times (B, Q), context (B, M, d), mask (B, 1, Q, M + 1) -> (B, Q, c);
    vjp: dy -> dcontext, grads of these parameters. Noisy concepts and times are data.
    """
    features = time_features(times, config.width, context.dtype)
    first, first_vjp = linear(features, params["time.first.weight"], params["time.first.bias"])
    bent, bent_vjp = silu(first)
    second, second_vjp = linear(bent, params["time.second.weight"], params["time.second.bias"])
    step, step_vjp = silu(second)
    memory = np.concatenate([np.zeros_like(context[:, :1]), context], axis=1)
    x, noisy_vjp = linear(noisy, params["noisy.weight"])
    vjps = []
    for layer in range(config.denoiser_layers):
        x, block_vjp = denoiser_block(x, step, memory, mask, with_prefix(params, f"denoiser.{layer}"), config)
        vjps.append(block_vjp)
    normed, norm_vjp = rms_norm(x, params["final_norm.weight"])
    y, output_vjp = linear(normed, params["output.weight"], params["output.bias"])

    def vjp(dy):
        grads, dstep, dmemory = {}, 0.0, 0.0
        dnormed, grads["output.weight"], grads["output.bias"] = output_vjp(dy)
        dx, grads["final_norm.weight"] = norm_vjp(dnormed)
        for layer in reversed(range(config.denoiser_layers)):
            dx, dstep_layer, dmemory_layer, block_grads = vjps[layer](dx)
            dstep, dmemory = dstep + dstep_layer, dmemory + dmemory_layer
            grads |= under(f"denoiser.{layer}", block_grads)
        _, grads["noisy.weight"], _ = noisy_vjp(dx)
        dbent, grads["time.second.weight"], grads["time.second.bias"] = second_vjp(step_vjp(dstep))
        _, grads["time.first.weight"], grads["time.first.bias"] = first_vjp(bent_vjp(dbent))
        return dmemory[:, 1:].copy(), {name: grads[name] for name in params if name in grads}

    return y, vjp
