"""From bytes to patches and back: pooling, and attention between the bytes of a patch and the vectors that stand for it
(arXiv:2412.09871, sections 3.2.2 and 3.3.1)."""

import numpy as np

from numpy_ref.model.attention import scaled_dot_product_attention
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm

EPS = 1e-5


def patch_max(x, ids, patches):
    """The largest value of each feature among the bytes of a patch.

    Shapes: x (B, T, d), ids (B, T) of the patches, below ``patches`` -> (B, patches, d), 0 for a patch without bytes;
    vjp: dy -> dx (B, T, d).

    Backward: the gradient goes to the byte that has the largest value, in equal parts where several have.
    """
    batch, width = len(x), x.shape[-1]
    rows = ids + patches * np.arange(batch)[:, None]  # of the table of all texts' patches
    largest = np.full_like(x, -np.inf, shape=(batch * patches, width))
    np.maximum.at(largest, rows, x)
    has = largest[rows] == x
    count = np.zeros(largest.shape)
    np.add.at(count, rows, has)

    def vjp(dy):
        return np.where(has, (dy.reshape(largest.shape) / np.maximum(count, 1.0).astype(dy.dtype))[rows], 0.0)

    return np.where(largest.real == -np.inf, 0.0, largest).reshape(batch, patches, width), vjp


def pool_attention(x, data, ids, params, heads):
    """Every vector of a patch looks at the bytes of its patch, and at no others.

        y = x + attention(norm(x) Wq^T, norm(data) Wk^T, norm(data) Wv^T) Wo^T

    One residual, here and nowhere else. params: "query_norm.weight", "key_norm.weight" (d,), "query.weight" (d, d),
    "key_value.weight" (2d, d), "output.weight" (d, d).

    Shapes: x (B, P, k, d), k vectors a patch; data (B, T, d); ids (B, T) of the bytes' patches -> (B, P, k, d).
    vjp: dy -> dx, ddata, grads.  A patch without bytes keeps its vectors.
    """
    batch, patches, slices, width = x.shape
    patch = np.repeat(np.arange(patches), slices)
    mask = ids[:, None, None, :] == patch[:, None]
    y, attend_vjp = _attend(x.reshape(batch, -1, width), data, params, heads, mask)

    def vjp(dy):
        dx, ddata, grads = attend_vjp(dy.reshape(batch, -1, width))
        return dx.reshape(x.shape), ddata, grads

    return y.reshape(x.shape), vjp


def unpool_attention(x, patches, ids, params, heads):
    """Every byte looks at the vectors of one patch: the one that ``ids`` names for it.

    Everything else is as in ``pool_attention``.
    Shapes: x (B, T, d), patches (B, P, k, d), ids (B, T) -> (B, T, d);  vjp: dy -> dx, dpatches, grads.
    """
    batch, count, slices, width = patches.shape
    patch = np.repeat(np.arange(count), slices)
    mask = ids[:, None, :, None] == patch
    y, attend_vjp = _attend(x, patches.reshape(batch, -1, width), params, heads, mask)

    def vjp(dy):
        dx, dpatches, grads = attend_vjp(dy)
        return dx, dpatches.reshape(patches.shape), grads

    return y, vjp


def _attend(x, memory, params, heads, mask):
    """Cross-attention and its residual. x (B, Q, d), memory (B, M, d), mask (B, 1, Q, M); vjp: dy -> dx, dmemory, grads."""
    width = x.shape[-1]
    queries, query_norm_vjp = rms_norm(x, params["query_norm.weight"], EPS)
    seen, key_norm_vjp = rms_norm(memory, params["key_norm.weight"], EPS)
    query, query_vjp = linear(queries, params["query.weight"])
    stacked, key_value_vjp = linear(seen, params["key_value.weight"])
    key, value = (_split(part, heads) for part in (stacked[..., :width], stacked[..., width:]))
    attended, attention_vjp = scaled_dot_product_attention(_split(query, heads), key, value, mask)
    y, output_vjp = linear(_joined(attended), params["output.weight"])

    def vjp(dy):
        dattended, doutput, _ = output_vjp(dy)
        dquery, dkey, dvalue = map(_joined, attention_vjp(_split(dattended, heads)))
        dseen, dkey_value, _ = key_value_vjp(np.concatenate([dkey, dvalue], axis=-1))
        dqueries, dquery_weight, _ = query_vjp(dquery)
        dx, dquery_norm = query_norm_vjp(dqueries)
        dmemory, dkey_norm = key_norm_vjp(dseen)
        grads = {
            "query_norm.weight": dquery_norm, "key_norm.weight": dkey_norm, "query.weight": dquery_weight,
            "key_value.weight": dkey_value, "output.weight": doutput,
        }  # fmt: skip
        return dy + dx, dmemory, grads

    return x + y, vjp


def _split(x, heads):
    """(B, T, H d_h) -> (B, H, T, d_h)."""
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def _joined(x):
    """(B, H, T, d_h) -> (B, T, H d_h)."""
    return np.swapaxes(x, 1, 2).reshape(len(x), x.shape[2], -1)
