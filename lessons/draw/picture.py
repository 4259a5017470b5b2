"""A picture that notebooks show, that can be saved, and that is drawn alike everywhere."""

import contextlib
import io
import warnings
from pathlib import Path

from numpy_ref import plots

# Okabe and Ito's colours ("Color universal design", 2008), which colour-blind people tell apart. Lines differ in dash as
# well, so that a grey print can be read.
INK, QUIET = plots.INK, plots.QUIET
BLUE, RED, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
DASHES = ((None, None), (5, 1.5), (1.5, 1.5), (6, 1.5, 1.5, 1.5), (3, 1), (8, 2))
MARKS = "osD^vP"
STYLE = plots.STYLE | {"savefig.dpi": 110}


class Picture:
    """A PNG. Jupyter shows it; ``save`` writes it to a file."""

    def __init__(self, png, title=""):
        self.png, self.title = png, title

    def _repr_png_(self):
        return self.png

    def __repr__(self):
        return f"Picture({self.title!r})"

    def save(self, path):
        Path(path).write_bytes(self.png)


@contextlib.contextmanager
def drawing(title, width=8.0, height=4.5):
    """A figure to draw on; ``as (figure, picture)``, and the picture is filled when the context ends."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Picture(b"", title)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        yield figure, picture
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        picture.png = buffer.getvalue()


def lines(axes, curves, x=None):
    """Named curves, each in its own colour and dash, with its name at the right end: name -> y or (x, y)."""
    for number, (name, y) in enumerate(curves.items()):
        along, y = y if isinstance(y, tuple) else (range(len(y)) if x is None else x, y)
        style = {"color": COLOURS[number % 6], "dashes": DASHES[number % 6], "linewidth": 1.8, "label": name}
        axes.plot(along, y, **style)
    if len(curves) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02))
