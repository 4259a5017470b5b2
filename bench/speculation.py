"""Speculative decoding of a trained model: tokens a second and the share of accepted guesses, against plain greedy.

Guesses come from the text itself (lookup) or from a smaller trained model (draft). Greedy texts must be those of plain
decoding, token for token: nothing is timed before they are.
"""

import numpy as np

from bench import clock, gate
from bench.report_parts import select, table
from bench.trained import held_out, run_folder
from numpy_ref.config import SampleConfig

PROMPT, TOKENS, AHEAD, TEXTS = 64, 96, 4, 3
WAYS = ("plain", "lookup", "draft")


def groups(options):
    if options.quick:
        return []
    return [
        [
            {
                "kind": "speculation",
                "name": "speculation",
                "implementation": "torch",
                "dtype": "float32",
                "compiled": False,
                "allocator": "tuned",
                "shape": {"prompt": PROMPT, "tokens": TOKENS, "ahead": AHEAD, "texts": TEXTS},
                "modes": list(WAYS),
                "device": "cpu",
                "checkpoint": options.checkpoint,
                "draft": options.draft,
            }
        ]
    ]


def measure(job):
    """All ways, taking turns within this process: text after text."""
    from torch_impl.inference.generate import generate
    from torch_impl.inference.speculative import speculative_generate
    from torch_impl.training.checkpoint import load

    target, draft = (load(run_folder(job, role), dtype="float32") for role in ("target", "draft"))
    shape = job["shape"]
    sample = SampleConfig(tokens=shape["tokens"], greedy=True)
    model = target.params, target.model_config
    validation = np.asarray(held_out(job).validation)
    starts = np.linspace(0, len(validation) - shape["prompt"], shape["texts"], dtype=int)
    prompts = [validation[start : start + shape["prompt"]].astype(np.int64).tolist() for start in starts]

    def text(way, prompt, counts):
        if way == "plain":
            return generate(*model, [prompt], sample)[0]
        guesser = (draft.params, draft.model_config) if way == "draft" else None
        return speculative_generate(*model, prompt, sample, guesser, shape["ahead"], counts=counts)

    times, found, counted, memory = {way: [] for way in job["modes"]}, {}, {way: {} for way in job["modes"]}, {}
    for number, prompt in enumerate(prompts):
        for way in job["modes"]:
            counts = {}
            memory[way] = clock.peak_memory(lambda: found.update({(way, number): text(way, prompt, counts)}))
            for name, value in counts.items():
                counted[way][name] = counted[way].get(name, 0) + value
    texts = {way: {str(n): np.asarray(found[way, n]) for n in range(len(prompts))} for way in job["modes"]}
    parity = [gate.compare(texts[way], texts["plain"], "float32") for way in job["modes"]][0]
    for _ in range(job.get("repeats", 3)):
        for way in job["modes"]:
            times[way] += clock.timed(
                lambda: [text(way, prompt, {}) for prompt in prompts], budget=0, least=1, warm=False
            )
    modes = {}
    for way in job["modes"]:
        proposed, accepted = (counted[way].get(name, 0) for name in ("proposed", "accepted"))
        figures = {"proposed": proposed, "accepted": accepted, "steps": counted[way].get("steps", 0)}
        tokens = sum(len(array) for array in texts[way].values())
        modes[way] = {"seconds": clock.summary(times[way]), "tokens": tokens, "memory": memory[way], "figures": figures}
    notes = {
        "parameters": sum(value.numel() for value in target.params.values()),
        "draft parameters": sum(value.numel() for value in draft.params.values()),
        "steps": target.step,
    }
    return {"modes": modes, "parity": parity, "notes": notes}


def sections(found, drawn):
    measured = select(found, kind="speculation")
    if not measured:
        return
    by = {row["mode"]: row for row in measured}
    lines = []
    for way, row in by.items():
        figures, texts = row["figures"], row["shape"]["texts"]
        told = figures["steps"] > 0
        lines.append(
            (
                way,
                f"{row['tokens_per_second']:,.0f}",
                f"{by['plain']['seconds']['median'] / row['seconds']['median']:.2f}",
                f"{figures['accepted'] / figures['proposed']:.0%}" if figures["proposed"] else "-",
                f"{figures['proposed'] / figures['steps']:.1f}" if told else "-",
                f"{row['tokens'] / figures['steps']:.2f}" if told else f"{1:.2f}",
            )
        )
    shape, notes = measured[0]["shape"], measured[0]["notes"]
    words = (
        f"Greedy, {shape['tokens']} tokens after {shape['prompt']} of held-out text, {texts} texts, batch 1, float32, "
        f"{shape['ahead']} tokens ahead. The model has {notes['parameters']:,} parameters and learned for "
        f"{notes['steps']} steps, the draft {notes['draft parameters']:,}. Every text is that of plain decoding."
    )
    picture = "\n\n![speculative decoding](speculation.png)" if "speculation.png" in drawn else ""
    titles = ("way", "tokens/s", "times plain", "guesses accepted", "guesses a pass", "tokens a pass")
    yield f"## Speculative decoding\n\n{words}\n\n{table(titles, lines)}{picture}"


def picture(measured):
    """Speed and the share of accepted guesses."""
    from bench.pictures import COLOURS, INK, figure_with_panels

    measured = [row for row in measured if row["kind"] == "speculation"]
    if not measured:
        return None
    figure, axes = figure_with_panels(6.4, 1.9)
    for place, row in enumerate(reversed(measured)):
        figures, q = row["figures"], row["seconds"]
        axes.barh(place, row["tokens_per_second"], 0.66, color=COLOURS["torch", "float32"])
        axes.plot([row["tokens"] / q["high"], row["tokens"] / q["low"]], [place] * 2, color=INK, linewidth=1.2)
        words = f"{row['tokens_per_second']:,.0f}"
        if figures["proposed"]:
            words += f"; {figures['accepted'] / figures['proposed']:.0%} of guesses accepted"
        axes.annotate(words, (row["tokens"] / q["low"], place), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(measured)), [row["mode"] for row in reversed(measured)])
    axes.set_xlim(0, 1.6 * max(row["tokens_per_second"] for row in measured))
    axes.set_xlabel("tokens a second (median; line: quartiles)")
    axes.set_title("Speculative decoding against plain", loc="left")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    return figure


PICTURES = {"speculation.png": picture}
