"""What the experiment on hyperbolic space found: tables, sentences that follow from them, and pictures."""

from pathlib import Path

import numpy as np

from numpy_ref.files import replace
from numpy_ref.hyperbolic.embedding_arms import GEOMETRIES, LOSSES
from numpy_ref.hyperbolic.poincare import mobius_add
from numpy_ref.plots import BLUE, INK, PALE, QUIET, RED, canvas

DEFINITION = "words and pictures of numbers that the wings computed"

COLOURS = {"euclidean": RED, "lorentz": BLUE, "poincare": INK}
MEASURES = {"map": "mean average precision", "distortion": "mean distortion"}


def write(folder, header, rows, drawn):
    """Write report.md and its pictures into a folder; returns their paths.

    header: {"about": one line about the graphs, "names": {"graph", "control"}, "settings": {name: value}}; rows: results
    of ``embedding_experiment.result``; drawn: (graph, {(geometry, loss): points (n, 2)}) for the picture of the disk.
    """
    folder, found = Path(folder), averages(rows)
    pictures = ["measures.png"] + ["disk.png"] * bool(drawn[1])
    parts = ["# Hyperbolic space: graphs in a few dimensions", header["about"], "\n".join(verdicts(found, header["names"]))]
    parts += ["![Mean average precision and distortion over dimensions](measures.png)"]
    for part, loss in dict.fromkeys((row["part"], row["loss"]) for row in found):
        parts.append(f"## {header['names'][part]}, embedded by its {LOSSES[loss]}\n\n{table(found, part, loss)}")
    if drawn[1]:
        parts.append("## Two dimensions\n\n![The tree in the plane and in the hyperbolic disk](disk.png)")
        disk(*drawn, folder / "disk.png")
    measures(found, header["names"], folder / "measures.png")
    parts.append(notes(header["settings"]))
    replace(folder / "report.md", lambda file: file.write(("\n\n".join(filter(None, parts)) + "\n").encode()))
    return [folder / name for name in ["report.md", *pictures]]


def averages(rows):
    """A row for each part, loss, space and dimension, in the order in which they came: means over seeds, and for each
    measure "NAME_spread", half of the largest minus the smallest."""
    same = {}
    for row in rows:
        same.setdefault((row["part"], row["loss"], row["geometry"], row["dim"]), []).append(row)
    found = []
    for (part, loss, geometry, dim), group in same.items():
        new = {"part": part, "loss": loss, "geometry": geometry, "dim": dim, "seeds": len(group)}
        for name in ("map", "distortion", "worst", "scale", "seconds"):
            values = [row[name] for row in group]
            new |= {name: float(np.mean(values)), f"{name}_spread": (max(values) - min(values)) / 2}
        found.append(new)
    return found


def verdicts(found, names):
    """Sentences: where hyperbolic space (the better model of it) wins over Euclidean space, and by how much. Where they
    differ by no more than one of the two does between seeds, neither wins."""
    for part, loss in dict.fromkeys((row["part"], row["loss"]) for row in found):
        flat = {row["dim"]: row for row in found if (row["part"], row["loss"], row["geometry"]) == (part, loss, "euclidean")}
        for measure, words in MEASURES.items():
            sign = 1 if measure == "map" else -1
            best = {}
            for row in found:
                if (row["part"], row["loss"]) == (part, loss) and row["geometry"] != "euclidean":
                    best[row["dim"]] = max(row, best.get(row["dim"], row), key=lambda one: sign * one[measure])
            both = [dim for dim in flat if dim in best]
            if not both:
                continue
            lead = {dim: sign * (best[dim][measure] - flat[dim][measure]) for dim in both}
            doubt = {dim: max(0.0005, *(one[dim][f"{measure}_spread"] for one in (flat, best))) for dim in both}
            won = [dim for dim in both if lead[dim] > doubt[dim]]
            lost = [dim for dim in both if lead[dim] < -doubt[dim]]
            sides = ", ".join(f"{flat[dim][measure]:.3f} / {best[dim][measure]:.3f}" for dim in both)
            yield (
                f"- {names[part]}, {LOSSES[loss]}: hyperbolic space has the better {words} in {_dims(won)}, the worse one "
                f"in {_dims(lost)} (Euclidean / hyperbolic: {sides})."
            )


def _dims(dims):
    return " and ".join(f"{', '.join(map(str, dims))} dimensions".rsplit(", ", 1)) if dims else "none"


