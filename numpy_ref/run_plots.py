"""``plot RUN [RUN ...] --out FILE.png``: the curves of any number of runs side by side.

Loss against steps, tokens, time and arithmetic; learning rate, gradient norm, throughput, and MFU where the device's
best is known. Colours are those of Okabe and Ito ("Color universal design", 2008), which colour-blind people tell apart;
line styles change too, so that a grey print can be read, and each line carries its name at its end.
"""

import json
import sys
from pathlib import Path

import numpy as np

from numpy_ref import expert_log, inspect, log, plots
from numpy_ref.config import ModelConfig, TrainConfig, from_json
from numpy_ref.errors import UserError

DEFINITION = "pictures of numbers that the wings logged"

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#22262b")
DASHES = ((None, None), (5, 1.5), (1.5, 1.5), (6, 1.5, 1.5, 1.5))
LABEL = 28  # characters of a name
SETTINGS = "config.json"
LARGEST = 1 << 20  # bytes of a config.json

# Dense 16-bit matrix products, TFLOP/s, as NVIDIA's data sheets give them (half of the figure "with sparsity").
PEAKS = {
    "B200": 2250.0,
    "H200": 989.4,
    "H100 PCIe": 756.5,
    "H100": 989.4,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 4090": 165.2,
    "V100": 125.0,
    "T4": 65.0,
}


class Curves:
    """The numbers of one run folder: ``rows`` of its log, ``flops`` of training on a token, ``peak`` FLOP/s or None."""

    def __init__(self, folder, peak=None):
        folder = Path(folder)
        self.rows = log.read_rows(folder / log.NAME)
        if not self.rows:
            raise UserError(f"{folder} holds no {log.NAME} with rows in it; give run folders that training has written")
        model, device = _settings(folder / SETTINGS)
        self.flops = 3 * inspect.flops_forward(model)
        self.peak = 1e12 * peak if peak else peak_of(device)

    def column(self, name):
        """The values of one field: float (rows,), NaN where a row has none."""
        return np.array([np.nan if row.get(name) is None else row[name] for row in self.rows], float)


def plot(wing, options):
    """The command: draw the runs and say where the picture is."""
    target = Path(options.out)
    if target.suffix != ".png":
        raise UserError(f"--out {options.out} is no picture; give a name that ends in .png")
    peak = getattr(options, "peak", None)
    if peak is not None and not 0 < peak < float("inf"):
        raise UserError(f"--peak {peak} is not allowed; give the device's best in TFLOP/s, above 0")
    target.parent.mkdir(parents=True, exist_ok=True)
    curves = dict(zip(names(options.runs), (Curves(run, peak) for run in options.runs)))
    if getattr(options, "experts", False):
        expert_log.draw({name: run.rows for name, run in curves.items()}, target)
    else:
        draw(curves, target)
    print(f"wrote {target}", file=sys.stderr)


def names(folders):
    """What tells the run folders apart: their last parts, or more where that is not enough."""
    paths = [Path(folder).absolute() for folder in folders]
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    found = ["/".join(path.parts[-depth:]) for path in paths]
    return [name if found.count(name) == 1 else f"{name} {place + 1}" for place, name in enumerate(found)]


def peak_of(device):
    """FLOP/s of dense 16-bit matrix products of a device, by its name; None for one that is not in the table."""
    return next((1e12 * value for name, value in PEAKS.items() if name.lower() in device.lower()), None)


