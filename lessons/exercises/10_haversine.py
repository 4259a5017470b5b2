"""Lesson 10: how the distance pulls at both points.

    h = c ||x - y||^2 / ((1 - c ||x||^2) (1 - c ||y||^2))

    x, y (N, d) inside the ball, c () -> h (N,);    vjp: dh (N,) -> dx, dy (N, d), dc ()

x enters twice: in the difference, and in its own gap to the border.
"""

import numpy as np


def haversine(x, y, c):
    raise NotImplementedError  # h

    def vjp(dh):
        raise NotImplementedError  # dx, dy, dc

    return h, vjp
