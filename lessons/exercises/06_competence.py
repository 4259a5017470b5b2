"""Lesson 6: a curriculum (arXiv:1903.09848): the share of the examples, easiest first, that a learner is ready for.

    c = min(1, (t / T (1 - c0^p) + c0^p)^(1 / p))        t: step, T: steps, c0: start, p: root

Numbers in, a number out.
"""


def competence(step, steps, start=0.1, root=2.0):
    raise NotImplementedError
