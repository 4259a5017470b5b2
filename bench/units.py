"""Part 10, both sides: the models of concepts, thoughts, contexts and bytes, hyperbolic space, the tokenizers beside BPE.

The NumPy reference and eager Torch do the same work on the same weights and data, at the sizes of the experiments: a
training step (forward, backward, clipping, AdamW), sampling, decoding with a cache, training a tokenizer and encoding
with it from an empty cache. Loss and all gradients, ids, whole vocabularies are held against the float64 reference
before anything is timed.
"""

import math

from bench import byte_cases, clock, gate, rows, unit_cases
from bench.report_parts import factor, milliseconds, select, table
from bench.unit_cases import Side

KIND = "units"
BUDGET = 0.4  # seconds a measurement
PACKAGES = {"numpy": "numpy_ref", "torch": "torch_impl"}
PEER = "hf_tokenizers"
AREAS = {
    "concepts": {
        "auto-encoder, step": unit_cases.autoencoder,
        "Base-LCM, step": unit_cases.concept_step("base"),
        "two towers, step": unit_cases.concept_step("diffusion"),
        "Quant-LCM, step": unit_cases.concept_step("quantised"),
        "two towers, next concept by DDIM": unit_cases.next_concept("diffusion"),
        "Quant-LCM, next concept": unit_cases.next_concept("quantised"),
    },
    "thoughts and context": {
        "continuous thoughts, step": unit_cases.thought_step("thought"),
        "codes, step": unit_cases.thought_step("code"),
        "continuous thoughts, decoding": unit_cases.decoding("thought", 1),
        "codes, beam of 4": unit_cases.decoding("code", 4),
        "gated context, step": unit_cases.context_step,
    },
    "bytes": {
        "byte transformer, step": byte_cases.byte_step("bytes"),
        "byte transformer + n-grams, step": byte_cases.byte_step("bytes-ngrams"),
        "MegaByte, step": byte_cases.byte_step("megabyte"),
        "BLT, space patches, step": byte_cases.byte_step("blt-space"),
        "H-Net, step": byte_cases.byte_step("hnet"),
        "hashed n-grams": byte_cases.ngrams,
        "EMA scan": byte_cases.ema_scan,
    },
    "hyperbolic space": {
        **{name: byte_cases.curved(name) for name in ("lorentz.distance", "lorentz.exp_map", "lorentz.log_map")},
        **{name: byte_cases.curved(name) for name in ("poincare.distance", "poincare.exp_map", "poincare.log_map")},
        "tree in the Lorentz model, step": byte_cases.tree_step("lorentz"),
        "tree in the ball, step": byte_cases.tree_step("poincare"),
    },
    "tokenizers": {
        f"{kind} {name}": case(kind)
        for kind in byte_cases.CLASSES
        for name, case in (("training", byte_cases.learning), ("encoding", byte_cases.writing))
    },
}
WORK = {
    "concepts": "stories", "thoughts and context": "rows", "bytes": "bytes", "hyperbolic space": "points",
    "tokenizers": "bytes",
}  # fmt: skip
THEIRS = ("unigram encoding", "wordpiece encoding")  # what Hugging Face does the same way
HALF = ("byte transformer, step", "byte transformer + n-grams, step", "MegaByte, step", "BLT, space patches, step")


def groups(options):
    """An area a group: both sides, for bytes bfloat16 too, for tokenizers the peer."""
    if options.quick or options.device != "cpu":
        return []
    found = []
    for area, cases in AREAS.items():
        dtype = "int64" if area == "tokenizers" else "float32"
        jobs = [_job(area, who, dtype, cases) for who in PACKAGES]
        jobs += [_job(area, "torch", "bfloat16", HALF)] if area == "bytes" else []
        jobs += [_job(area, PEER, dtype, THEIRS)] if area == "tokenizers" and options.peers else []
        found.append(jobs)
    return found


def _job(area, implementation, dtype, modes):
    return {
        "kind": KIND, "name": area, "implementation": implementation, "dtype": dtype, "compiled": False,
        "allocator": "tuned", "shape": {"size": "experiment"}, "modes": list(modes), "device": "cpu",
    }  # fmt: skip


# -- in the worker ------------------------------------------------------------------------------------------------


def measure(job):
    """The answer to a job; see ``worker``."""
    area, who = job["name"], job["implementation"]
    side = PEER if who == PEER else Side(PACKAGES[who], job["dtype"])
    exact = Side("numpy_ref", "float64")
    modes, parities = {}, []
    for mode in job["modes"]:
        make = AREAS[area][mode]
        case = make(side, mode)
        wanted = gate.cached(job.get("cache"), f"{KIND} {area} {mode}", lambda make=make, mode=mode: make(exact, mode).results())
        results = {f"{mode}: {key}": value for key, value in case.results().items()}
        wanted = {f"{mode}: {key}": value for key, value in wanted.items()}
        parities.append(gate.compare(results, wanted, job["dtype"], case.slack))
        slow = area == "tokenizers"  # calls of seconds, and one has been made
        seconds = clock.timed(case.call, "cpu", job.get("budget", BUDGET), least=1 if slow else 3, warm=not slow)
        modes[mode] = {"seconds": clock.summary(seconds), "tokens": case.count}
        modes[mode] |= {} if slow else {"memory": clock.peak_memory(case.call)}
    return {"modes": modes, "parity": max(parities, key=lambda parity: parity["worst"])}


