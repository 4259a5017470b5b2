"""What the experiment found: a table, examples, pictures."""

import json
from pathlib import Path

import numpy as np

from numpy_ref.concepts.experiment import LOG, RESULTS, read_rows
from numpy_ref.concepts.settings import PARTS
from numpy_ref.concepts.stories import CHOICES, DOUBT, SENTENCES
from numpy_ref.files import replace
from numpy_ref.plots import BLUE, INK, PALE, QUIET, RED, canvas, smooth

DEFINITION = "words and pictures for people: the wings compute"

REPORT, PICTURE, CURVES = "report.md", "concepts.png", "training.png"
NAMES = {
    "the last sentence again": "the last sentence again", "the mean of the story": "the mean of the story",
    "ridge regression": "ridge regression", "base": "Base-LCM: regression", "decoder": "regression through the decoder",
    "diffusion": "two-tower diffusion", "quantised": "Quant-LCM-d: codes drawn", "residual": "Quant-LCM-c: codes regressed",
    "the sentence itself": "(the sentence that came)",
}  # fmt: skip
COLUMNS = {
    "l2": "distance", "l2_read": "distance, read again", "readable": "readable", "valid": "valid", "top1": "right",
    "information": "information, nats", "contrastive": "contrastive accuracy",
}  # fmt: skip
UNITS = {  # of the losses
    "autoencoder": "nats a byte", "base": "squared distance", "decoder": "nats a byte", "diffusion": "squared distance",
    "quantised": "nats a code", "residual": "squared distance",
}  # fmt: skip
GRAMMAR = """The stories have a known grammar: {choices} of {count} sentences may follow, all equally likely. So nothing can be right
more often than {share:.2f}, and at most {most:.2f} nats can be known. {stories} held-out stories, {seeds}."""
TEXT = """The stories are rows of sentences of {data}, and models are judged on the last tenth of them: {stories} stories, {seeds}. Its
sentences are new to the auto-encoder, too: how many it reads back exactly stands under *right* in the last row, and no model can
be right more often."""
INTRODUCTION = """# Concept models

A sentence auto-encoder makes a *concept* of every sentence, a vector of {concept} numbers from which the sentence can be read
again. The models read a story of {length} sentences as vectors and predict the vector of the last one.
{world}

What is compared:

- **the last sentence again**, **the mean of the story**, **ridge regression** (a linear map of these two): no neural network.
- **Base-LCM**: a causal transformer that is trained to come near the next vector.
- **regression through the decoder**: the same transformer, trained so that the frozen decoder says the next sentence.
- **two-tower diffusion**: begins with noise and takes it off in {samples} steps, looking at what a transformer made of the story.
- **Quant-LCM**: the vector as {codebooks} codes, each one of {entries}, given those before it. **-d** draws a code from a
  distribution; **-c** regresses what the codes so far have left, and takes the nearest code.

What is measured:

- **distance**: of the predicted vector from that of the sentence that came. **read again**: the same after the prediction was
  decoded to a sentence and encoded again: what is left of it once it is said.
- **readable**: share of predictions that read as one of the sentences at all; **right**: as the one that came.
{measures}
What to look for: the mean of all that may follow has the smallest distance, and is none of them. A model that goes for it loses
when the vector is said; one that chooses has a larger distance, and loses nothing.

"""
OF_GRAMMAR = """- **valid**: share that read as a sentence that may follow; **information**: log p(said given the story) - log p(said) under the
  grammar, of which {doubt:.0%} is any sentence.
- **contrastive accuracy**: share of other sentences that are farther from the prediction than the right one; 0.5 is chance. It
  flatters regression here: where {choices} sentences are equally right, their mean is near the one that came, a valid sentence
  mostly is not.
"""
OF_TEXT = """- **contrastive accuracy**: share of other sentences that came after held-out stories and are farther from the prediction than
  the right one; 0.5 is chance.
"""


def write(out, settings):
    """Write the report and the pictures of a run folder; returns the table as text."""
    out = Path(out)
    results, s = read_rows(out / RESULTS), settings
    stories, grammar = max((row.get("stories", 0) for row in results), default=0), not s.data
    facts = {
        "choices": CHOICES, "count": len(SENTENCES), "share": 1 / CHOICES, "doubt": DOUBT, "stories": stories, "data": s.data,
        "most": np.log((1 - DOUBT) * len(SENTENCES) / CHOICES + DOUBT), "concept": s.concept, "samples": s.samples,
        "codebooks": s.codebooks, "entries": s.entries, "length": s.sentences,
        "seeds": f"{s.seeds} seeds: mean ± half of the range" if s.seeds > 1 else "one seed",
    }  # fmt: skip
    parts = {"world": GRAMMAR if grammar else TEXT, "measures": OF_GRAMMAR if grammar else OF_TEXT}
    text = INTRODUCTION.format(**facts, **{name: part.format(**facts) for name, part in parts.items()})
    found = table(results)
    text += f"{found}\n![Distance, and what the prediction is worth]({PICTURE})\n\n![Losses in training]({CURVES})\n\n{examples(results)}"
    replace(out / REPORT, lambda file: file.write(text.encode()))
    _picture(results, out / PICTURE)
    _curves(read_rows(out / LOG), out / CURVES)
    return found


