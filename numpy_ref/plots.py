"""The pictures of a run, in one restrained style."""

import contextlib
import warnings

import numpy as np

DEFINITION = "pictures of numbers that the wings computed"

INK, QUIET, BLUE, PALE, RED = "#22262b", "#8a9099", "#2f6db3", "#b9d0ea", "#c8503c"
STYLE = {
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8eaed",
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "savefig.dpi": 160,
}


@contextlib.contextmanager
def canvas(path, **arguments):
    """A figure in the project's style, saved to ``path``; drawn off screen, on any machine."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a letter without a glyph shows as a box
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained", **arguments)
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path)


def smooth(values):
    """Centred Gaussian average, a hundredth of the run wide: it neither lags behind a falling curve nor runs ahead."""
    if not len(values):
        return np.zeros(0)
    width = max(1.0, len(values) / 100)
    reach = min(int(3 * width), (len(values) - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def training_curve(rows, path, title="Training"):
    """Loss, learning rate and gradient norm over steps, from the rows of ``log.jsonl``, as a PNG at ``path``."""
    rows = [row for row in rows if row.get("loss") is not None and row.get("lr") is not None]  # no skipped steps
    steps = [row["step"] for row in rows]
    with canvas(path, figsize=(8, 8)) as figure:
        loss, rate, norm = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))
        figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold")
        _loss(loss, steps, [row["loss"] for row in rows], [row for row in rows if row.get("val_loss") is not None])
        rate.plot(steps, [1000 * row["lr"] for row in rows], color=BLUE, linewidth=1.6)
        rate.set(title="Learning rate", ylabel="step size × 1000", ylim=(0, None))
        measured = [(row["step"], row["grad_norm"]) for row in rows if row.get("grad_norm") is not None]
        norms = [value for _, value in measured]
        norm.plot([step for step, _ in measured], norms, color=PALE, linewidth=0.8)
        norm.plot([step for step, _ in measured], smooth(norms), color=BLUE, linewidth=1.6)
        norm.set(title="Gradient norm, before clipping", ylabel="L2 norm", xlabel="optimiser step", ylim=(0, None))
        figure.align_ylabels()


def _loss(axes, steps, values, held_out):
    """Training loss (each step, and smoothed) with the held-out losses marked and a few of them named."""
    axes.plot(steps, values, color=PALE, linewidth=0.8, label="training, each step")
    axes.plot(steps, smooth(values), color=BLUE, linewidth=1.8, label="training, smoothed")
    if held_out:
        x, y = [row["step"] for row in held_out], [row["val_loss"] for row in held_out]
        axes.plot(x, y, color=RED, linewidth=1, marker="o", markersize=4.5, label="held-out")
        for i in range(len(x) - 1, -1, -max(1, -(-len(x) // 6))):
            axes.annotate(
                f"{y[i]:.2f}", (x[i], y[i]), xytext=(0, 8), textcoords="offset points", ha="center", color=RED,
                fontsize=9, fontweight="bold" if i == len(x) - 1 else "normal", path_effects=halo(),
            )
    axes.set(title="Loss", ylabel="nats per token")
    axes.legend(loc="upper right")


def halo():
    """A white edge, so that letters stay readable on lines."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]


def attention_maps(weights, labels, path, title="Where each head looks", first_layer=0, first_head=0):
    """Attention of every layer (rows) and head (columns) on one text, as a PNG at ``path``.

    ``weights`` (layers, heads, T, T): row i is the distribution of token i over the tokens it sees; ``labels``: T short
    texts. Colours are square-root scaled: weak attention stays visible beside a head that looks at a single token. What
    lies in a token's future, which causal attention hides, is grey. ``first_layer`` and ``first_head`` number the rows and
    columns.
    """
    layers, heads, length, _ = weights.shape
    labels = [_visible(label) for label in labels]
    side = min(4.0, max(1.6, 0.085 * length))  # inches
    font = {"fontsize": min(8, 62 * side / length), "family": "monospace"}
    with canvas(path, figsize=(side * heads + 1.8, side * layers + 1.3)) as figure:
        from matplotlib.colors import PowerNorm

        grid = figure.subplots(layers, heads, squeeze=False)
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
        figure.suptitle(title, x=0.01, ha="left", fontsize=15, fontweight="bold")
        for layer, row in enumerate(grid):
            row[0].set_ylabel(f"layer {first_layer + layer}\nfrom token", fontsize=10)
            for head, axes in enumerate(row):
                seen = np.where(np.tri(length, dtype=bool), weights[layer, head], np.nan)
                image = axes.imshow(seen, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
                _frame(axes)
                left, bottom = (labels if outer else [] for outer in (head == 0, layer == layers - 1))
                axes.set_yticks(range(len(left)), left, **font)
                axes.set_xticks(range(len(bottom)), bottom, **font)
                if layer == 0:
                    axes.set_title(f"head {first_head + head}", loc="center", fontsize=10)
        for axes in grid[-1]:
            axes.set_xlabel("to token", fontsize=10)
        bar = figure.colorbar(image, ax=grid, fraction=0.012, pad=0.008, shrink=0.6, ticks=(0, 0.05, 0.25, 0.5, 1))
        bar.set_label("attention weight")
        bar.outline.set_visible(False)


def _frame(axes):
    """A light frame, no grid, no tick marks."""
    axes.set_facecolor("#f1f2f4")
    axes.tick_params(length=0, pad=2)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, color="#d5d9de")


def _visible(label):
    """A label one can see: spaces and line ends as signs, other control characters as ¤."""
    signs = {" ": "·", "\n": "↵", "\t": "⇥"}
    return "".join(signs.get(c, c if c.isprintable() else "¤") for c in label)
