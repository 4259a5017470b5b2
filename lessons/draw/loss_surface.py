"""A slice through the loss around some weights."""

import numpy as np

from lessons.draw.picture import INK, RED, drawing
from numpy_ref.rng import normal

STREAM = 9 << 32


def directions(params, seed=0, count=2):
    """Random directions whose matrices are as long as those of the weights, row by row (arXiv:1712.09913, section 4).

    Without that a step of 1 would mean nothing: large weights hardly notice it, small ones are swamped. Vectors (norms,
    biases) stay where they are.
    """
    found = []
    for number in range(count):
        direction = {}
        for place, (name, weight) in enumerate(params.items()):
            d = normal(seed, STREAM + number * len(params) + place, weight.shape).astype(weight.dtype)
            if weight.ndim < 2:
                direction[name] = np.zeros_like(weight)
                continue
            own, wanted = (np.sqrt(np.sum(x * x, axis=-1, keepdims=True)) for x in (d, weight))
            direction[name] = d * wanted / own
        found.append(direction)
    return found


def slice_of(loss, params, span=1.0, steps=15, seed=0):
    """The loss on a grid: (steps,) shares and (steps, steps) losses. loss: params -> number."""
    first, second = directions(params, seed)
    shares = np.linspace(-span, span, steps)
    values = np.empty((steps, steps))
    for i, a in enumerate(shares):
        for j, b in enumerate(shares):
            values[i, j] = loss({name: w + a * first[name] + b * second[name] for name, w in params.items()})
    return shares, values


def loss_surface(loss, params, span=1.0, steps=15, seed=0, title="The loss around these weights"):
    """Contours of the loss along two random directions; the weights are in the middle."""
    shares, values = slice_of(loss, params, span, steps, seed)
    with drawing(title, 6.4, 5.2) as (figure, picture):
        axes = figure.subplots()
        image = axes.contourf(shares, shares, values.T, levels=18, cmap="cividis_r")
        axes.contour(shares, shares, values.T, levels=18, colors=INK, linewidths=0.35, alpha=0.5)
        axes.plot(0, 0, marker="*", markersize=15, color=RED, markeredgecolor="white", linestyle="none")
        axes.annotate(f"{values[steps // 2, steps // 2]:.2f}", (0, 0), xytext=(10, 8), textcoords="offset points", color="black", fontweight="bold")
        axes.set(xlabel="first direction, in lengths of the weights", ylabel="second direction", aspect="equal")
        axes.grid(False)
        figure.colorbar(image, label="nats per token")
    return picture
