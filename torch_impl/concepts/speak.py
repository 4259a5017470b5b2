"""The next concept, and the sentence in it."""

import torch

from numpy_ref.concepts.config import END
from torch_impl.concepts.autoencoder import decode_logits
from torch_impl.concepts.base_lcm import base_lcm, contextualise
from torch_impl.concepts.ddim import ddim_step, guided
from torch_impl.concepts.noise_schedule import cosine_levels, trailing_steps, zero_terminal_snr
from torch_impl.concepts.quant_lcm import code_logits
from torch_impl.concepts.residual_quantiser import quantise
from torch_impl.concepts.two_tower import denoise, memory_keys, tower_mask
from torch_impl.inference.sampling import greedy, probabilities, sample


@torch.inference_mode()
def next_concept(concepts, params, config, draws=None, codebooks=None):
    """What follows the stories. draws: normal numbers (B, c), with eta (B, samples, c), for diffusion;
    uniform ones (B, J) for quantised.

    Shapes: concepts (B, T, c) -> (B, c); codebooks (J, K, c). The context is read once, whatever the number of steps.
    """
    if config.kind == "diffusion":
        return _denoised(concepts, params, config, draws)
    if config.kind in ("quantised", "residual"):
        return _coded(concepts, params, config, draws, codebooks)
    return base_lcm(concepts, params, config)[:, -1]


def _denoised(concepts, params, config, draws):
    """With guidance both predictions are one batch: the same rows, once with and once without their context. What the
    context says is the same at every step, and the step the same for all rows: keys and modulations are made once."""
    context = contextualise(concepts, params, config)
    levels = zero_terminal_snr(cosine_levels(config.steps)).tolist()
    visited = trailing_steps(config.steps, config.samples).tolist()
    both, rows = config.guidance != 1, len(concepts)
    keep = torch.ones(concepts.shape[:2], dtype=torch.bool, device=concepts.device)
    mask = tower_mask(torch.cat((keep, ~keep)) if both else keep)[:, :, -1:]
    known = memory_keys(context, params, config)
    if both:
        context, known = context.repeat(2, 1, 1), [[part.repeat(2, 1, 1, 1) for part in pair] for pair in known]
    start, *fresh = draws.to(context.dtype).reshape(rows, -1, draws.shape[-1]).unbind(1)
    x, fresh = config.start * start, iter(fresh)
    for step, following in zip(visited, [*visited[1:], None], strict=True):
        times = torch.full((1, 1), step, device=x.device)
        noisy = torch.cat((x, x)) if both else x
        clean = denoise(noisy[:, None], times, context, mask, params, config, known)[:, 0]
        if both:
            clean = guided(clean[:rows], clean[rows:], config.guidance, config.rescale)
        next_level, new = (1.0, None) if following is None else (levels[following], next(fresh, None))
        x = ddim_step(x, clean, levels[step], next_level, config.noise_scale, config.eta, new)
    return x


def _coded(concepts, params, config, draws, codebooks):
    context = contextualise(concepts, params, config)[:, -1:]
    so_far = codebooks.new_zeros((len(concepts), codebooks.shape[-1]))
    for j in range(config.codebooks):
        found = code_logits(context, so_far[:, None, None], params, config, j)[:, 0, 0]
        if config.kind == "residual":
            code = quantise(found, codebooks[j : j + 1])[:, 0]
        else:
            code = sample(probabilities(found, config.temperature), draws[:, j])
        so_far = so_far + codebooks[j][code]
    return so_far


@torch.inference_mode()
def decode_sentences(concepts, params, config):
    """Greedy decoding; rows that have ended wait for the others. Shapes: concepts (B, c) -> (B, L + 1), END behind."""
    tokens = torch.full((len(concepts), config.length + 1), END, device=concepts.device)
    going = torch.ones(len(concepts), dtype=torch.bool, device=concepts.device)
    for t in range(config.length):
        logits = decode_logits(concepts, tokens[:, : t + 1], params, config)[:, -1]
        tokens[:, t] = torch.where(going, greedy(logits), END)
        going = going & (tokens[:, t] != END)
        if not going.any():
            break
    return tokens
