"""What the log says of a mixture of experts, and a picture of it: ``plot RUN --experts --out FILE.png``.

A row of ``log.jsonl`` has, for each layer with experts, "load" (each expert's share of all choices), "dropped" (share of
choices that found the expert full) and "entropy" (nats, mean over the tokens of the router's distribution; ln E where it
is undecided); and "router_loss", what the routers add to the loss that is minimised.
"""

import math

import numpy as np

from numpy_ref import plots
from numpy_ref.errors import UserError

DEFINITION = "a part of the log's rows, and a picture of them"


def row(record):
    """The fields of a row from the sums of ``routing_record``."""
    load, dropped, tokens, entropy = (
        np.array(record[name].tolist(), float) for name in ("load", "dropped", "tokens", "entropy")
    )
    slots = np.maximum(1, load.sum(-1))
    layers = {
        "load": (load / slots[:, None]).round(5),
        "dropped": (dropped / slots).round(5),
        "entropy": (entropy / np.maximum(1, tokens)).round(5),
    }
    return {"experts": {name: value.tolist() for name, value in layers.items()}, "router_loss": float(record["loss"])}


def violation(load):
    """How far the busiest expert is above its share (arXiv:2408.15664, eq. 4): E max(load) - 1, 0 at balance.

    Shapes: load (..., E) -> (...).
    """
    return load.shape[-1] * load.max(-1) - 1


def history(rows):
    """{"step" (S,), "load" (S, L, E), "dropped" (S, L), "entropy" (S, L)} from the rows of a log; rows without experts,
    or that are damaged, are left out. None where none is left."""
    found, shape = [], None
    for one in rows:
        try:
            parts = [np.array(one["experts"][name], float) for name in ("load", "dropped", "entropy")]
        except (KeyError, TypeError, ValueError):
            continue
        shape = shape or parts[0].shape
        fits = len(shape) == 2 and [part.shape for part in parts] == [shape, shape[:1], shape[:1]]
        if fits and all(np.isfinite(part).all() for part in parts):
            found.append((one["step"], *parts))
    if not found:
        return None
    return dict(zip(("step", "load", "dropped", "entropy"), map(np.array, zip(*found))))


def draw(runs, path):
    """Heat maps of the loads over training, a row a run and a column a layer; below, imbalance, entropy and drops.

    ``runs``: name -> rows of its log. Raises UserError where none has experts.
    """
    found = {name: history(rows) for name, rows in runs.items()}
    missing = [name for name, values in found.items() if values is None]
    if missing:
        raise UserError(f"{missing[0]} has no loads of experts in its log; give runs of models with --experts")
    columns = max(values["load"].shape[1] for values in found.values())
    size = max(9.0, 3.2 * columns), 2.1 * len(found) + 2.6
    with plots.canvas(path, figsize=size) as figure:
        figure.suptitle("Load of the experts over training", x=0.01, ha="left", fontsize=13, fontweight="bold")
        outer = figure.add_gridspec(2, 1, height_ratios=(2.1 * len(found), 2.4))
        grid = outer[0].subgridspec(len(found), columns).subplots(squeeze=False)
        for line, (name, values) in zip(grid, found.items()):
            for layer, axes in enumerate(line):
                image = _heat(axes, values, layer) if layer < values["load"].shape[1] else axes.set_axis_off()
                if layer == 0:
                    axes.set_ylabel(f"{name}\nexpert" if len(found) > 1 else "expert")
        bar = figure.colorbar(image or _last_image(grid), ax=grid, fraction=0.02, pad=0.01)
        bar.set_label("times an equal load")
        bar.outline.set_visible(False)
        _lines(outer[1].subgridspec(1, 3).subplots(), found)


def _heat(axes, values, layer):
    """One layer: experts upwards, steps to the right; white is an equal load."""
    from matplotlib.colors import TwoSlopeNorm

    load = values["load"][:, layer].T
    experts = len(load)
    image = axes.imshow(
        load * experts, aspect="auto", origin="lower", cmap="RdBu_r", interpolation="nearest",
        norm=TwoSlopeNorm(1, 0, max(2.0, min(experts, 4.0))),
        extent=(values["step"][0], values["step"][-1] + 1, -0.5, experts - 0.5),
    )  # fmt: skip
    axes.grid(False)
    axes.set_title(f"mixture {layer + 1}", fontsize=10)
    axes.set_yticks(range(0, experts, max(1, experts // 8)))
    return image


def _last_image(grid):
    return next(axes.images[0] for axes in grid.ravel()[::-1] if axes.images)


def _lines(panels, found):
    """Means over the layers, a line for each run."""
    from numpy_ref.run_plots import COLOURS  # which imports this file

    titles = ("Busiest expert above its share", "Entropy of the router / ln E", "Choices dropped")
    for axes, title in zip(panels, titles):
        axes.set(title=title, xlabel="optimiser step")
    for number, (name, values) in enumerate(found.items()):
        experts = values["load"].shape[-1]
        entropy = values["entropy"].mean(1) / math.log(experts) if experts > 1 else 0 * values["step"]
        curves = violation(values["load"]).mean(1), entropy, values["dropped"].mean(1)
        for axes, curve in zip(panels, curves):
            axes.plot(values["step"], plots.smooth(curve), color=COLOURS[number % len(COLOURS)], linewidth=1.6, label=name)
            axes.set_ylim(0, None)
    if len(found) > 1:
        panels[0].legend(fontsize=8)
