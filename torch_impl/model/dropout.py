"""Dropout with a mask from outside, so that both wings can drop the same features."""

from torch_impl.rng import uniform

TORCH_EXTRA_ARGUMENTS = {"device"}


def dropout(x, keep, rate):
    """Inverted dropout (Srivastava et al. 2014 §10): y = x keep / (1 - rate); without a mask, x itself.

    Shapes: x (...), keep (...) bool (True: keep) or None -> (...).
    """
    if keep is None:
        return x
    return x * keep / (1 - rate)


def dropout_mask(seed, stream, shape, rate, offset=0, device=None):
    """True with probability 1 - rate, from the stream's uniforms from ``offset`` on. Shapes: -> ``shape``, bool."""
    return (uniform(seed, stream, shape, offset, device) >= rate).to(device or "cpu")
