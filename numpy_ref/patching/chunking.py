"""Dynamic chunking (arXiv:2507.07955, section 2.2): a model that learns where to cut, by gradient.

A border is likely where neighbouring bytes are unlike. It is taken or not, which has no gradient; what has one is how
sure it was: chunks are smoothed by that, and each byte's share of its chunk is weighed by it.
"""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.linear import linear

EPS = 1e-12


def route(x, params):
    """The probability that a chunk begins at each byte.

        p_t = (1 - cos(Wq x_t, Wk x_{t-1})) / 2,    p_0 = 1,    cos(q, k) = q k / (|q| |k|),   |q| = sqrt(q q + EPS)

    A chunk begins where p > 1/2. It depends on byte t, which is known where byte t + 1 is predicted.

    params: "query.weight", "key.weight" (d, d). Shapes: x (B, T, d) -> (B, T);  vjp: dy -> dx, grads.

    Backward. dcos/dq = k / (|q| |k|) - cos q / |q|^2, and the same with q and k exchanged.
    """
    query, query_vjp = linear(x[:, 1:], params["query.weight"])
    key, key_vjp = linear(x[:, :-1], params["key.weight"])
    query_norm, key_norm = (np.sqrt(np.sum(v * v, axis=-1, keepdims=True) + EPS) for v in (query, key))
    cosine = np.sum(query * key, axis=-1, keepdims=True) / (query_norm * key_norm)
    first = np.ones_like(x, shape=(len(x), 1))

    def vjp(dy):
        dcosine = -0.5 * dy[:, 1:, None]
        dquery = dcosine * (key / (query_norm * key_norm) - cosine * query / query_norm**2)
        dkey = dcosine * (query / (query_norm * key_norm) - cosine * key / key_norm**2)
        dlater, dquery_weight, _ = query_vjp(dquery)
        dearlier, dkey_weight, _ = key_vjp(dkey)
        dx = np.zeros_like(x)
        dx[:, 1:] += dlater
        dx[:, :-1] += dearlier
        return dx, {"query.weight": dquery_weight, "key.weight": dkey_weight}

    return np.concatenate([first, 0.5 * (1.0 - cosine[..., 0])], axis=1), vjp


def ema_scan(z, p):
    """Smooths the chunks: where the border was doubtful, a chunk keeps much of the one before.

        y_k = p_k z_k + (1 - p_k) y_{k-1},    y_{-1} = 0

    Shapes: z (B, K, d), p (B, K) -> (B, K, d);  vjp: dy -> dz, dp.

    Backward: the same recurrence from the end, a_k = dy_k + (1 - p_{k+1}) a_{k+1}, and

        dz_k = p_k a_k        dp_k = sum over features of a_k (z_k - y_{k-1})
    """
    p, chunks = p[..., None], range(z.shape[1])
    steps = [np.zeros_like(z, shape=(len(z), z.shape[-1]))]
    for k in chunks:
        steps.append(p[:, k] * z[:, k] + (1.0 - p[:, k]) * steps[-1])
    before, y = np.stack(steps[:-1], axis=1), np.stack(steps[1:], axis=1)

    def vjp(dy):
        a, carried = np.zeros_like(dy), 0.0
        for k in reversed(chunks):
            a[:, k] = dy[:, k] + carried
            carried = (1.0 - p[:, k]) * a[:, k]
        return p * a, np.sum(a * (z - before), axis=-1)

    return y, vjp


def ratio_loss(p, borders, target):
    """Asks for one chunk in ``target`` bytes.

        L = N / (N - 1) ((N - 1) F G + (1 - F) (1 - G)),    F = mean of borders, G = mean of p, N = target

    1 where F = G = 1 / N. F has no gradient; that of G is proportional to N F - 1: too many borders push p down.

    Shapes: p (B, T), borders bool (B, T) -> ();  vjp: dy -> dp. Every row must be full: padding would count.
    Raises UserError for a target of at most 1.
    """
    if not target > 1:
        raise UserError(f"target={target} bytes a chunk leave nothing to choose; give more than 1")
    share, mean = np.mean(np.where(borders, np.ones_like(p), 0.0)), np.mean(p)
    factor = target / (target - 1.0)

    def vjp(dy):
        return np.broadcast_to(dy * factor * (target * share - 1.0) / p.size, p.shape).astype(p.dtype)

    return factor * ((target - 1.0) * share * mean + (1.0 - share) * (1.0 - mean)), vjp


def select(x, borders):
    """What stands at the borders, one behind the other; rows with fewer of them end in zeros.

    Shapes: x (B, T, d), borders bool (B, T) -> (B, K, d), K the largest number of borders of a row;  vjp: dy -> dx.
    """
    rows, places = np.nonzero(borders)
    chunks = (np.cumsum(borders, axis=1) - 1)[rows, places]
    y = np.zeros_like(x, shape=(len(x), int(np.max(np.sum(borders, axis=1), initial=0)), x.shape[-1]))
    y[rows, chunks] = x[rows, places]

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[rows, places] = dy[rows, chunks]
        return dx

    return y, vjp


def spread(chunks, p, borders, straight_through=True):
    """Every byte gets the vector of its chunk, weighed by how sure its own border, or the lack of one, was.

        y_t = c_t chunk of t,    c_t = p_t where a chunk begins, 1 - p_t elsewhere

    straight_through: c is 1 in the forward pass, and only its gradient is that of c: the vectors stay whole, and the
    router hears which decisions did good (section 2.2.2 of the paper). Without it y is what the formula says.

    Shapes: chunks (B, K, d), p (B, T), borders bool (B, T) -> (B, T, d);  vjp: dy -> dchunks, dp.
    """
    rows = np.cumsum(borders, axis=1) - 1 + chunks.shape[1] * np.arange(len(p))[:, None]  # in all texts' chunks
    own = chunks.reshape(-1, chunks.shape[-1])[rows]
    sure = np.where(borders, p, 1.0 - p)[..., None]
    weight = np.ones_like(sure) if straight_through else sure

    def vjp(dy):
        dchunks = np.zeros_like(chunks, shape=(chunks.shape[0] * chunks.shape[1], chunks.shape[2]))
        np.add.at(dchunks, rows, dy * weight)
        dsure = np.sum(dy * own, axis=-1)
        return dchunks.reshape(chunks.shape), np.where(borders, dsure, -dsure)

    return own * weight, vjp
