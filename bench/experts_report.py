"""The report of ``bench.experts``: words, tables and pictures of its rows. Nothing is measured here."""

import statistics

import numpy as np

from bench.report_parts import table
from numpy_ref import plots
from numpy_ref.files import replace

MEANINGS = {
    "dense": "dense",
    "no balancing": "experts, no balancing",
    "loss": "experts, balancing loss",
    "bias": "experts, bias, 0.001 a step",
    "fast bias": "experts, bias, 0.01 a step",
}
COLOURS = {"dense": "#22262b", "no balancing": "#D55E00", "loss": "#0072B2", "bias": "#E69F00", "fast bias": "#009E73"}
IDLE = 0.1  # of an equal share: an expert with less than this is counted as idle


def write(out, found):
    """experts.md and its pictures in the folder ``out``; returns the path of the text."""
    text, arms = ["# Experts against a dense model", "", words(found)], by_arm(found)
    text += ["", "## Held-out loss", "", losses(arms)]
    if len(arms) == len(MEANINGS):
        balance_picture(out / "balance.png", arms)
        roles_picture(out / "roles.png", arms)
        text += ["", "## Collapse and cure", "", balance(arms), "", "![load of the experts over training](balance.png)"]
        text += ["", "## What the experts read", "", roles(arms), "", "![what the experts read](roles.png)"]
    path = out / "experts.md"
    replace(path, lambda file: file.write(("\n".join(text) + "\n").encode()))
    return path


def by_arm(found):
    """{arm: its rows by seed}, in the order of ``MEANINGS``."""
    order = [arm for arm in MEANINGS if any(row["arm"] == arm for row in found)]
    return {arm: sorted((row for row in found if row["arm"] == arm), key=lambda row: row["seed"]) for arm in order}


def words(found):
    from bench import experts

    row, topics = found[0], " and ".join(experts.TOPICS)
    counts = {arm: rows[0] for arm, rows in by_arm(found).items()}
    sizes = "; ".join(f"{MEANINGS[arm]}: {one['active']:,} active of {one['parameters']:,}" for arm, one in counts.items())
    return (
        f"`python -m bench.experts` trained these models: {row['steps']} steps on {row['tokens']:,} bytes of two topics ({topics}: CPython's "
        f"help topics, and the source of its package asyncio), four layers of width {experts.SIZE['width']}, Muon. With experts the first layer is dense, and "
        f"each other layer has {experts.HYBRID['experts']} of width {experts.HYBRID['expert_width']}, of which a byte goes to "
        f"{experts.HYBRID['experts_per_token']}. Parameters: {sizes}. A seed draws weights and batches. PyTorch "
        f"{row['environment']['torch'].partition('+')[0]}, {row['environment']['cpu']}."
    )


# -- held-out loss ------------------------------------------------------------------------------------------------


def losses(arms):
    """Nats a byte at the end, of every seed, and against the dense model of the same seed."""
    dense = {row["seed"]: row["loss"]["all"] for row in arms.get("dense", [])}
    lines = []
    for arm, rows in arms.items():
        ends = [row["loss"]["all"] for row in rows]
        apart = [row["loss"]["all"] - dense[row["seed"]] for row in rows if row["seed"] in dense and arm != "dense"]
        lines.append(
            (
                MEANINGS[arm],
                ", ".join(f"{end:.3f}" for end in ends),
                f"**{statistics.mean(ends):.3f}**",
                ", ".join(f"{one:+.3f}" for one in apart),
                *(f"{statistics.mean(row['loss'][topic] for row in rows):.3f}" for topic in ("help", "code")),
            )
        )
    titles = ("model", "nats a byte (seeds)", "mean", "less the dense model's (seeds)", "help", "code")
    return table(titles, lines)


# -- balance ------------------------------------------------------------------------------------------------------


def shares(row):
    """Each expert's share of the choices on held-out text. Shapes: (L, E)."""
    load = sum(np.array(counts, float).sum(-1) for counts in row["chosen"].values())
    return load / load.sum(-1, keepdims=True)


def balance(arms):
    """The busiest expert, idle ones, and the entropy of the loads, on held-out text."""
    lines = []
    for arm, rows in list(arms.items())[1:]:
        loads = [shares(row) for row in rows]
        experts = loads[0].shape[-1]
        idle = [int((load * experts < IDLE).sum()) for load in loads]
        lines.append(
            (
                MEANINGS[arm],
                ", ".join(f"{(experts * load.max(-1)).mean():.2f}" for load in loads),
                ", ".join(map(str, idle)) + f" of {loads[0].size}",
                ", ".join(f"{np.exp(entropy(load)).mean():.1f}" for load in loads),
            )
        )
    titles = ("held-out text", "busiest expert, times an equal load", f"idle experts (below {IDLE:g} of it)", "experts in use (exp of entropy)")
    note = "Means over the layers, one number a seed. The picture is of seed 0, and of all seeds in its last panel."
    return f"{table(titles, lines)}\n\n{note}"


def entropy(p):
    """Nats. Shapes: p (..., n) -> (...)."""
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), -1)


