"""Curves side by side: training losses, or anything over anything."""

import io

from lessons.draw.picture import Picture, drawing, lines
from numpy_ref import run_plots


def curves(named, title, xlabel="optimiser step", ylabel="nats per token", logarithmic=False, smooth=False):
    """Curves in one panel: name -> y or (x, y)."""
    from numpy_ref.plots import smooth as smoothed

    if smooth:
        named = {name: (y[0], smoothed(y[1])) if isinstance(y, tuple) else smoothed(y) for name, y in named.items()}
    with drawing(title, 8, 4) as (figure, picture):
        axes = figure.subplots()
        lines(axes, named)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if logarithmic:
            axes.set_yscale("log")
    return picture


def runs(folders, peak=None):
    """All curves of run folders, as ``python -m torch_impl plot`` draws them."""
    buffer = io.BytesIO()
    run_plots.draw(dict(zip(run_plots.names(folders), (run_plots.Curves(folder, peak) for folder in folders))), buffer)
    return Picture(buffer.getvalue(), "Training curves")
