"""Embedding a graph: points whose distances say how many hops lie between its nodes, or which nodes are neighbours.

    euclidean    vectors x, ||x - y||
    lorentz      points of the hyperboloid, held as their tangent vectors at the origin (`tangent.py`)
    poincare     points of the ball

Curvature is -1; a learnt scale multiplies every distance, which is the same as learning the curvature.
"""

import numpy as np

from numpy_ref.hyperbolic import poincare, tangent

GEOMETRIES = "euclidean", "lorentz", "poincare"
LOSSES = "distance", "ranking"
_NEVER = 1e30  # minus this is the score of what may not be chosen: exp makes it 0, and no 0 / 0 where all are such


def pair_distances(x, y, geometry):
    """Distances of every x from every y.

    Shapes: x (B, d), y (n, d) -> (B, n);  vjp: dd (B, n) -> dx, dy.

    Backward, Euclidean. With e = x_i - y_j and d = ||e||, the gradient of d is e / d to x_i and -e / d to y_j; where
    d = 0, which has a kink there, it is 0. The hyperbolic ones are those of ``tangent.distance`` and
    ``poincare.distance``, added up over the pairs of each point.
    """
    if geometry != "euclidean":
        measure = {"lorentz": tangent, "poincare": poincare}[geometry]
        d, d_vjp = measure.distance(x[:, None], y[None], 1.0)

        def curved_vjp(dd):
            dx, dy, _ = d_vjp(dd)
            return dx.reshape(x.shape), dy.reshape(y.shape)

        return d, curved_vjp
    e = x[:, None] - y[None]
    square = np.sum(e * e, axis=-1)
    apart = square.real > 0
    d = np.sqrt(np.where(apart, square, 1.0))

    def vjp(dd):
        pull = np.where(apart, dd / d, 0.0)[..., None] * e
        return np.sum(pull, axis=1), -np.sum(pull, axis=0)

    return np.where(apart, d, 0.0), vjp


def distance_loss(distances, hops):
    """How wrong distances are, relative to hops: the mean distortion (arXiv:1804.03329, section 2).

        L = mean |d_ij / h_ij - 1|    over pairs of different nodes, h > 0

    Shapes: distances, hops (B, n) -> ();  vjp: dL () -> ddistances.  Backward: dd = dL sign(d / h - 1) / (h N), N pairs.
    """
    others = hops > 0
    count, whole = int(np.sum(others)), np.where(others, hops, 1).astype(distances.real.dtype)
    off = np.where(others, distances / whole - 1.0, 0.0)
    sign = np.sign(off.real)
    return np.sum(sign * off) / count, lambda dloss: dloss * sign / (whole * count)


def ranking_loss(distances, hops):
    """How likely it is to take a neighbour for some node that is none (arXiv:1705.08039, eq. 6, all negatives at once).

        L = mean over neighbours j of i:  -log( exp(-d_ij) / (exp(-d_ij) + sum over k exp(-d_ik)) ),    h_ik > 1
          = mean softplus(z_i + d_ij),    z_i = log sum over k exp(-d_ik)

    Shapes: distances, hops (B, n) -> ();  vjp: dL () -> ddistances.

    Backward. With the N links i, j of the rows, p_ij = sigmoid(z_i + d_ij) / N and q_ik = exp(-d_ik - z_i),

        dd_ij = dL p_ij        dd_ik = -dL q_ik sum_j p_ij
    """
    linked, apart = hops == 1, hops > 1
    count = int(np.sum(linked))
    scores = np.where(apart, -distances, -_NEVER)
    top = np.max(scores.real, axis=-1, keepdims=True)
    weights = np.exp(scores - top)
    total = np.sum(weights, axis=-1, keepdims=True)
    x = np.where(linked, top + np.log(total) + distances, -_NEVER)
    rising = x.real > 0
    small = np.exp(np.where(rising, -x, x))
    loss = np.sum(np.where(linked, np.where(rising, x, 0.0) + np.log1p(small), 0.0)) / count

    def vjp(dloss):
        p = dloss * np.where(linked, np.where(rising, 1.0, small) / (1.0 + small), 0.0) / count
        q = np.where(apart, weights / total, 0.0)
        return p - q * np.sum(p, axis=-1, keepdims=True)

    return loss, vjp


def embedding_loss(points, log_scale, rows, hops, geometry, loss):
    """The loss of an embedding, by the distances of some nodes from all: d = exp(log_scale) ``pair_distances``.

    Shapes: points (n, d), log_scale (), rows (B,) numbers of nodes, or None for all, hops (B, n) -> ();
    vjp: dL () -> dpoints, dlog_scale.

    Backward: dscale = sum dd d;  a node gets the gradients of its row, where it is one, and of its column.
    """
    x = points if rows is None else points[rows]
    lengths, lengths_vjp = pair_distances(x, points, geometry)
    scale = np.exp(log_scale)
    value, loss_vjp = {"distance": distance_loss, "ranking": ranking_loss}[loss](scale * lengths, hops)

    def vjp(dloss):
        dd = loss_vjp(dloss)
        dx, dpoints = lengths_vjp(scale * dd)
        if rows is None:
            dpoints = dpoints + dx
        else:
            np.add.at(dpoints, rows, dx)
        return dpoints, np.asarray(np.sum(dd * lengths) * scale)

    return value, vjp
