"""Non-linearities of the feed-forward network, and the error function that NumPy lacks."""

import math

import numpy as np

from numpy_ref.precision import stored_once

NUMPY_ONLY = {"erf"}


@stored_once
def gelu(x):
    """Gaussian error linear unit (arXiv:1606.08415, section 2): x times the chance that a normal number is below x.

        y = x Phi(x),    Phi(x) = (1 + erf(x / sqrt(2))) / 2

    Far on the left 1 + erf cancels to nothing. With t = |x| and the tail Phi(-t), which keeps all its digits,

        x >= 0:  y = x (1 - Phi(-t)) = x - t Phi(-t)
        x <  0:  y = x Phi(-t)       = 0 - t Phi(-t)        so    y = max(x, 0) - t Phi(-t)

    Shapes: x (...) -> y (...);  vjp: dy (...) -> dx (...).

    Backward. Phi' is the normal density phi(x) = exp(-x^2 / 2) / sqrt(2 pi), so

        dx = dy (Phi(x) + x phi(x))
    """
    t = _size(x)
    gauss = np.exp(-0.5 * t * t)
    tail = _normal_tail(t, gauss)
    y = np.maximum(x, 0.0) - t * tail

    def vjp(dy):
        # Phi(x) + x phi(x) is tail - t phi(t) on the left, and one minus that on the right.
        slope = gauss * t
        slope *= 1.0 / math.sqrt(2.0 * math.pi)
        slope -= tail
        return dy * _either_side(slope, x)

    return y, vjp


@stored_once
def gelu_tanh(x):
    """The approximation of GELU by a tanh (arXiv:1606.08415, section 2).

        y = x (1 + tanh(u)) / 2,    u = sqrt(2 / pi) (x + 0.044715 x^3)

    (1 + tanh(u)) / 2 is logistic(2u) = 1 / (1 + exp(-2u)), which does not cancel on the left. As above, with t = |x|
    and the tail s = logistic(-2 |u|) = e / (1 + e), e = exp(-2 |u|),

        y = max(x, 0) - t s

    Shapes: x (...) -> y (...);  vjp: dy (...) -> dx (...).

    Backward. The logistic function has the slope s (1 - s) = s / (1 + e), so

        dx = dy (logistic(2u) + x 2 u' s / (1 + e)),    u' = sqrt(2 / pi) (1 + 3 * 0.044715 x^2)
    """
    t = _size(x)
    root, cubic = math.sqrt(2.0 / math.pi), 0.044715
    square = t * t
    e = np.exp((-2.0 * root) * t * (1.0 + cubic * square))
    tail = e / (1.0 + e)
    y = np.maximum(x, 0.0) - t * tail

    def vjp(dy):
        bend = (2.0 * root) * t * (1.0 + 3.0 * cubic * square) * tail / (1.0 + e)
        return dy * _either_side(bend - tail, x)

    return y, vjp


def relu(x):
    """Rectified linear unit: y = max(x, 0).

    Shapes: x (...) -> y (...);  vjp: dy (...) -> dx (...).

    Backward: dx = dy where x > 0, else 0; at 0 itself, where there is no derivative, 0 is the custom.
    """
    positive = x.real > 0
    hidden = x.real <= 0  # not ~positive: NaN is neither, and stays NaN

    def vjp(dy):
        return np.where(positive, dy, 0.0)

    return np.where(hidden, 0.0, x), vjp


@stored_once
def silu(x):
    """Sigmoid linear unit (arXiv:1606.08415, section 2; also called swish): x times its logistic function.

        y = x s,    s = 1 / (1 + exp(-x))

    exp(-|x|) never overflows: s = 1 / (1 + e) on the right and e / (1 + e) on the left, e = exp(-|x|).

    Shapes: x (...) -> y (...);  vjp: dy (...) -> dx (...).

    Backward. s' = s (1 - s), so

        dx = dy (s + x s (1 - s)) = dy s (1 + x (1 - s))
    """
    positive = x.real > 0
    e = np.exp(np.where(positive, -x, x))
    s = np.where(positive, 1.0, e) / (1.0 + e)
    rest = np.where(positive, e, 1.0) / (1.0 + e)  # 1 - s, without its cancellation

    def vjp(dy):
        return dy * s * (1.0 + x * rest)

    return x * s, vjp


def swiglu(x):
    """Gated unit with SiLU (arXiv:2002.05202, eq. 6): one half of the features opens and closes the other.

        y = silu(a) * b,    x = [a, b]

    Shapes: x (..., 2f) -> y (..., f);  vjp: dy (..., f) -> dx (..., 2f).

    Backward: da = silu'(a) (dy * b) and db = dy * silu(a), side by side.
    """
    return _gated(silu, x)


def geglu(x):
    """Gated unit with GELU (arXiv:2002.05202, eq. 6).

        y = gelu(a) * b,    x = [a, b]

    Shapes: x (..., 2f) -> y (..., f);  vjp: dy (..., f) -> dx (..., 2f). Backward as for ``swiglu``.
    """
    return _gated(gelu, x)