def balance_picture(path, arms):
    """Heat maps of the loads over training, an arm a line and a layer a column; below, the busiest expert of each seed."""
    from matplotlib.colors import TwoSlopeNorm

    mixed = list(arms)[1:]
    layers, experts = np.array(arms[mixed[0]][0]["load"]["share"]).shape[1:]
    with plots.canvas(path, figsize=(9.5, 10)) as figure:
        figure.suptitle("Load of the experts over training", x=0.01, ha="left", fontsize=13, fontweight="bold")
        outer = figure.add_gridspec(2, 1, height_ratios=(7.2, 2.6))
        grid = outer[0].subgridspec(len(mixed), layers).subplots(sharex=True, sharey=True, squeeze=False)
        for line, arm in zip(grid, mixed):
            load = arms[arm][0]["load"]
            for layer, axes in enumerate(line):
                image = axes.imshow(
                    experts * np.array(load["share"])[:, layer].T, aspect="auto", origin="lower", cmap="RdBu_r",
                    interpolation="nearest", norm=TwoSlopeNorm(1, 0, experts / 2),
                    extent=(load["step"][0], load["step"][-1], -0.5, experts - 0.5),
                )  # fmt: skip
                axes.grid(False)
                axes.set_yticks(range(0, experts, 2), range(1, experts + 1, 2))
            line[0].set_ylabel(f"{MEANINGS[arm].partition(', ')[2]}\nexpert")
        for layer, axes in enumerate(grid[0]):
            axes.set_title(f"mixture {layer + 1}")
        bar = figure.colorbar(image, ax=grid, fraction=0.02, pad=0.01, ticks=(0, 0.5, 1, 2, 3, 4), aspect=40)
        bar.set_label("times an equal load")
        bar.outline.set_visible(False)
        axes = figure.add_subplot(outer[1])
        for arm in mixed:
            curves = [1 + plots.smooth(row["load"]["violation"]) for row in arms[arm]]
            steps = arms[arm][0]["load"]["step"]
            for curve in curves:
                axes.plot(steps, curve, color=COLOURS[arm], linewidth=0.7, alpha=0.45)
            axes.plot(steps, np.mean(curves, 0), color=COLOURS[arm], linewidth=2, label=MEANINGS[arm].partition(", ")[2])
        axes.axhline(1, color=plots.QUIET, linewidth=0.8)
        axes.set(title="Busiest expert, times an equal load (thick: mean of the seeds)", xlabel="optimiser step", ylim=(0, 5))
        axes.legend(loc="upper right", ncols=len(mixed))


# -- what they read -----------------------------------------------------------------------------------------------


def information(joint):
    """What knowing the expert says about the other thing, as a share of what there is to know.

    Shapes: counts joint (..., E, C) -> (...): mutual information over the entropy of the second.
    """
    p = joint / joint.sum((-2, -1), keepdims=True)
    rows, columns = p.sum(-1), p.sum(-2)
    both = entropy(p.reshape(*p.shape[:-2], -1))
    return (entropy(rows) + entropy(columns) - both) / entropy(columns)


def joints(row):
    """Counts on held-out text: experts and classes of bytes (L, E, C), experts and topics (L, E, topics)."""
    topics = [np.array(counts, float) for counts in row["chosen"].values()]
    return sum(topics), np.stack([counts.sum(-1) for counts in topics], -1)


def roles(arms):
    """How much an expert says about the byte that it reads and about the topic."""
    lines = []
    for arm, rows in list(arms.items())[1:]:
        for layer in range(shares(rows[0]).shape[0]):
            told = [[information(joint[layer]) for joint in joints(row)] for row in rows]
            lines.append(
                (f"{MEANINGS[arm]}, mixture {layer + 1}", *(", ".join(f"{100 * one:.0f} %" for one in column) for column in zip(*told)))
            )
    titles = ("held-out text (seeds)", "of the class of the byte read", "of the topic")
    note = (
        "How much of the uncertainty about the class (small letters, capitals, digits, spaces, line ends, marks) and about the "
        "topic is gone once the expert is known: mutual information over entropy, 0 where experts read everything alike."
    )
    return f"{table(titles, lines)}\n\n{note}"


def roles_picture(path, arms, arm="fast bias"):
    """What each expert of seed 0 reads, as shares of its bytes, over the shares in the text: classes and topics."""
    from matplotlib.colors import LogNorm

    from bench.experts import CLASSES, TOPICS

    joint = np.concatenate(joints(arms[arm][0]), -1)
    names = [*CLASSES, *(f"topic {topic}" for topic in TOPICS)]
    layers, experts = joint.shape[:2]
    parts = [slice(0, len(CLASSES)), slice(len(CLASSES), None)]
    lift = np.empty_like(joint)
    for part in parts:
        own = joint[..., part] / joint[..., part].sum(-1, keepdims=True).clip(min=1)
        text = joint[..., part].sum(-2, keepdims=True) / joint[..., part].sum((-2, -1), keepdims=True)
        lift[..., part] = own / text.clip(min=1e-12)  # a class that the text has not
    with plots.canvas(path, figsize=(9.5, 4.6)) as figure:
        figure.suptitle(f"What the experts read ({MEANINGS[arm].partition(', ')[2]}, seed 0)", x=0.01, ha="left", fontsize=13, fontweight="bold")
        grid = figure.subplots(1, layers, sharey=True)
        for layer, axes in enumerate(grid):
            order = np.lexsort((-lift[layer].max(-1), lift[layer, :, : len(CLASSES)].argmax(-1)))
            image = axes.imshow(lift[layer, order].T.clip(0.1, 10), aspect="auto", cmap="RdBu_r", norm=LogNorm(0.1, 10))
            axes.axhline(len(CLASSES) - 0.5, color="white", linewidth=3)
            axes.grid(False)
            axes.set(title=f"mixture {layer + 1}", xlabel="expert")
            axes.set_xticks(range(experts), order + 1)
            axes.set_yticks(range(len(names)), names)
        bar = figure.colorbar(image, ax=grid, fraction=0.03, pad=0.01)
        bar.set_ticks([0.1, 0.2, 0.5, 1, 2, 5, 10], labels=["1/10", "1/5", "1/2", "1", "2", "5", "10"])
        bar.ax.minorticks_off()
        bar.set_label("times its share of the text")
        bar.outline.set_visible(False)
