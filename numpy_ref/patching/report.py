"""What the experiment on tokenizations found: a table, sentences that follow from it, and pictures."""

from pathlib import Path

import numpy as np

from numpy_ref.files import replace
from numpy_ref.patching.arms import LABELS
from numpy_ref.plots import BLUE, INK, PALE, QUIET, RED, canvas

DEFINITION = "words and pictures of numbers that the wings computed"

COLOURS = {"bytes": QUIET, "bpe": RED, "megabyte": PALE, "blt": BLUE, "hnet": INK}


def write(folder, header, rows, cut):
    """Write report.md and its pictures into a folder; returns their paths.

    header: {"text": one line about the text, "settings": {name: value}, "entropy": a line or None}; rows: results of
    ``Arm.result``; cut: {label: [the pieces of one text as bytes]} for the picture of borders.
    """
    folder = Path(folder)
    found = averages(rows)
    parts = [
        "# Tokenizations: bits per byte for the same training operations\n",
        header["text"],
        "\n".join(verdicts(found)),
        "![Bits per byte of each model](bits_per_byte.png)",
        table(found),
        notes(header),
        "![Bits per byte over training](curves.png)",
        "## One text, cut in different ways\n\n![Where each tokenizer cuts](borders.png)",
    ]
    replace(folder / "report.md", lambda file: file.write(("\n\n".join(parts) + "\n").encode()))
    bars(found, folder / "bits_per_byte.png")
    curves(rows, folder / "curves.png")
    borders(cut, folder / "borders.png")
    return [folder / name for name in ("report.md", "bits_per_byte.png", "curves.png", "borders.png")]


def averages(rows):
    """A row for each arm, the best first: means over seeds, the "lowest" and the "highest" bits per byte."""
    arms = {}
    for row in rows:
        arms.setdefault(row["arm"], []).append(row)
    found = []
    for arm, same in arms.items():
        numbers = {key: float(np.mean([row[key] for row in same])) for key in same[0] if key not in ("arm", "seed", "curve")}
        bits = [row["bits_per_byte"] for row in same]
        found.append(numbers | {"arm": arm, "label": LABELS[arm], "lowest": min(bits), "highest": max(bits), "seeds": len(same)})
    return sorted(found, key=lambda row: row["bits_per_byte"])


def verdicts(found):
    """Sentences: who is best, what n-grams give, whether patches and BPE beat the fair baseline."""
    bits = {row["arm"]: row["bits_per_byte"] for row in found}
    best = found[0]
    yield f"- **{best['label']}** predicts best: {best['bits_per_byte']:.3f} bits per byte."
    if {"bytes", "bytes-ngrams"} <= set(bits):
        gain = bits["bytes"] - bits["bytes-ngrams"]
        yield f"- Hashed n-grams alone change the byte transformer by {-gain:+.3f} ({bits['bytes']:.3f} to {bits['bytes-ngrams']:.3f})."
    if "bytes-ngrams" in bits:
        for arm in ("megabyte", "blt-space", "blt-entropy", "blt-rise", "hnet", "bpe", "bpe-ngrams"):
            if arm in bits:
                change = bits[arm] - bits["bytes-ngrams"]
                better = "beats" if change < 0 else "does not beat"
                yield f"- {LABELS[arm]} {better} the byte transformer with n-grams ({change:+.3f})."


def table(found):
    """The results as Markdown."""
    titles = "| | bits per byte | bytes a unit | parameters | operations a byte | bytes read | steps |"
    lines = [titles, "|---|" + "---:|" * 6]
    for row in found:
        spread = f" ({row['lowest']:.3f} to {row['highest']:.3f})" if row["seeds"] > 1 else ""
        numbers = f"{row['bits_per_byte']:.3f}{spread} | {row['bytes_per_unit']:.2f} | {row['parameters']:,.0f} | "
        numbers += f"{row['flops_per_byte'] / 1e6:.2f}M | {row['bytes_seen'] / 1e6:.2f}M | {row['steps']:,.0f}"
        lines.append(f"| {row['label']} | {numbers} |")
    return "\n".join(lines)


