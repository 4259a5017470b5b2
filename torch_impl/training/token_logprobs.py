"""Log-probabilities and entropies of tokens: little memory beside the logits, or beside the hidden states alone."""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from numpy_ref.errors import UserError

_NUMBERS = 1 << 22  # logits that are worked on at a time: 16 MiB in float32


def token_logprobs(logits, targets, temperature=1.0, kept=None, ignore_index=-100):
    """ln softmax(logits / temperature) at the targets, over the ``kept`` tokens alone (None: all): what a sampler with
    that temperature and those filters drew from, as the ratio of PPO (arXiv:1707.06347, eq. 6) needs it.

    Shapes: logits (..., V), targets (...) integers, kept (..., V) bool -> (...), float32 for 16-bit logits. 0 for targets
    that are ``ignore_index``, -inf for those not kept. UserError for a temperature that is not above 0.

    Beside the logits only their gradient is ever as large as they are: probabilities are made again in the backward pass,
    a few rows at a time.
    """
    return _Both.apply(*_checked(logits, targets, temperature, kept), temperature, ignore_index)[0].view(targets.shape)


def token_entropy(logits, temperature=1.0, kept=None):
    """-sum p ln p of softmax(logits / temperature) over the ``kept`` tokens, in nats.

    Shapes: logits (..., V), kept (..., V) bool or None -> (...), float32 for 16-bit logits.
    """
    anything = torch.zeros(logits.shape[:-1], dtype=torch.int64, device=logits.device)
    return _Both.apply(*_checked(logits, anything, temperature, kept), temperature, -1)[1].view(logits.shape[:-1])


def linear_token_logprobs(x, weight, targets, softcap=0.0, temperature=1.0, ignore_index=-100, chunk=1024):
    """Both of the above for the logits x weight^T, softcapped if asked, of which ``chunk`` tokens' exist at a time
    (arXiv:2410.10989 §3.2). They are computed again in the backward pass.

    Shapes: x (..., d), weight (V, d), targets (...) integers -> (2, ...): log-probabilities and entropies, in float32 or
    better. In 16 bits the gradient of the weight is summed over the chunks in float32.
    """
    rows, labels, _ = _checked(x, targets, temperature, None)
    settings = softcap, temperature, ignore_index
    return _Linear.apply(rows, weight, labels, settings, chunk).view(2, *targets.shape)


