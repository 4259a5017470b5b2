"""What quantised weights cost: bits per byte of held-out text of one trained model in each format, on both sides."""

import importlib

import numpy as np

from bench import clock
from bench.report_parts import NAMES, select, size, table
from bench.trained import held_out, run_folder

FORMATS = {
    "float32": None, "bfloat16": None, "int8": (8, 0), "int4, groups of 32": (4, 32), "int4, groups of 64": (4, 64),
    "int4, groups of 128": (4, 128),
}  # fmt: skip
TOKENS = 16384  # held-out tokens that are read


def groups(options):
    """One job a wing."""
    if options.quick:
        return []
    return [
        [
            {
                "kind": "quality",
                "name": "quantised",
                "implementation": wing,
                "dtype": "float32",
                "compiled": False,
                "allocator": "tuned",
                "shape": {"tokens": TOKENS},
                "modes": [name for name in FORMATS if wing == "torch" or name != "bfloat16"],  # NumPy has none
                "device": "cpu",
                "checkpoint": options.checkpoint,
            }
            for wing in ("torch", "numpy")
        ]
    ]


def measure(job):
    """Bits per byte as ``value``, bytes of the weights as ``memory``, and the time of the evaluation."""
    package = {"numpy": "numpy_ref", "torch": "torch_impl"}[job["implementation"]]

    def module(name):
        return importlib.import_module(f"{package}.{name}")

    run = module("training.checkpoint").load(run_folder(job), dtype="float32")
    tokens, per_token = held_out(job).side("validation")
    evaluate, modes = module("training.evaluate").evaluate, {}
    for mode in job["modes"]:
        params, config = run.params, run.model_config
        if FORMATS[mode]:
            bits, group = FORMATS[mode]
            params = module("model.quantization").quantize_params(params, config, bits, group or 32)
        elif mode == "bfloat16":
            params = {name: value.bfloat16() for name, value in params.items()}
        found = {}

        def call():
            found.update(evaluate(params, config, tokens, 8, None, job["shape"]["tokens"], per_token))

        seconds = clock.timed(call, budget=0, least=1, warm=False)
        weights = sum(_bytes(value) for value in params.values())
        modes[mode] = {"value": found["bits_per_byte"], "memory": weights, "seconds": clock.summary(seconds)}
    size_ = sum(int(np.prod(value.shape)) for value in run.params.values())
    notes = {"parameters": size_, "steps": run.step, "width": run.model_config.width}
    return {"modes": modes, "parity": None, "notes": notes}


def _bytes(value):
    """Bytes of a parameter, or of a quantised one's codes, scales and zeros."""
    if hasattr(value, "codes"):
        return sum(_bytes(part) for part in (value.codes, value.scales, value.zeros) if part is not None)
    return value.nbytes


def sections(found, drawn):
    measured = select(found, kind="quality")
    if not measured:
        return
    exact = {row["implementation"]: row["value"] for row in measured if row["mode"] == "float32"}
    lines = [
        (
            f"{NAMES[row['implementation']]} {row['mode']}",
            f"{row['value']:.4f}",
            f"{row['value'] - exact[row['implementation']]:+.4f}",
            size(row["memory"]),
        )
        for row in measured
    ]
    notes = measured[0]["notes"]
    words = (
        f"A model of {notes['parameters']:,} parameters after {notes['steps']} steps on CPython's help texts, on "
        f"{measured[0]['shape']['tokens']:,} held-out bytes. The matrices of the blocks and the output head are "
        "quantised; the loss is that of one model, and the order of group sizes may differ for another."
    )
    picture = "\n\n![quality of quantised weights](quality.png)" if "quality.png" in drawn else ""
    titles = ("weights", "bits per byte", "against float32", "size of all weights")
    yield f"## Quality of quantised weights\n\n{words}\n\n{table(titles, lines)}{picture}"


def picture(measured):
    """How many bits per byte each format loses, beside the size of its weights."""
    from bench.pictures import COLOURS, INK, figure_with_panels

    measured = [row for row in measured if row["kind"] == "quality"]
    if not measured:
        return None
    figure, panels = figure_with_panels(9.4, 2.9, ncols=2, squeeze=False)
    names = [name for name in reversed(FORMATS) if any(row["mode"] == name for row in measured)]
    wings = [wing for wing in ("torch", "numpy") if any(row["implementation"] == wing for row in measured)]
    exact = {row["implementation"]: row["value"] for row in measured if row["mode"] == "float32"}
    values = {(row["implementation"], row["mode"]): row for row in measured}
    left, right = panels[0]
    for wing, offset in zip(wings, (0.19, -0.19)):
        colour = COLOURS[wing, "float32"]
        for place, name in enumerate(names):
            row = values.get((wing, name))
            if row:
                lost = row["value"] - exact[wing]
                left.barh(place + offset, lost, 0.36, color=colour, label=NAMES[wing] if place == 0 else None)
                left.annotate(f"{lost:+.4f}", (max(lost, 0), place + offset), xytext=(4, 0), va="center", fontsize=7.5,
                              textcoords="offset points")  # fmt: skip
    left.axvline(0, color=INK, linewidth=0.9)
    left.margins(x=0.2)
    left.set_xlabel("bits per byte lost against float32")
    left.set_title("Quality", loc="left")
    left.legend(frameon=False, fontsize=8, loc="upper right")
    for place, name in enumerate(names):
        megabytes = values["torch", name]["memory"] / 2**20 if ("torch", name) in values else 0
        right.barh(place, megabytes, 0.6, color=COLOURS["torch", "float32"])
        right.annotate(f"{megabytes:.1f}", (megabytes, place), xytext=(4, 0), textcoords="offset points", va="center",
                       fontsize=7.5)  # fmt: skip
    right.margins(x=0.12)
    right.set_xlabel("MiB of weights")
    right.set_title("Size", loc="left")
    for axes in (left, right):
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    return figure


PICTURES = {"quality.png": picture}
