"""Two ways to look at a function: its slope along a direction, and how long it takes."""

import time

import numpy as np

STEP = 1e-40


def slope(function, x, direction):
    """The derivative of ``function`` at x along a direction, to the last digit: Im f(x + i h t) / h for a tiny h.

    f(x + i h t) = f(x) + i h f'(x) t - ...: nothing is subtracted, so nothing cancels. x and direction: arrays of one
    shape -> shaped like f(x).
    """
    return np.imag(function(x + 1j * STEP * direction)) / STEP


def seconds(function, repeat=5):
    """The median time of a call, after one call to warm up."""
    function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
