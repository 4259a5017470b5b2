"""Entailment cones: a point entails what lies in the cone that opens behind it, seen from the origin.

"Animal" entails "dog": the general lies near the origin, the special far out, inside its cone (arXiv:1804.01882). Points
are given by tangent vectors at the origin, as in ``tangent``.
"""

import numpy as np

from numpy_ref.hyperbolic.radial import TINY


def half_aperture(v, c, width=0.1):
    """Half the opening angle, in radians, of the cone at exp_0(v).

        psi = asin(2 K / sinh(r)),    r = sqrt(c) ||v||        K = ``width``

    In the ball sinh(r) = 2 s / (1 - s^2) with s = sqrt(c) ||x||, which gives the paper's asin(K (1 - s^2) / s) (eq. 26);
    with the space coordinates of the hyperboloid sinh(r) = sqrt(c) ||x_s|| (arXiv:2304.09172, eq. 10). Cones so shaped
    are nested: what lies in the cone of a point of a cone lies in that cone. Where sinh(r) <= 2 K there is no such angle;
    the cone is a half space there, psi = pi / 2.

    Shapes: v (..., d), c () -> (...);  vjp: dy (...) -> dv, dc.

    Backward. With s = sin(psi):  dr = -dy s cosh(r) / (sinh(r) sqrt(1 - s^2)), 0 for half spaces, and
    dv = sqrt(c) dr v / ||v||,  dc = sum dr r / (2 c).
    """
    n = _norm(v)
    r = c**0.5 * n
    sine = 2.0 * width / np.sinh(r)
    proper = sine.real < 1.0
    sine = np.where(proper, sine, 0.0)
    psi = np.where(proper, np.arcsin(sine), 0.5 * np.pi)

    def vjp(dy):
        dr = -dy[..., None] * sine * np.cosh(r) / (np.sinh(r) * np.sqrt((1.0 - sine) * (1.0 + sine)))
        return c**0.5 * dr * v / n, np.asarray(np.sum(dr * r) / (2.0 * c))

    return psi[..., 0], vjp


def exterior_angle(v, w, c):
    """The angle, in radians, at exp_0(v) between the way straight outwards and the way to exp_0(w).

        phi = atan2(sinh(q) sin(a), sinh(q - r) - sinh(q) cosh(r) (1 - cos(a)))
        r = sqrt(c) ||v||,  q = sqrt(c) ||w||,  a the angle between v and w

    These are the two components, across and along the radius, of the tangent vector that leads to the second point
    (``lorentz.log_map``), up to a common factor. With e = v / ||v|| - w / ||w|| and f = v / ||v|| + w / ||w||,
    sin(a) = ||e|| ||f|| / 2 and 1 - cos(a) = ||e||^2 / 2: exact for small angles, where acos of a quotient has lost them.

    0 where both points are equal, or the first is the origin, from which every way leads outwards.

    Shapes: v, w (..., d), c () -> (...);  vjp: dy (...) -> dv, dw, dc.

    Backward. With S and C the two arguments of atan2,  dS = dy C / (S^2 + C^2),  dC = -dy S / (S^2 + C^2):

        dq = dS cosh(q) sin(a) + dC (cosh(q - r) - cosh(q) cosh(r) ||e||^2 / 2)
        dr = -dC (cosh(q - r) + sinh(q) sinh(r) ||e||^2 / 2)
        de = dS sinh(q) ||f|| / (2 ||e||) e - dC sinh(q) cosh(r) e        df = dS sinh(q) ||e|| / (2 ||f||) f

    and from the directions u = v / ||v|| with du = de + df to dv = sqrt(c) dr u + (du - (du.u) u) / ||v||; dw with
    -de + df. Exactly inside or opposite, where e or f is 0, there is a kink, and no gradient across.
    """
    root, n, m = c**0.5, _norm(v), _norm(w)
    u, z, r, q = v / n, w / m, root * n, root * m
    e, f = u - z, u + z
    apart, together = _length(e), _length(f)
    sine, lack = 0.5 * apart * together, 0.5 * apart * apart
    across, along = np.sinh(q) * sine, np.sinh(q - r) - np.sinh(q) * np.cosh(r) * lack
    here = n.real > TINY
    phi = np.where(here, _angle(across, along), 0.0)

    def vjp(dy):
        square = across * across + along * along
        g = np.where(here & (square > 0), dy[..., None], 0.0) / np.where(square > 0, square, 1.0)
        ds, dc = g * along, -g * across
        dq = ds * np.cosh(q) * sine + dc * (np.cosh(q - r) - np.cosh(q) * np.cosh(r) * lack)
        dr = -dc * (np.cosh(q - r) + np.sinh(q) * np.sinh(r) * lack)
        de = 0.5 * ds * np.sinh(q) * together * e / np.maximum(apart, TINY) - dc * np.sinh(q) * np.cosh(r) * e
        df = 0.5 * ds * np.sinh(q) * apart * f / np.maximum(together, TINY)
        du, dz = de + df, df - de
        dv = root * dr * u + (du - _dot(du, u) * u) / n
        dw = root * dq * z + (dz - _dot(dz, z) * z) / m
        return dv, dw, np.asarray(np.sum(dr * r + dq * q) / (2.0 * c))

    return phi[..., 0], vjp


def entailment_energy(v, w, c, width=0.1):
    """How far exp_0(w) is outside the cone of exp_0(v), in radians: 0 inside (arXiv:1804.01882, eq. 33).

        E = max(0, exterior_angle(v, w) - half_aperture(v))

    Shapes: v, w (..., d), c () -> (...);  vjp: dy (...) -> dv, dw, dc.  Backward: both parts, where E > 0.
    """
    (phi, phi_vjp), (psi, psi_vjp) = exterior_angle(v, w, c), half_aperture(v, c, width)
    excess = phi - psi
    outside = excess.real > 0

    def vjp(dy):
        dy = np.where(outside, dy, 0.0)
        dv, dw, dc = phi_vjp(dy)
        dv_psi, dc_psi = psi_vjp(-dy)
        return dv + dv_psi, dw, np.asarray(dc + dc_psi)

    return np.where(outside, excess, 0.0), vjp


def _angle(across, along):
    """atan2(across, along) for across >= 0, by the quotient that is at most 1; 0 for (0, 0)."""
    steep = across.real > np.abs(along.real)
    flat = np.arctan(across / np.where(steep | (along == 0), 1.0, along))
    flat = np.where(along.real < 0, flat + np.pi, flat)
    return np.where(steep, 0.5 * np.pi - np.arctan(along / np.where(steep, across, 1.0)), flat)


def _length(x):
    """||x|| (..., 1); where it is 0 it does not depend on x: a kink."""
    n = np.sqrt(_dot(x, x))
    return np.where(n.real > TINY, n, 0.0)


def _norm(v):
    """||v|| (..., 1), at least TINY."""
    n = np.sqrt(_dot(v, v))
    return np.where(n.real > TINY, n, TINY)


def _dot(x, y):
    return np.sum(x * y, axis=-1, keepdims=True)
