"""Pictures of the rows: who trains how fast, Torch against NumPy by component, and the roofline."""

import math

from bench import kinds, rows

COLOURS = {("numpy", "float32"): "#d9822b", ("torch", "float32"): "#5b8fd6", ("torch", "bfloat16"): "#1f4e9c"}
COLOURS |= {("torch", "int8"): "#3fa796", ("torch", "int4"): "#176b5f"}
PEER = {"float32": "#b9bec7", "bfloat16": "#868d99"}
INK, FAINT = "#2b2f36", "#e6e8ec"


def draw(folder, found):
    """Write the pictures that the rows allow; returns their file names."""
    import matplotlib

    matplotlib.use("Agg")
    style = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "axes.titleweight": "bold",
        "axes.titlesize": 10,
        "figure.dpi": 150,
    }
    made = []
    with matplotlib.rc_context(style):
        measured = [row for row in found if row["status"] == "ok"]
        for name, picture in (
            ("training.png", lambda: _speeds(measured, "training")),
            ("generation.png", lambda: _speeds(measured, "generation")),
            ("components.png", lambda: _components(measured)),
            ("roofline.png", lambda: _roofline(measured)),
            *((name, lambda p=p: p(measured)) for m in kinds.modules() for name, p in m.PICTURES.items()),
        ):
            figure = picture()
            if figure:
                figure.savefig(folder / name, bbox_inches="tight", metadata={"Software": None})
                made.append(name)
    return made


