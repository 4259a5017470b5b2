"""Lesson 2: the learning rate over a run.

    step < warmup:    a line that reaches ``peak`` with the last step of the warm-up; the first step already moves
    then:             a cosine from peak (t = 0) to final * peak (t = 1, at the end of the run)
    step >= steps:    final * peak

step counts from 0; numbers in, a number out.
"""

import math


def warmup_cosine(step, steps, peak, warmup=0, final=0.0):
    raise NotImplementedError