def softcap(x, cap):
    """Bends large values so that they stay between -cap and cap (Gemma 2, arXiv:2408.00118, section 2).

        y = c tanh(x / c)

    Shapes: x (...) -> y (...);  vjp: dy (...) -> dx (...).

    Backward. tanh' = 1 - tanh^2 = 1 / cosh^2. For |x| far above c the first form cancels; with e = exp(-2 |x| / c),

        dx = dy 4 e / (1 + e)^2
    """
    bent = np.tanh(x / cap)

    def vjp(dy):
        e = np.exp((-2.0 / cap) * np.where(x.real > 0, x, -x))
        return dy * 4.0 * e / ((1.0 + e) * (1.0 + e))

    return cap * bent, vjp


def activation(name, x):
    """The activation of that name, one of ``config.ACTIVATIONS``: x (...) -> y (...), gated ones x (..., 2f) -> (..., f).

    vjp: dy, shaped like y -> dx, shaped like x.
    """
    functions = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu, "silu": silu, "swiglu": swiglu, "geglu": geglu}
    return functions[name](x)


def _gated(bend, x):
    """y = bend(a) * b for x = [a, b]."""
    a, b = np.split(x, 2, axis=-1)
    gate, gate_vjp = bend(a)

    def vjp(dy):
        return np.concatenate((gate_vjp(dy * b), dy * gate), axis=-1)

    return gate * b, vjp


def erf(x):
    """The error function, 2 / sqrt(pi) times the integral of exp(-s^2) from 0 to x, to a few units in the last place.

    Close to 0 by its power series, 2 / sqrt(pi) sum_n (-1)^n x^(2n + 1) / (n! (2n + 1)), elsewhere for x > 0 by the
    tail as 1 - 2 Phi(-sqrt(2) x), and for x < 0 by erf(-x) = -erf(x).

    x (...) -> (...), real, or complex with a small imaginary part. The value alone: ``gelu`` does not need it.
    """
    t = _size(x)
    near = np.where(t.real < 0.5, x, 0.0)
    square = near * near
    series = 0.0
    for n in reversed(range(14)):
        series = (-1) ** n / (math.factorial(n) * (2 * n + 1)) + square * series
    far = 1.0 - 2.0 * _normal_tail(math.sqrt(2.0) * t, np.exp(-t * t))
    return np.where(t.real < 0.5, (2.0 / math.sqrt(math.pi)) * near * series, np.where(x.real < 0, -far, far))


# Chebyshev coefficients of g(u) = (t + 4) exp(t^2 / 2) Phi(-t) at u = (t - 4) / (t + 4), which maps 0 <= t < infinity
# to -1 <= u < 1 (the idea is Shepherd and Laframboise's, Math. Comp. 36 (1981) 249). Interpolated in 50 digits at 120
# Chebyshev nodes. Since |T_k(u)| <= 1, what is left out errs by less than the sum of the |coefficients| left out.
_TAIL = (
    0.97045120456607654, -0.75170881683957053, 0.22219355567525103, -0.048517753260446086,
    0.0069259204962424804, -0.00032059847439814995, -0.00010054739163210678, 1.8903369019706964e-5,
    1.0103568854746311e-6, -6.1453347493978239e-7, -3.3810201200691756e-9, 2.0686508061742834e-8,
    -1.1282603632469506e-10, -7.7740152283886943e-10, -9.9414241914047075e-12, 3.1744829498583028e-11,
    1.842480684470494e-12, -1.3128616466710965e-12, -1.7415362652654814e-13, 4.9072740317044241e-14,
    1.2931384326165576e-14, -1.2180663521726341e-15, -8.052147372620933e-16, -2.8604941442616211e-17,
    4.0570644243353541e-17,
)  # fmt: skip
_TAIL_FLOAT32 = _TAIL[:12]  # leaves out 9.4e-10 where g is at least 0.398: enough for 24 bits


def _normal_tail(t, gauss):
    """Phi(-t) = gauss g(u) / (t + 4) for t >= 0 and gauss = exp(-t^2 / 2), to a few roundings however small it is."""
    inverse = 1.0 / (t + 4.0)
    coefficients = _TAIL_FLOAT32 if t.dtype.itemsize <= 4 else _TAIL
    tail = _chebyshev(coefficients, 1.0 - 8.0 * inverse)
    tail *= inverse
    tail *= gauss
    return tail


def _chebyshev(coefficients, u):
    """sum_k c_k T_k(u) by Clenshaw's recurrence (1955).

        b_k = c_k + 2 u b_(k+1) - b_(k+2),  from b = 0 beyond the last;    sum = c_0 + u b_1 - b_2
    """
    twice = 2.0 * u
    current, following = coefficients[-1], 0.0
    for c in coefficients[-2:0:-1]:
        previous = twice * current  # a new array at each step, the one place where it is made
        previous -= following
        previous += c
        current, following = previous, current
    return u * current - following + coefficients[0]


def _size(x):
    """|x|, cut at 40: there every tail is 0, and t^2 must not overflow.

    Not ``np.abs``: that forgets the imaginary part, which carries the derivative when x is complex. Of complex numbers
    ``np.maximum`` takes the one with the larger real part.
    """
    return np.minimum(np.maximum(x, -x), 40.0)


def _either_side(slope, x):
    """-slope for x < 0, 1 + slope for x >= 0."""
    # A sign and a sum: on signs without order np.where takes ten times as long.
    sign = np.copysign(1.0, x.real + 0.0)  # -0.0 + 0.0 is 0.0: both zeros belong to the right side
    return slope * sign + (x.real >= 0)