def draw(runs, path):
    """Write the picture. ``runs``: name -> Curves."""
    unit, word = _time_unit(max(np.nanmax(run.column("time"), initial=0) for run in runs.values()))
    panels = [_loss("step", 1, "Optimiser steps"), _loss("tokens", 1, "Tokens", "log")]
    panels += [_loss("time", 1 / unit, f"{word} of training"), _loss("tokens", None, "FLOPs of training", "log")]
    panels += [_rate, _norm, _throughput] + [_mfu] * any(run.peak for run in runs.values())
    rows = -(-len(panels) // 2)
    with plots.canvas(path, figsize=(13, 3.5 * rows + 0.5)) as figure:
        title = f"{next(iter(runs)) if len(runs) == 1 else 'Runs'}: smoothed lines are training, circles held-out loss"
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
        grid = figure.add_gridspec(rows, 2)
        for number, panel in enumerate(panels):
            alone = number == len(panels) - 1 and number % 2 == 0
            axes = figure.add_subplot(grid[number // 2, :] if alone else grid[number // 2, number % 2])
            _panel(axes, panel, runs, alone)


def _panel(axes, panel, runs, wide):
    """One panel with a line for each run, and at its end the run's name where there are several."""
    ends = []
    for number, (name, run) in enumerate(runs.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.7, "dashes": DASHES[number % len(DASHES)]}
        end = panel(axes, run, style)
        if end:
            ends.append((*end, name if len(name) <= LABEL else "…" + name[1 - LABEL :], style["color"]))
    axes.autoscale_view()
    if len(runs) > 1 and ends:
        _make_room(axes, max(len(name) for _, _, name, _ in ends) * (0.0075 if wide else 0.0155) + 0.01)
        _name_lines(axes, ends)


def _time_unit(seconds):
    """(seconds of a unit, its plural) that suits a time."""
    return (1, "Seconds") if seconds < 120 else (60, "Minutes") if seconds < 7200 else (3600, "Hours")


def _loss(field, factor, label, scale="linear"):
    """A function that draws training and held-out losses over a field times a factor (None: FLOPs a token)."""

    def panel(axes, run, style):
        axes.set(title=f"Loss over {label[0].lower() + label[1:] if label[1].islower() else label}", xlabel=label)
        axes.set(ylabel="nats per token", yscale="log", xscale=scale)
        x = run.column(field) * (factor or run.flops)
        end = _curve(axes, x, run.column("loss"), style, smoothed=True)
        held_out = run.column("val_loss")
        there = np.isfinite(held_out) & np.isfinite(x)
        circle = {"marker": "o", "markersize": 4.5, "markerfacecolor": "white", "linestyle": "none", "zorder": 3}
        axes.plot(x[there], held_out[there], color=style["color"], **circle)
        _plain_ticks(axes.yaxis)
        return end

    return panel


def _rate(axes, run, style):
    axes.set(title="Learning rate", xlabel="Optimiser steps", ylabel="step size")
    return _curve(axes, run.column("step"), run.column("lr"), style)


def _norm(axes, run, style):
    axes.set(title="Gradient norm, before clipping", xlabel="Optimiser steps", ylabel="L2 norm", yscale="log")
    _plain_ticks(axes.yaxis)
    return _curve(axes, run.column("step"), run.column("grad_norm"), style, smoothed=True)


def _throughput(axes, run, style):
    axes.set(title="Throughput", xlabel="Optimiser steps", ylabel="tokens a second")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.update_datalim([(0, 0)])
    return _curve(axes, run.column("step"), run.column("tokens_per_second"), style, smoothed=True)


def _mfu(axes, run, style):
    axes.set(title="Model FLOPs utilisation", xlabel="Optimiser steps", ylabel="share of the device's peak")
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.update_datalim([(0, 0)])
    if not run.peak:
        return None
    share = 100 * run.flops * run.column("tokens_per_second") / run.peak
    return _curve(axes, run.column("step"), share, style, smoothed=True)


def _curve(axes, x, y, style, smoothed=False):
    """Draw the finite points of a curve; its last one, or None without any."""
    there = np.isfinite(x) & np.isfinite(y)
    x, y = x[there], y[there]
    if not len(x):
        return None
    if smoothed:
        y = plots.smooth(y)
    axes.plot(x, y, **style)
    return x[-1], y[-1]


def _make_room(axes, share):
    """Widen the panel to the right by a share of its width, for names."""
    left, right = axes.get_xlim()
    if axes.get_xscale() == "log":
        axes.set_xlim(left, right * (right / left) ** (share / (1 - share)))
    else:
        axes.set_xlim(left, right + (right - left) * share / (1 - share))


def _name_lines(axes, ends):
    """Each line's name at its right end, moved up or down where two would lie on each other."""
    axes.set_ylim(axes.get_ylim())
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [to_axes.transform((x, y)) for x, y, *_ in ends]
    order = sorted(range(len(ends)), key=lambda i: places[i][1])
    heights = np.array([places[i][1] for i in order])
    for _ in range(200):  # neighbours push each other apart until all have room
        overlap = np.maximum(0, 0.07 - np.diff(heights))
        if overlap.max(initial=0) < 1e-3:
            break
        heights[:-1] -= overlap / 2
        heights[1:] += overlap / 2
    heights += max(0, 0.03 - heights[0])
    for i, height in zip(order, heights):
        _, _, name, colour = ends[i]
        label = axes.annotate(
            name, (places[i][0], height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=9, color=colour, path_effects=plots.halo(), annotation_clip=False,
        )
        label.set_in_layout(False)


def _plain_ticks(axis):
    """2, 2.5, 3 and so on instead of powers of ten, which a loss between 2 and 6 never meets."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), numticks=9))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _settings(path):
    """(ModelConfig, name of the device or "") of a run's config.json. Raises UserError for a file that is none."""
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.loads(file.read(LARGEST))
        model = from_json(ModelConfig, json.dumps(settings["model"]))
        from_json(TrainConfig, json.dumps(settings["train"]))
        return model, str(settings.get("device", ""))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a run folder") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} is no config.json of a run; give a run folder that training has written") from None
