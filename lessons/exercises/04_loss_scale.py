"""Lesson 4: dynamic loss scaling (arXiv:1710.03740, section 3.2).

float16 gradients below 6e-8 vanish, so the loss is multiplied by a scale before the backward pass. A gradient that
overflowed halves the scale, down to 1; ``growth_interval`` good steps in a row double it, up to 2^24. Either way the
count of good steps starts again.

    scale: float; good_steps: good steps since the last change, before this one; finite: was this step good?
    -> (new scale, new good_steps)
"""


def update_scale(scale, good_steps, finite, growth_interval=2000):
    raise NotImplementedError
