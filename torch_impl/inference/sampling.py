"""From logits to a token: which tokens stay in play, and which one a uniform number picks."""

import torch


def greedy(logits):
    """The likeliest token; of equals the lowest id. Shapes: logits (..., V) -> (...) int64."""
    return logits.argmax(-1)


def probabilities(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """Sampling probabilities after temperature and filters, in this order; each filter acts on the renormalised rest.

        softmax(logits / temperature)
        top-k  (arXiv:1805.04833 §5.4):  the k likeliest (0: all)
        top-p  (arXiv:1904.09751 §3.1):  likeliest first, while the mass before is below p: the crossing token stays
        min-p  (arXiv:2407.01082 §3):    what is at least min_p times as likely as the likeliest

    Of equally likely tokens the lowest id counts as likelier. Shapes: logits (..., V) -> (..., V), float64 (on the CPU
    where the device has none: MPS).
    """
    logits = (logits.cpu() if logits.device.type == "mps" else logits).double()
    peak = logits.amax(-1, keepdim=True)  # subtracted first: a tiny temperature can't overflow
    if not (0 < top_k < logits.shape[-1] or top_p < 1 or min_p > 0):
        return torch.softmax((logits - peak) / temperature, -1)
    # Ordered by logits: two different ones may round to the same once the largest is subtracted.
    ordered, ids = torch.sort(logits, descending=True, stable=True)
    kept = torch.softmax((ordered - peak) / temperature, -1)
    if 0 < top_k < logits.shape[-1]:
        kept[..., top_k:] = 0
        kept = kept / kept.sum(-1, keepdim=True)
    if top_p < 1:
        mass_before = kept.cumsum(-1).roll(1, -1)
        mass_before[..., 0] = 0
        kept = kept * (mass_before < top_p)
        kept = kept / kept.sum(-1, keepdim=True)
    if min_p > 0:
        kept = kept * (kept >= min_p * kept[..., :1])
        kept = kept / kept.sum(-1, keepdim=True)
    return torch.empty_like(kept).scatter_(-1, ids, kept)


def sample(probabilities, uniform):
    """Inverse transform sampling: the smallest i whose cumulative mass exceeds uniform * total.

    So a token of probability 0 is never taken. In float64: there uniform * total < total for every uniform < 1, while in
    float32 the largest uniforms round to 1. Shapes: probabilities (..., V), uniform (...) in [0, 1) -> (...) int64.
    """
    mass = probabilities.cumsum(-1, dtype=torch.float64)
    threshold = torch.as_tensor(uniform, dtype=mass.dtype, device=mass.device)[..., None] * mass[..., -1:]
    return torch.searchsorted(mass, threshold, right=True).squeeze(-1)