def table(results):
    """The results as Markdown, a row a model, over all seeds."""
    columns = {key: name for key, name in COLUMNS.items() if results and key in results[0]}
    lines = ["| model | parameters | " + " | ".join(columns.values()) + " |", "|---" * (2 + len(columns)) + "|"]
    for model, name in NAMES.items():
        rows = [row for row in results if row["model"] == model]
        if rows:
            size = f"{rows[0]['parameters']:,}" if "parameters" in rows[0] else "0"
            lines.append(f"| {name} | {size} | " + " | ".join(_cell([row[key] for row in rows]) for key in columns) + " |")
    return "\n".join(lines) + "\n"


def _cell(values):
    spread = f" ± {(max(values) - min(values)) / 2:.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def examples(results):
    """What each model said after the same few stories."""
    rows = [row for row in results if row["seed"] == 0]
    if not rows:
        return ""
    lines = ["## What is said next\n"]
    for number, past in enumerate(rows[0]["past"]):
        lines.append(f"*... {past}*\n")
        lines += [f"- {NAMES[row['model']]}: {json.dumps(row['said'][number])}" for row in rows] + [""]
    return "\n".join(lines)


def _picture(results, path):
    models = [model for model in NAMES if any(row["model"] == model for row in results)]
    places = np.arange(len(models))[::-1]
    found = {key: [[row[key] for row in results if row["model"] == model] for model in models] for key in COLUMNS if key in results[0]}
    mean = {key: [np.mean(values) for values in rows] for key, rows in found.items()}
    with canvas(path, figsize=(11, 4.6)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        left.hlines(places, mean["l2"], mean["l2_read"], color=PALE, linewidth=3)
        left.plot(mean["l2"], places, "o", color=BLUE, label="as predicted")
        left.plot(mean["l2_read"], places, "D", color=RED, markersize=4.5, label="said, and read again")
        left.set(title="Distance from the concept that came", yticks=places, xlabel="L2 distance (0: the concept itself)")
        left.set_xlim(-0.02 * max(mean["l2"] + mean["l2_read"]), None)
        left.set_yticklabels([NAMES[model] for model in models], color=INK)
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
        _worth(right, places, found, mean)


def _worth(axes, places, found, mean):
    """Bars of the information in what is said, where the grammar is known, else of contrastive accuracy; a dot for each seed."""
    known = "information" in mean
    name, beside = ("information", "valid") if known else ("contrastive", "top1")
    axes.barh(places, mean[name], color=[PALE if value < 0 else BLUE for value in mean[name]], height=0.55)
    for place, values, share in zip(places, found[name], mean[beside], strict=True):
        if len(values) > 1:
            axes.plot(values, np.full(len(values), place), ".", color=INK, markersize=4)
        axes.text(max(*values, 0) * 1.03 + 0.02, place, f"{share:.0%} {'valid' if known else 'right'}", va="center", color=QUIET)
    if known:
        axes.set(title="Information about the story in what is said", xlabel="nats (below 0: it may not follow)")
    else:
        axes.set(title="Other sentences that are farther than the right one", xlabel="contrastive accuracy (0.5: chance)")
    axes.set_xlim(None, 1.3 * max(0.5, *mean[name]))


def _curves(rows, path):
    parts = [part for part in PARTS if any(row["part"] == part for row in rows)]
    with canvas(path, figsize=(2.6 * max(1, len(parts)), 2.8)) as figure:
        for axes, part in zip(np.ravel(figure.subplots(1, max(1, len(parts)))), parts, strict=False):
            for seed in sorted({row["seed"] for row in rows}):
                own = [row for row in rows if row["part"] == part and row["seed"] == seed]
                steps, losses = [row["step"] for row in own], np.array([row["loss"] for row in own])
                axes.plot(steps, losses, color=PALE, linewidth=0.8)
                axes.plot(steps, smooth(losses), color=BLUE, linewidth=1.4)
            axes.set(title=part, xlabel="step", ylabel=UNITS[part])
