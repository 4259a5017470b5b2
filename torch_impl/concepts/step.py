"""Training steps of auto-encoder and concept models."""

import torch

from torch_impl.concepts.autoencoder import decode_logits, encode_sentences
from torch_impl.concepts.base_lcm import base_lcm, contextualise, squared_distance
from torch_impl.concepts.noise_schedule import cosine_levels, noised, zero_terminal_snr
from torch_impl.concepts.normaliser import denormalise
from torch_impl.concepts.quant_lcm import code_logits
from torch_impl.concepts.residual_quantiser import partial_sums, quantise
from torch_impl.concepts.two_tower import denoise, tower_mask
from torch_impl.data.batches import IGNORED
from torch_impl.training.clipping import clip_by_global_norm_
from torch_impl.training.losses import cross_entropy
from torch_impl.training.optimizer import update


def placed(tree, device, dtype):
    """Arrays of NumPy on the device, floating-point numbers in ``dtype``. Whatever else there is stays as it is."""
    if isinstance(tree, dict):
        return {name: placed(value, device, dtype) for name, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(placed(value, device, dtype) for value in tree)
    if not hasattr(tree, "dtype"):
        return tree
    tensor = torch.as_tensor(tree)
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)


def autoencoder_loss_and_grads(params, tokens, lengths, noise, config):
    """Cross-entropy of sentences read from their concepts with noise of deviation ``config.noise``, and its gradient.

    Shapes: tokens (B, L + 1), lengths (B,), noise (B, c) -> loss (), name -> gradient.
    """

    def loss(leaves):
        z = encode_sentences(tokens[:, :-1], lengths, leaves, config)
        logits = decode_logits(torch.add(z, noise, alpha=config.noise), tokens, leaves, config)
        return cross_entropy(logits, _targets(tokens, lengths))

    return _differentiated(loss, params)


def loss_and_grads(params, batch, config, frozen=None):
    """The loss of the kind that ``config`` names, and its gradient; batch and frozen as on the other side.

    base: squared distance; decoder: cross-entropy of the next sentence through the frozen decoder (arXiv:2508.05305);
    diffusion: squared distance of the denoised concept; quantised: cross-entropy of the codes;
    residual: squared distance of what each code has to say.
    """
    losses = {"base": _regression, "decoder": _said, "diffusion": _diffusion, "quantised": _quantised, "residual": _residual}
    before, after = batch["concepts"][:, :-1], batch["concepts"][:, 1:]
    return _differentiated(lambda leaves: losses[config.kind](leaves, before, after, batch, config, frozen), params)


def descend(params, grads, states, lr, train_config):
    """One optimiser step in place, after clipping. Returns (norm before clipping, params, states)."""
    norm = clip_by_global_norm_(grads, train_config.clip)
    return norm, *update(params, grads, states, lr, train_config)


def _differentiated(loss, params):
    leaves = {name: param.detach().requires_grad_() for name, param in params.items()}
    value = loss(leaves)
    return value.detach(), dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()))))


def _targets(tokens, lengths):
    inside = torch.arange(tokens.shape[-1], device=tokens.device) <= lengths[..., None]
    return torch.where(inside, tokens, IGNORED)


def _regression(params, before, after, batch, config, frozen):
    return squared_distance(base_lcm(before, params, config), after)


def _said(params, before, after, batch, config, frozen):
    weights, autoencoder, normaliser = frozen
    concepts = denormalise(base_lcm(before, params, config), normaliser).flatten(0, 1)
    tokens = batch["tokens"].flatten(0, 1)
    logits = decode_logits(concepts, tokens, weights, autoencoder)
    return cross_entropy(logits, _targets(tokens, batch["lengths"].flatten()))


def _diffusion(params, before, after, batch, config, frozen):
    levels = zero_terminal_snr(cosine_levels(config.steps)).to(after)[batch["times"]]
    noisy, context = noised(after, batch["noise"], levels), contextualise(before, params, config)
    return squared_distance(denoise(noisy, batch["times"], context, tower_mask(batch["keep"]), params, config), after)


def _quantised(params, before, after, batch, config, frozen):
    codes = quantise(after, frozen)
    partial = partial_sums(codes, frozen)[..., :-1, :]
    return cross_entropy(code_logits(contextualise(before, params, config), partial, params, config), codes)


def _residual(params, before, after, batch, config, frozen):
    partial = partial_sums(quantise(after, frozen), frozen)[..., :-1, :]
    left = code_logits(contextualise(before, params, config), partial, params, config)
    return squared_distance(left, after[:, :, None] - partial)
