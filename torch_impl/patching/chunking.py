"""Dynamic chunking (arXiv:2507.07955 §2.2): routing, smoothing in a logarithmic number of steps, ratio loss."""

import torch

from numpy_ref.errors import UserError
from torch_impl.model.linear import linear

EPS = 1e-12


def route(x, params):
    """Probability of a chunk's beginning: half of 1 - cos of the byte's query and the key of the byte before it; 1 for
    the first.

    Shapes: x (B, T, d), query.weight and key.weight (d, d) -> (B, T).
    """
    query, key = linear(x[:, 1:], params["query.weight"]), linear(x[:, :-1], params["key.weight"])
    wide = torch.promote_types(x.dtype, torch.float32)
    query, key = query.to(wide), key.to(wide)
    norms = ((query * query).sum(-1) + EPS).sqrt() * ((key * key).sum(-1) + EPS).sqrt()
    cosine = (query * key).sum(-1) / norms
    return torch.cat((cosine.new_ones(len(x), 1), 0.5 * (1 - cosine)), 1).to(x.dtype)


def ema_scan(z, p):
    """y_k = p_k z_k + (1 - p_k) y_{k-1}, from y_{-1} = 0. Shapes: z (B, K, d), p (B, K) -> (B, K, d).

    Steps that follow each other are again of this form, so that log2 K doublings take the place of K steps; the backward
    pass is the same scan from the end.
    """
    return _EmaScan.apply(z, p[..., None])


class _EmaScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, p):
        wide = torch.promote_types(z.dtype, torch.float32)
        y = _scan(1 - p.to(wide), p.to(wide) * z.to(wide))
        ctx.save_for_backward(z, p, y)
        return y.to(z.dtype)

    @staticmethod
    def backward(ctx, dy):
        z, p, y = ctx.saved_tensors
        rest = (1 - p).to(y.dtype)
        after = torch.cat((rest[:, 1:], rest.new_zeros(len(rest), min(1, rest.shape[1]), 1)), 1)
        a = _scan(after.flip(1), dy.to(y.dtype).flip(1)).flip(1)
        before = torch.cat((torch.zeros_like(y[:, :1]), y[:, :-1]), 1)
        return (p * a).to(z.dtype), (a * (z - before)).sum(-1, keepdim=True).to(p.dtype)


def _scan(keep, add):
    """x_k = keep_k x_{k-1} + add_k by doubling: after n rounds each entry sums up the last 2^n steps.

    Shapes: keep (B, K, 1), add (B, K, d) -> (B, K, d).
    """
    step = 1
    while step < add.shape[1]:
        add = torch.cat((add[:, :step], torch.addcmul(add[:, step:], keep[:, step:], add[:, :-step])), 1)
        keep = torch.cat((keep[:, :step], keep[:, step:] * keep[:, :-step]), 1)
        step *= 2
    return add


def ratio_loss(p, borders, target):
    """Presses for one border in ``target`` bytes (§2.2.3); with F the share of borders and G the mean of p,
    N / (N - 1) ((N - 1) F G + (1 - F) (1 - G)). Shapes: p (B, T), borders (B, T) bool -> (), in float32 or better.
    """
    if not target > 1:
        raise UserError(f"with target={target} every byte would be a chunk; give more than 1 byte")
    p = p.to(torch.promote_types(p.dtype, torch.float32))
    share, mean = borders.to(p.dtype).mean(), p.mean()
    return target / (target - 1) * ((target - 1) * share * mean + (1 - share) * (1 - mean))


def select(x, borders):
    """The vectors at the borders of each row, one behind the other, and zeros behind them.

    Shapes: x (B, T, d), borders (B, T) bool -> (B, K, d). K is fetched from the device.
    """
    counts = borders.sum(1)
    most = int(counts.max())
    order = torch.argsort(~borders, dim=1, stable=True)[:, :most]
    found = x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))
    return found.masked_fill((torch.arange(most, device=x.device) >= counts[:, None])[..., None], 0.0)


def spread(chunks, p, borders, straight_through=True):
    """Every byte gets its chunk's vector times c, which is p at a border and 1 - p elsewhere; with straight_through c is
    1, but has its gradient (§2.2.2).

    Shapes: chunks (B, K, d), p and borders (B, T) -> (B, T, d).
    """
    ids = borders.cumsum(1) - 1
    own = chunks.gather(1, ids[..., None].expand(-1, -1, chunks.shape[-1]))
    sure = torch.where(borders, p, 1 - p)[..., None]
    if straight_through:
        sure = sure - sure.detach() + 1
    return own * sure
