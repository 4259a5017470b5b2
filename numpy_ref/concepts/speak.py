"""What a trained model says next: a concept, and the sentence that the decoder reads from it."""

import numpy as np

from numpy_ref.concepts.autoencoder import decode_logits
from numpy_ref.concepts.base_lcm import base_lcm, contextualise
from numpy_ref.concepts.config import END
from numpy_ref.concepts.ddim import ddim_step, guided
from numpy_ref.concepts.noise_schedule import cosine_levels, trailing_steps, zero_terminal_snr
from numpy_ref.concepts.quant_lcm import code_logits
from numpy_ref.concepts.residual_quantiser import partial_sums, quantise
from numpy_ref.concepts.two_tower import denoise, tower_mask
from numpy_ref.inference.sampling import greedy, probabilities, sample


def next_concept(concepts, params, config, draws=None, codebooks=None):
    """The concept after a story, by a model of any kind.

    draws: for diffusion standard normal numbers, (B, c), with eta (B, samples, c); for quantised (B, J) uniform ones in
    [0, 1); the other kinds have one answer. codebooks: (J, K, c), for quantised and residual.

    Shapes: concepts (B, T, c), normalised, at most ``config.context`` of them -> (B, c), normalised.
    """
    if config.kind == "diffusion":
        return _denoised(concepts, params, config, draws)
    if config.kind in ("quantised", "residual"):
        return _coded(concepts, params, config, draws, codebooks)
    return base_lcm(concepts, params, config)[0][:, -1]


def _denoised(concepts, params, config, draws):
    """Noise of deviation ``start``, the first of the draws, taken off in ``samples`` steps under guidance."""
    context, _ = contextualise(concepts, params, config)
    levels = zero_terminal_snr(cosine_levels(config.steps))
    visited = trailing_steps(config.steps, config.samples)
    sees = {keep: tower_mask(np.full(concepts.shape[:2], keep))[:, :, -1:] for keep in (True, False)}
    draws = draws.reshape(len(draws), -1, draws.shape[-1]).astype(context.dtype)
    x = config.start * draws[:, 0]
    for i, step in enumerate(visited):
        times = np.full((len(x), 1), step)
        clean = denoise(x[:, None], times, context, sees[True], params, config)[0][:, 0]
        if config.guidance != 1:
            alone = denoise(x[:, None], times, context, sees[False], params, config)[0][:, 0]
            clean = guided(clean, alone, config.guidance, config.rescale)
        following = float(levels[visited[i + 1]]) if i + 1 < len(visited) else 1.0
        fresh = draws[:, i + 1] if config.eta and following < 1 else None
        x = ddim_step(x, clean, float(levels[step]), following, config.noise_scale, config.eta, fresh)
    return x


def _coded(concepts, params, config, draws, codebooks):
    """Codes, each given those before it: drawn, or for residual the nearest to what is left; what they add up to."""
    context = contextualise(concepts, params, config)[0][:, -1:]
    codes = np.zeros((len(concepts), config.codebooks), np.int64)
    for j in range(config.codebooks):
        so_far = partial_sums(codes, codebooks)[0][:, None, j : j + 1]
        found = code_logits(context, so_far, params, config, j)[0][:, 0, 0]
        if config.kind == "residual":
            codes[:, j] = quantise(found, codebooks[j : j + 1])[:, 0]
        else:
            codes[:, j] = sample(probabilities(found, config.temperature), draws[:, j])
    return partial_sums(codes, codebooks)[0][:, -1]


def decode_sentences(concepts, params, config):
    """The likeliest next byte, again and again, until the end or ``config.length`` bytes.

    Shapes: concepts (B, c), not normalised -> (B, L + 1) int64, END behind each sentence.
    """
    tokens = np.full((len(concepts), config.length + 1), END)
    going = np.ones(len(concepts), bool)
    for t in range(config.length):
        logits, _ = decode_logits(concepts, tokens[:, : t + 1], params, config)
        tokens[:, t] = np.where(going, greedy(logits[:, -1]), END)
        going &= tokens[:, t] != END
        if not going.any():
            break
    return tokens
