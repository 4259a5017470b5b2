"""Layers on the hyperboloid. They take and return space coordinates; times are computed where they count."""

import torch

from torch_impl.hyperbolic.lorentz import exp_map_origin, lift
from torch_impl.model.attention import scaled_dot_product_attention
from torch_impl.model.embedding import embedding
from torch_impl.model.linear import linear


def hyperbolic_embedding(tokens, weight, c):
    """exp_0 of a table's rows. Shapes: tokens (...) integers, weight (V, d), c () -> space coordinates (..., d)."""
    v = embedding(tokens, weight)
    return exp_map_origin(v.float() if v.itemsize == 2 else v, c)[..., 1:].to(v.dtype)


def lorentz_linear(x, weight, bias, c):
    """W (x_0, x_s) + b (arXiv:2105.14686 §3.1). Shapes: x (..., i), weight (o, 1 + i), bias (o,)?, c () -> (..., o)."""
    return linear(lift(x, c), weight, bias)


def lorentz_attention(query, key, value, c, mask=None, causal=False, scale=None):
    """softmax(-scale d_L(q, k)^2) over keys, d_L^2 = -2 / c - 2 <q, k>, and the centroid of the values so weighted
    (arXiv:2105.14686 §3.2). The scores are products of one feature more, so any attention kernel does the work.

    Shapes: space coordinates, query (..., H, Tq, d), key and value (..., G, Tk, d), c () -> (..., H, Tq, d).
    """
    return midpoints(scaled_dot_product_attention(*lift_heads(query, key, value, c), mask, causal, scale), c)


def lift_heads(query, key, value, c):
    """(2 (-q_0, q_s), (k_0, k_s), (v_0, v_s)): the first two multiply to 2 <q, k>.

    Shapes: (..., d) each, c () -> (..., 1 + d) each.
    """
    q0, k0, v0 = ((x.float() if x.itemsize == 2 else x).square().sum(-1, keepdim=True) for x in (query, key, value))
    q0, k0, v0 = ((square + 1 / c).sqrt().to(query.dtype) for square in (q0, k0, v0))
    return 2 * torch.cat((-q0, query), -1), torch.cat((k0, key), -1), torch.cat((v0, value), -1)


def midpoints(sums, c):
    """s_s / (sqrt(c) nu), nu^2 = -<s, s>, which weights that add up to 1 never bring below 1 / c.

    Shapes: sums (..., 1 + d), c () -> (..., d).
    """
    wide = sums.float() if sums.itemsize == 2 else sums
    time, space = wide[..., :1], wide[..., 1:]
    square = c * (time.square() - space.square().sum(-1, keepdim=True))
    length = torch.where(square > 1, square, 1).sqrt()
    return (space / length).to(sums.dtype)