def figure_with_panels(width, height, **more):
    """Without pyplot: no global state, nothing to close."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**more)


def _speeds(measured, kind):
    """Tokens a second, one panel a model, two in a row, the fastest on top."""
    groups = {}
    for row in measured:
        if row["kind"] == kind:
            groups.setdefault(row["name"], []).append(row)
    if not groups:
        return None
    columns, lines = min(2, len(groups)), -(-len(groups) // 2)
    heights = [0.28 * max(map(len, list(groups.values())[2 * line : 2 * line + 2])) + 1.1 for line in range(lines)]
    figure, panels = figure_with_panels(
        5.2 * columns + 1, sum(heights), nrows=lines, ncols=columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axes in panels.flat[len(groups) :]:
        axes.set_axis_off()
    for axes, (name, group) in zip(panels.flat, groups.items()):
        group.sort(key=lambda row: row["tokens_per_second"])
        speed_bars(axes, group)
        axes.set_xlabel("tokens a second (median; line: quartiles)")
        axes.set_title(f"{name}: {kind}", loc="left")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    return figure


def speed_bars(axes, group):
    """Tokens a second of each row as a bar with its quartiles, the first at the bottom."""
    from bench.report_parts import label

    for place, row in enumerate(group):
        q = row["seconds"]
        speed, low, high = row["tokens_per_second"], row["tokens"] / q["high"], row["tokens"] / q["low"]
        axes.barh(
            place,
            speed,
            color=COLOURS.get((row["implementation"], row["dtype"])) or PEER[row["dtype"]],
            height=0.72,
            hatch="///" if row["compiled"] else None,
            edgecolor="white",
            linewidth=0,
        )
        axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
        axes.annotate(
            f"{speed:,.0f}",
            (max(speed, high), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(group)), [label(row) for row in group])
    axes.set_xlim(0, 1.16 * max(max(row["tokens_per_second"], row["tokens"] / row["seconds"]["low"]) for row in group))


def _components(measured):
    """How many times faster Torch is than NumPy, forward and backward together, on a logarithmic axis."""
    from bench.report import by_side
    from bench.report_parts import factor

    bars = []
    for name in dict.fromkeys(row["name"] for row in measured if row["kind"] == "component"):
        sides = by_side(measured, name, "both") or by_side(measured, name, "forward")
        reference = sides.pop("numpy", None)
        if reference and sides:
            bars.append(
                (
                    name,
                    {side: rows.ratio(reference, row) for side, row in sides.items() if row["run"] == reference["run"]},
                )
            )
    if not bars:
        return None
    bars.sort(key=lambda bar: max(q[1] for q in bar[1].values()) if bar[1] else 0)
    figure, axes = figure_with_panels(7.4, 0.34 * len(bars) + 1.2)
    for place, (_, speeds) in enumerate(bars):
        offsets = (0.19, -0.19) if len(speeds) == 2 else (0,)
        for offset, (side, (low, middle, high)) in zip(offsets, sorted(speeds.items())):
            colour = COLOURS[("torch", "bfloat16" if "bfloat16" in side else "float32")]
            name = side.replace("torch", "Torch")
            axes.barh(place + offset, math.log10(middle), height=0.36, color=colour, label=name)
            axes.plot([math.log10(low), math.log10(high)], [place + offset] * 2, color=INK, linewidth=1)
            left = middle < 1
            axes.annotate(
                factor(middle),
                (math.log10(low if left else high), place + offset),
                xytext=(-3 if left else 3, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                fontsize=7,
            )
    _powers(axes, [math.log10(q) for _, speeds in bars for q3 in speeds.values() for q in q3])
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(bars)), [name.replace("_", " ") for name, _ in bars])
    axes.set_ylim(-0.7, len(bars) - 0.3)
    axes.set_xlabel("times faster than NumPy float32 (forward and backward; line: quartiles)")
    axes.set_title("What the fast side gains", loc="left")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    _legend(axes, "lower right")
    return figure


def _powers(axes, values):
    """Ticks at 1, 2, 5, 10, ... on an axis of logarithms, so that bars may begin at 1."""
    low, high = min([0, *values]), max([0.3, *values])
    ticks = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in (1, 2, 5)]
    ticks = [tick for tick in ticks if low - 0.05 <= math.log10(tick) <= high + 0.1]
    axes.set_xticks([math.log10(tick) for tick in ticks], [f"{tick:g}x" for tick in ticks])
    axes.set_xlim(low - 0.2 if low < 0 else 0, high + 0.15)


def _roofline(measured):
    """Operations a second over operations a byte, under the limits that this machine showed."""
    from bench.report_parts import select

    limits = [row for row in measured if row["kind"] == "machine"]
    peaks = rows.peaks(limits) if limits else None
    markers = {"component": "o", "training": "s", "generation": "^"}
    points = [
        row
        for row in measured
        if row["kind"] in markers and row["mode"] in ("both", "step", "generate")
        if row.get("flops") and row.get("bytes") and "roofline" in row
    ]
    if not (peaks and points):
        return None
    figure, axes = figure_with_panels(7.6, 5.0)
    intensities = [row["flops"] / row["bytes"] for row in points]
    span = (
        min(intensities) / 3,
        max([*intensities, *(rate / min(peaks["copy"].values()) for rate in peaks["matmul"].values())]) * 3,
    )
    slow, fast = min(peaks["copy"].values()), max(peaks["copy"].values())
    for dtype, rate in peaks["matmul"].items():
        for copy, dashes in ((fast, "-"), (slow, "--")):
            grid = [span[0], rate / copy, span[1]]
            axes.plot(grid, [min(rate, copy * x) for x in grid], dashes, color=COLOURS[("torch", dtype)], linewidth=1.2)
        highest = max(peaks["matmul"].values())
        above = rate == highest or 1.3 * rate < highest
        axes.annotate(
            f"{dtype} products, {rate / 1e9:,.0f} GFLOP/s",
            (span[1], rate),
            xytext=(0, 2 if above else -2),
            textcoords="offset points",
            ha="right",
            va="bottom" if above else "top",
            fontsize=7.5,
        )
    axes.annotate(
        f"slopes: copies from cache {fast / 1e9:,.0f} GB/s, from memory {slow / 1e9:,.0f} GB/s",
        (0.01, 0.99),
        xycoords="axes fraction",
        va="top",
        fontsize=7.5,
    )
    for row, x in zip(points, intensities):
        colour = COLOURS.get((row["implementation"], row["dtype"])) or PEER[row["dtype"]]
        axes.scatter(
            x,
            row["flops"] / row["seconds"]["median"],
            s=26,
            color=colour,
            marker=markers[row["kind"]],
            zorder=3,
            edgecolor="white",
            linewidth=0.4,
        )
    for row in select(points, implementation="torch", dtype="float32", kind="component"):
        axes.annotate(
            row["name"].replace("_", " "),
            (row["flops"] / row["bytes"], row["flops"] / row["seconds"]["median"]),
            xytext=(4, -7),
            textcoords="offset points",
            fontsize=6.5,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=span,
        xlabel="operations for each byte that must move",
        ylabel="operations a second",
    )
    axes.set_title("Against the limits of this machine", loc="left")
    axes.grid(which="major")
    for who, colour in (
        ("NumPy", COLOURS["numpy", "float32"]),
        ("Torch float32", COLOURS["torch", "float32"]),
        ("Torch bfloat16", COLOURS["torch", "bfloat16"]),
        ("peers", PEER["bfloat16"]),
    ):
        axes.scatter([], [], s=26, color=colour, label=who)
    for kind, marker in markers.items():
        axes.scatter([], [], s=26, color="white", edgecolor=INK, linewidth=0.8, marker=marker, label=kind)
    _legend(axes, "lower right")
    return figure


def _legend(axes, place):
    handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
    axes.legend(handles.values(), handles.keys(), loc=place, frameon=False, fontsize=8)