class _Both(torch.autograd.Function):
    """(log-probabilities, entropies) of rows of logits."""

    @staticmethod
    def forward(ctx, logits, labels, kept, temperature, ignore_index):
        ctx.save_for_backward(logits, labels, kept)
        ctx.settings = temperature, ignore_index
        ctx.set_materialize_grads(False)
        parts = [
            _values(logits[part], labels[part], _part(kept, part), temperature, ignore_index) for part in _parts(logits)
        ]
        return torch.cat([one for one, _ in parts]), torch.cat([other for _, other in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx, dlogprobs, dentropy):
        logits, labels, kept = ctx.saved_tensors
        dlogits = torch.empty_like(logits)
        for part in _parts(logits):
            dy = _part(dlogprobs, part), _part(dentropy, part)
            dlogits[part] = _gradient(logits[part], labels[part], _part(kept, part), *ctx.settings, *dy)
        return dlogits, *[None] * 4


class _Linear(torch.autograd.Function):
    """(2, N): log-probabilities and entropies behind the output head."""

    @staticmethod
    def forward(ctx, x, weight, labels, settings, chunk):
        ctx.save_for_backward(x, weight, labels)
        ctx.settings, ctx.chunk = settings, chunk
        softcap, *rest = settings
        both = []
        for start in range(0, max(1, len(x)), chunk):
            part = slice(start, start + chunk)
            logits = _bent(F.linear(x[part], weight), softcap)
            both.append(torch.stack(_values(logits, labels[part], None, *rest)))
        return torch.cat(both, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight, labels = ctx.saved_tensors
        softcap, *rest = ctx.settings
        wide = torch.promote_types(weight.dtype, torch.float32)
        dx, dweight = torch.empty_like(x), torch.zeros_like(weight, dtype=wide)
        for start in range(0, len(x), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            plain = F.linear(x[part], weight)
            dlogits = _gradient(_bent(plain, softcap), labels[part], None, *rest, dy[0, part], dy[1, part])
            if softcap:
                e = torch.exp(plain.to(wide).abs().mul_(-2 / softcap))
                dlogits *= 4 * e / (1 + e) ** 2  # 1 - tanh^2, which would cancel far out
            dlogits = dlogits.to(x.dtype)
            dx[part] = dlogits @ weight
            dweight += dlogits.mT.to(wide) @ x[part].to(wide)
        return dx, dweight.to(weight.dtype), *[None] * 3


def _values(logits, labels, kept, temperature, ignore_index):
    """Log-probabilities and entropies (n,) of some rows."""
    shifted, p, log_total = _scores(logits, kept, temperature)
    counts = labels != ignore_index
    logprobs = shifted.gather(-1, labels.where(counts, 0)[:, None])[:, 0] - log_total
    lowest = torch.finfo(shifted.dtype).min  # -inf times a probability of 0 would be NaN
    return logprobs.where(counts, 0), log_total - (p * shifted.clamp(min=lowest)).sum(-1)


def _gradient(logits, labels, kept, temperature, ignore_index, dlogprobs, dentropy):
    """Gradient of some rows of logits (n, V), in float32 or better. Either cotangent (n,) may be None.

        ([j = y] - p_j) dl / T   -   p_j (s_j - sum_k p_k s_k) dH / T
    """
    shifted, p, _ = _scores(logits, kept, temperature)
    dlogits = torch.zeros_like(p)
    if dlogprobs is not None:
        counts = labels != ignore_index
        dl = (dlogprobs.to(p.dtype) / temperature).where(counts, 0)[:, None]
        dlogits -= p * dl
        dlogits.scatter_add_(-1, labels.where(counts, 0)[:, None], dl)
        if kept is not None:
            dlogits.masked_fill_(~kept, 0)
        dlogits.masked_fill_(logits == -torch.inf, 0)
    if dentropy is not None:
        shifted.clamp_(min=torch.finfo(shifted.dtype).min)
        mean = (p * shifted).sum(-1, keepdim=True)
        dlogits -= p * (shifted - mean) * (dentropy.to(p.dtype) / temperature)[:, None]
    return dlogits


def _scores(logits, kept, temperature):
    """Scores minus their largest (n, V), -inf where impossible; probabilities (n, V); ln sum exp (n,)."""
    x = logits.float() if logits.itemsize == 2 else logits
    x = x if kept is None else x.masked_fill(~kept, -torch.inf)
    shifted = x - x.amax(-1, keepdim=True)
    if temperature != 1:
        shifted /= temperature
    p = shifted.exp()
    total = p.sum(-1)
    return shifted, p.div_(total[:, None]), total.log()


def _bent(logits, softcap):
    logits = logits.float() if logits.itemsize == 2 else logits
    return softcap * torch.tanh(logits / softcap) if softcap else logits


def _parts(logits):
    """Slices of rows; one, where the logits are few."""
    size = max(1, _NUMBERS // max(1, logits.shape[-1]))
    return [slice(start, start + size) for start in range(0, max(1, len(logits)), size)]


def _part(tensor, part):
    return None if tensor is None else tensor[part]


def _checked(logits, targets, temperature, kept):
    """Rows (N, V), labels (N,), kept (N, V)."""
    if not temperature > 0:
        raise UserError(f"temperature={temperature} is not allowed; log-probabilities need one above 0")
    flat = None if kept is None else kept.reshape(-1, kept.shape[-1])
    return logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).long(), flat