# -- in the report ------------------------------------------------------------------------------------------------


def sections(found, drawn):
    """A table for each area, and one picture of all."""
    measured = select(found, kind=KIND)
    if not measured:
        return
    words = " ".join(__doc__.split("\n\n", 1)[1].split())
    yield f"## Part 10, both sides\n\n{words}" + ("\n\n![times faster](units.png)" if "units.png" in drawn else "")
    for area, cases in AREAS.items():
        more = {
            "bytes": ("torch", "bfloat16", "bfloat16", "times faster"),
            "tokenizers": (PEER, "int64", "Hugging Face", "its time / ours"),
        }.get(area)
        lines = []
        for mode in cases:
            sides = {(row["implementation"], row["dtype"]): row for row in measured if (row["name"], row["mode"]) == (area, mode)}
            dtype = "int64" if area == "tokenizers" else "float32"
            one, other = sides.get(("numpy", dtype)), sides.get(("torch", dtype))
            line = [mode, milliseconds(one), milliseconds(other), _times(one, other), _rate(other)]
            if more:
                third = sides.get(more[:2])
                line += [milliseconds(third), _times(third, other) if third and third["implementation"] == PEER else _times(one, third)]
            lines.append(line)
        titles = ["", "NumPy, ms", "Torch, ms", "times faster", f"{WORK[area]}/s, Torch"]
        yield f"### {area.capitalize()}\n\n" + table(titles + ([f"{more[2]}, ms", more[3]] if more else []), lines)


def _times(slow, fast):
    """How many times faster, with its quartiles; both of one run."""
    if not (slow and fast and slow["run"] == fast["run"]):
        return ""
    low, middle, high = rows.ratio(slow, fast)
    return f"{factor(middle)} [{factor(low)}, {factor(high)}]"


def _rate(row):
    return f"{row['tokens_per_second']:,.0f}" if row else ""


def _picture(measured):
    """How many times faster Torch is, a bar a case, area by area; a darker one below where it computes in bfloat16."""
    from bench.pictures import COLOURS, INK, figure_with_panels
    from bench.pictures import _legend as legend

    ratios = {}
    for row in select(measured, kind=KIND, implementation="torch"):
        same = [one for one in select(measured, kind=KIND, implementation="numpy", name=row["name"], mode=row["mode"]) if one["run"] == row["run"]]
        if same:
            ratios.setdefault((row["name"], row["mode"]), {})[row["dtype"]] = rows.ratio(same[0], row)
    places = [(area, mode) for area, cases in AREAS.items() for mode in cases if (area, mode) in ratios]
    if not places:
        return None
    figure, axes = figure_with_panels(7.4, 0.25 * len(places) + 1.0)
    for place, key in enumerate(places):
        found = sorted(ratios[key].items(), key=lambda item: item[0] == "bfloat16")
        for number, (dtype, (low, middle, high)) in enumerate(found):
            at, height = (place, 0.72) if len(found) == 1 else (place - 0.2 + 0.4 * number, 0.38)
            label = None if dtype == "int64" else f"Torch {dtype}"
            axes.barh(at, math.log10(middle), height=height, color=COLOURS["torch", "bfloat16" if number else "float32"], label=label)
            axes.plot([math.log10(low), math.log10(high)], [at] * 2, color=INK, linewidth=1)
            where = max(0.0, math.log10(high)), at
            axes.annotate(factor(middle), where, xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5)
    values = [math.log10(value) for found in ratios.values() for ratio in found.values() for value in ratio]
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if math.log10(tick) <= max(values) + 0.1]
    axes.set_xticks([math.log10(tick) for tick in ticks], [f"{tick:g}x" for tick in ticks])
    axes.set_xlim(min(0.0, *values) - 0.01, max(values) + 0.2)
    axes.set_yticks(range(len(places)), [mode for _, mode in places], fontsize=7.5)
    axes.set_ylim(len(places) - 0.4, -0.6)
    for place in range(1, len(places)):
        if places[place][0] != places[place - 1][0]:
            axes.axhline(place - 0.5, color=INK, linewidth=0.4)
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_xlabel("times faster than the NumPy reference (line: quartiles)")
    axes.set_title("Part 10: what the fast side gains", loc="left")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    legend(axes, "upper right")
    return figure


PICTURES = {"units.png": _picture}
