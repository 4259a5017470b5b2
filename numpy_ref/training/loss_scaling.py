"""Dynamic loss scaling: float16 gradients below 6e-8 vanish, so the loss is multiplied before the backward pass."""

_LARGEST = 2.0**24


def update_scale(scale, good_steps, finite, growth_interval=2000):
    """The factor on the loss for the next step (arXiv:1710.03740, section 3.2).

    A gradient that overflowed halves the scale, down to 1, and its step is skipped; ``growth_interval`` good steps in
    a row double it, up to 2^24.

    scale: float; good_steps: number since the last change; finite: whether this step's gradients were all finite.
    Returns new scale, new good_steps.
    """
    if not finite:
        return max(1.0, scale / 2.0), 0
    if good_steps + 1 < growth_interval:
        return scale, good_steps + 1
    return min(_LARGEST, scale * 2.0), 0
