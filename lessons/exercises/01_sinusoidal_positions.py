"""Lesson 1: where a token stands, as sines and cosines ("Attention is all you need", section 3.5).

    y[2i]     = sin(position / 10000^(2i / width))
    y[2i + 1] = cos(position / 10000^(2i / width))

    positions (...) whole numbers, width even -> (..., width) of ``dtype``

Compute the angles in float64 and cast at the end: positions of 100,000 occur. Nothing is learned: no backward pass.
"""

import numpy as np


def sinusoidal_positions(positions, width, dtype):
    raise NotImplementedError