def notes(header):
    """What was done, for whoever wants to judge it."""
    settings = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in header["settings"].items())
    lines = [
        "A unit is what the large model sees as one: a byte, a token, a patch, a chunk. Operations are those of the forward "
        "and the backward pass (three times the forward pass), matrix products and attention; look-ups in tables are free, "
        "and so n-grams cost nothing but memory. The denominator is the bytes of the text itself: every byte but those of "
        "the first token is predicted and counted. What is held out is the beginning of many documents.",
        header["entropy"] or "",
        f"Settings: {settings}.",
    ]
    return "\n\n".join(line for line in lines if line)


def _colour(arm):
    return COLOURS[arm.partition("-")[0]]


def bars(found, path):
    """A bar for each arm, the best on top; a line from the lowest to the highest of its seeds."""
    with canvas(path, figsize=(8, 0.45 * len(found) + 1.2)) as figure:
        axes = figure.subplots()
        places = np.arange(len(found))[::-1]
        values = [row["bits_per_byte"] for row in found]
        axes.barh(places, values, color=[_colour(row["arm"]) for row in found], height=0.7)
        for place, row in zip(places, found):
            axes.plot([row["lowest"], row["highest"]], [place, place], color=INK if _colour(row["arm"]) != INK else QUIET)
            axes.annotate(f" {row['bits_per_byte']:.3f}", (row["highest"], place), va="center", color=INK)
        axes.set_yticks(places, [row["label"] for row in found])
        axes.set(title="Bits per byte of held-out text, the same operations in training", xlim=(0, 1.12 * max(values)))
        axes.grid(axis="y", visible=False)


def curves(rows, path):
    """Bits per byte of the training batches over operations, the first seed of each arm. Where training begins, all fall
    alike; the picture shows what is below 2.2 times the lowest."""
    lowest = min((bits for row in rows for _, bits in row["curve"]), default=1.0)
    with canvas(path, figsize=(8, 5)) as figure:
        axes = figure.subplots()
        for number, row in enumerate(row for row in rows if row["seed"] == 0):
            operations, bits = np.array(row["curve"]).reshape(-1, 2).T
            style = ("-", "--", ":", "-.")[number % 4]
            axes.plot(operations, bits, style, color=_colour(row["arm"]), linewidth=1.5, label=LABELS[row["arm"]])
        axes.set(title="Bits per byte of the training batches", xlabel="floating point operations", ylabel="bits per byte")
        axes.set_ylim(0.95 * lowest, 2.2 * lowest)
        axes.legend(fontsize=8)


def borders(cut, path, width=96):
    """One text, cut in different ways: a block of lines for each tokenizer, its pieces in two shades in turn."""
    lines = {label: _lines(pieces, width) for label, pieces in cut.items()}
    height = sum(len(block) + 1.4 for block in lines.values())
    with canvas(path, figsize=(10, 0.22 * height + 0.3)) as figure:
        axes = figure.subplots()
        axes.set(xlim=(0, width), ylim=(height, -0.6))
        axes.axis("off")
        top = 0.0
        for label, block in lines.items():
            axes.text(0, top, f"{label}: {len(cut[label])} pieces", va="center", fontsize=8, color=QUIET)
            for line in block:
                top += 1
                for start, text, shade in line:
                    colour = (PALE, "#f2d7d2")[shade]
                    axes.barh(top, len(text) - 0.08, left=start, height=0.9, color=colour)
                    for place, character in enumerate(text):
                        axes.text(start + place + 0.5, top, character, ha="center", va="center", family="monospace", fontsize=7)
            top += 1.4


def _lines(pieces, width):
    """Pieces as lines of (column, text, shade): a byte a column; what is not visible ASCII shows as a dot."""
    lines, column = [[]], 0
    for number, piece in enumerate(pieces):
        text = "".join(chr(byte) if 0x20 < byte < 0x7F else "\u00b7" for byte in piece)
        while text:
            part, text = text[: width - column], text[width - column :]
            lines[-1].append((column, part, number % 2))
            column += len(part)
            if column == width:
                lines.append([])
                column = 0
    return [line for line in lines if line]
