"""Dynamic loss scaling, which keeps small gradients representable in float16."""


def update_scale(scale, good_steps, finite, growth_interval=2000):
    """The next loss scale (arXiv:1710.03740 §3.2): half after an overflow, twice after ``growth_interval`` good steps.

    ``finite``: whether every gradient of this step was. The scale stays within 1 and 2^24. Returns (scale, good_steps).
    """
    if not finite:
        return max(1.0, scale / 2), 0
    if good_steps + 1 < growth_interval:
        return scale, good_steps + 1
    return min(2.0**24, scale * 2), 0
