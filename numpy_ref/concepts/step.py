"""One training step of the auto-encoder, and of each kind of concept model."""

import numpy as np

from numpy_ref.concepts.autoencoder import decode_logits, encode_sentences
from numpy_ref.concepts.base_lcm import base_lcm, contextualise, squared_distance
from numpy_ref.concepts.noise_schedule import cosine_levels, noised, zero_terminal_snr
from numpy_ref.concepts.normaliser import denormalise
from numpy_ref.concepts.quant_lcm import code_logits
from numpy_ref.concepts.residual_quantiser import partial_sums, quantise
from numpy_ref.concepts.two_tower import denoise, tower_mask
from numpy_ref.data.batches import IGNORED
from numpy_ref.training.clipping import clip_by_global_norm
from numpy_ref.training.losses import cross_entropy
from numpy_ref.training.optimizer import update


def placed(tree, device, dtype):
    """Arrays of a definition as this wing's: numbers in ``dtype``, ids as they are; also in dicts and tuples."""
    if isinstance(tree, dict):
        return {name: placed(value, device, dtype) for name, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(placed(value, device, dtype) for value in tree)
    return tree.astype(dtype) if isinstance(tree, np.ndarray) and tree.dtype.kind == "f" else tree


def autoencoder_loss_and_grads(params, tokens, lengths, noise, config):
    """How badly sentences are read from their noisy concepts, in nats a token, and the gradient of every parameter.

        L = cross-entropy of decode(encode(bytes) + sigma noise), over the bytes and the end

    Shapes: tokens (B, L + 1), END behind each sentence; lengths (B,) in bytes; noise (B, c), standard normal numbers.
    Returns loss (), grads with the keys of params.
    """
    z, encode_vjp = encode_sentences(tokens[:, :-1], lengths, params, config)
    logits, decode_vjp = decode_logits(z + config.noise * noise, tokens, params, config)
    loss, loss_vjp = cross_entropy(logits, _targets(tokens, lengths))
    dz, grads = decode_vjp(loss_vjp(1.0))
    for name, grad in encode_vjp(dz).items():
        grads[name] = grads[name] + grad if name in grads else grad
    return loss, {name: grads[name] for name in params}


def loss_and_grads(params, batch, config, frozen=None):
    """The loss of a concept model on stories, and the gradient of every parameter.

        base        squared distance of prediction and next concept
        decoder     cross-entropy of the next sentence, read from the prediction by the frozen decoder (arXiv:2508.05305)
        diffusion   squared distance of the next concept and what the denoiser makes of it with noise on it
        quantised   cross-entropy of each code of the next concept, given those before it
        residual    squared distance of what these codes have left of it and the prediction of that

    batch: "concepts" (B, T + 1, c), normalised; for decoder "tokens" (B, T, L + 1) and "lengths" (B, T) of the sentences
    after the first; for diffusion "noise" (B, T, c), "times" (B, T) and "keep" (B, T), see ``tower_mask``.
    frozen: for decoder (params, config, normaliser) of the auto-encoder, for quantised and residual the codebooks (J, K, c).
    Returns loss (), grads with the keys of params.
    """
    losses = {"base": _regression, "decoder": _said, "diffusion": _diffusion, "quantised": _quantised, "residual": _residual}
    return losses[config.kind](params, batch, config, frozen)


def descend(params, grads, states, lr, train_config):
    """One step of the optimiser, gradients clipped to ``train_config.clip``.

    Returns norm of the gradient before that (), new params, new states.
    """
    grads, norm = clip_by_global_norm(grads, train_config.clip)
    return norm, *update(params, grads, states, lr, train_config)


def _targets(tokens, lengths):
    """The tokens of each sentence and its end; what is behind does not count."""
    return np.where(np.arange(tokens.shape[-1]) <= lengths[..., None], tokens, IGNORED)


def _regression(params, batch, config, frozen):
    prediction, vjp = base_lcm(batch["concepts"][:, :-1], params, config)
    loss, loss_vjp = squared_distance(prediction, batch["concepts"][:, 1:])
    return loss, vjp(loss_vjp(1.0))[1]


def _said(params, batch, config, frozen):
    weights, autoencoder, normaliser = frozen
    prediction, vjp = base_lcm(batch["concepts"][:, :-1], params, config)
    concepts, scale_vjp = denormalise(prediction, normaliser)
    tokens, lengths = batch["tokens"].reshape(-1, batch["tokens"].shape[-1]), batch["lengths"].reshape(-1)
    logits, decode_vjp = decode_logits(concepts.reshape(len(tokens), -1), tokens, weights, autoencoder)
    loss, loss_vjp = cross_entropy(logits, _targets(tokens, lengths))
    dconcepts, _ = decode_vjp(loss_vjp(1.0))
    return loss, vjp(scale_vjp(dconcepts.reshape(concepts.shape)))[1]


def _diffusion(params, batch, config, frozen):
    before, after = batch["concepts"][:, :-1], batch["concepts"][:, 1:]
    levels = zero_terminal_snr(cosine_levels(config.steps))[batch["times"]].astype(after.dtype)
    noisy, _ = noised(after, batch["noise"], levels)
    context, context_vjp = contextualise(before, params, config)
    clean, denoise_vjp = denoise(noisy, batch["times"], context, tower_mask(batch["keep"]), params, config)
    loss, loss_vjp = squared_distance(clean, after)
    dcontext, grads = denoise_vjp(loss_vjp(1.0))
    grads |= context_vjp(dcontext)[1]
    return loss, {name: grads[name] for name in params}


def _quantised(params, batch, config, frozen):
    codes = quantise(batch["concepts"][:, 1:], frozen)
    return _by_codes(params, batch, config, frozen, codes, lambda logits, partial: cross_entropy(logits, codes))


def _residual(params, batch, config, frozen):
    after = batch["concepts"][:, 1:, None]
    codes = quantise(after[:, :, 0], frozen)
    return _by_codes(params, batch, config, frozen, codes, lambda left, partial: squared_distance(left, after - partial))


def _by_codes(params, batch, config, frozen, codes, judge):
    """Loss and gradients of what is said for every code at once; ``judge``: of that and of what the codes before add up to."""
    partial = partial_sums(codes, frozen)[0][..., :-1, :]
    context, context_vjp = contextualise(batch["concepts"][:, :-1], params, config)
    found, found_vjp = code_logits(context, partial, params, config)
    loss, loss_vjp = judge(found, partial)
    dcontext, grads = found_vjp(loss_vjp(1.0))
    grads |= context_vjp(dcontext)[1]
    return loss, {name: grads[name] for name in params}