def table(found, part, loss):
    """The results of one graph and loss as Markdown, a row for each dimension and space."""
    lines = ["| dimensions | space | mean average precision | mean distortion | worst distortion | seeds |", "|---:|---|" + "---:|" * 4]
    chosen = [row for row in found if (row["part"], row["loss"]) == (part, loss)]
    for row in sorted(chosen, key=lambda row: row["dim"]):
        numbers = [_spread(row, "map"), _spread(row, "distortion"), f"{row['worst']:.4g}", str(row["seeds"])]
        lines.append(f"| {row['dim']} | {GEOMETRIES[row['geometry']]} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def _spread(row, name):
    return f"{row[name]:.3f}" + (f" ± {row[f'{name}_spread']:.3f}" if row["seeds"] > 1 else "")


def notes(settings):
    """What was done, for whoever wants to judge it."""
    default = {"lr": "by space and loss", "scale_lr": "8 / steps", "below": "none", "rows": "all"}
    words = ", ".join(f"{name} {value or default.get(name, 0)}" for name, value in settings.items())
    return (
        "## How it was done\n\nMean average precision: of each node's neighbours among the nodes no farther than they are. Mean distortion: mean "
        "|s d / hops - 1| over all pairs with the best scale s, so that units do not matter. Worst distortion: the largest "
        "ratio of distance to hops over the smallest. ± is half the distance of the largest from the smallest seed; where two spaces differ by less, none is called better. "
        "Distances are learnt by the mean of |d / hops - 1|, neighbours by the cross-entropy of each neighbour "
        "among all nodes that are none. The Lorentz model holds points as tangent vectors at the origin and learns by "
        "Adam, as Euclidean space does; the Poincaré model holds points of the ball and learns by Riemannian Adam. All "
        "learn a scale, which is the same as learning the curvature; where it begins large and falls slowly, points first find "
        "their order near the origin, where space is nearly flat. At a distance r from it a step of length s turns a point of the ball by no "
        f"more than s / sinh(r): a tree that gets there in disorder stays so.\n\nSettings: {words}."
    )


def measures(found, names, path):
    """Mean average precision and distortion over dimensions, a column for each graph and loss."""
    columns = list(dict.fromkeys((row["part"], row["loss"]) for row in found))
    with canvas(path, figsize=(3.2 * len(columns) + 0.6, 5.6)) as figure:
        grid = figure.subplots(2, len(columns), squeeze=False, sharex=True, sharey="row")
        for number, (part, loss) in enumerate(columns):
            for axes, (measure, words) in zip(grid[:, number], MEASURES.items()):
                for geometry, label in GEOMETRIES.items():
                    line = [row for row in found if (row["part"], row["loss"], row["geometry"]) == (part, loss, geometry)]
                    if line:
                        x, y, e = zip(*((row["dim"], row[measure], row[f"{measure}_spread"]) for row in line))
                        style = {"marker": "o", "markersize": 4, "linewidth": 1.5, "capsize": 2, "color": COLOURS[geometry]}
                        axes.errorbar(x, y, e, label=label, **style)
                ticks = sorted({row["dim"] for row in found})
                axes.set_xscale("log")
                axes.set_xticks(ticks, map(str, ticks))
                axes.minorticks_off()
                axes.set_ylim(0, 1.05 * max(row[measure] + row[f"{measure}_spread"] for row in found))
                if number == 0:
                    axes.set_ylabel(words)
            grid[0, number].set_title(f"{names[part]}, {LOSSES[loss]}")
            grid[1, number].set_xlabel("dimensions")
        grid[0, min(1, len(columns) - 1)].legend(fontsize=8, loc="lower right")


def disk(graph, drawn, path):
    """The first embedding in two dimensions: Euclidean beside hyperbolic, a row for each loss, coloured by depth.

    The root is moved to the middle of the disk, which changes no distance; edges are geodesics.
    """
    losses = list(dict.fromkeys(loss for _, loss in drawn))
    spaces = [name for name in GEOMETRIES if any(geometry == name for geometry, _ in drawn)]
    with canvas(path, figsize=(3.4 * len(spaces), 3.6 * len(losses))) as figure:
        for axes, (loss, space) in zip(figure.subplots(len(losses), len(spaces), squeeze=False).flat, ((a, b) for a in losses for b in spaces)):
            axes.set(title=f"{GEOMETRIES[space]}, {LOSSES[loss]}", aspect="equal")
            axes.axis("off")
            points = drawn[space, loss].astype(np.float64)
            if space == "euclidean":
                points, lines = points - points[0], points[graph.edges] - points[0]
            else:
                points = centred(points if space == "poincare" else in_ball(points))
                lines = geodesics(points[graph.edges[:, 0]], points[graph.edges[:, 1]])
                turn = np.linspace(0, 2 * np.pi, 200)
                axes.plot(np.cos(turn), np.sin(turn), color=QUIET, linewidth=0.8)
            for line in lines:
                axes.plot(*line.T, color=PALE, linewidth=0.6, zorder=1)
            size = np.maximum(2.0, 24.0 / (1.0 + graph.depth))
            axes.scatter(*points.T, c=graph.depth, s=size, cmap="viridis_r", zorder=2, linewidths=0)


def in_ball(v):
    """Tangent vectors at the origin of the hyperboloid (n, 2) as points of the ball: tanh(||v|| / 2) v / ||v||."""
    n = np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)
    return np.tanh(0.5 * n) / n * v


def centred(points):
    """Points of the ball, moved so that the first lies at the origin: distances stay."""
    return mobius_add(-points[0] + 0 * points, points, 1.0)[0]


def geodesics(x, y, steps=24):
    """Points on the geodesics between points of the ball (m, 2) -> (m, steps, 2). They are straight in Klein's model,
    k = 2 p / (1 + ||p||^2), from which p = k / (1 + sqrt(1 - ||k||^2)) leads back."""
    start, end = (2.0 * p / (1.0 + np.sum(p * p, -1, keepdims=True)) for p in (x, y))
    share = np.linspace(0.0, 1.0, steps)[:, None]
    k = start[:, None] * (1.0 - share) + end[:, None] * share
    return k / (1.0 + np.sqrt(np.maximum(1.0 - np.sum(k * k, -1, keepdims=True), 0.0)))
