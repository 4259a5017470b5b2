"""Do experts pay, do they stay in balance, what do they learn? ``python -m bench.experts`` trains small models to see.

    dense           a feed-forward network of width 192 in each of four layers
    no balancing    the first layer dense, then 8 experts of width 96 a layer, 2 a token: as many active parameters
    loss            the same, with the balancing loss of arXiv:2101.03961 in what is minimised
    bias            the same, with the balancing bias of arXiv:2408.15664 at its rate, 0.001 a step, and no loss
    fast bias       at ten times that rate, for these runs are short

Three seeds each, on the same text (CPython's help topics, and as much source of its library), with equal steps; a seed
draws weights and batches, the same for all as far as shapes agree. Figures are of held-out text at the end.
Each finished run is a row of results/experts/rows.jsonl, from which report and pictures are made; a run whose row is
there is not trained again, so the program goes on where it was stopped.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from bench import environment, experts_report, rows
from numpy_ref import expert_log, log
from numpy_ref.config import active_parameter_count, parameter_count
from numpy_ref.data import corpus
from numpy_ref.data.token_files import Dataset, prepare
from numpy_ref.presets import preset
from numpy_ref.progress import Progress
from torch_impl.data.batches import evaluation_windows
from torch_impl.model.balance import expert_load
from torch_impl.model.transformer import transformer
from torch_impl.tokenizers.byte import encode
from torch_impl.training.evaluate import evaluate
from torch_impl.training.loop import train

SEEDS = (0, 1, 2)
STEPS = 300
TOPICS = ("help", "code")
PACKAGES = ("asyncio/",)  # of the library: about as much text as the help topics
CLASSES = ("small letters", "capitals", "digits", "spaces", "line ends", "marks")
SIZE = {"width": 64, "feed_forward": 192, "context": 64, "embedding_scale": 8.0}
HYBRID = {"experts": 8, "experts_per_token": 2, "expert_width": 96, "dense_layers": 1}
ARMS = {
    "dense": ({}, {}),
    "no balancing": (HYBRID, {"balance_loss": 0.0}),
    "loss": (HYBRID, {"balance_loss": 0.01}),
    "bias": (HYBRID | {"router_bias": True}, {"balance_loss": 0.0, "router_bias_rate": 1e-3}),
    "fast bias": (HYBRID | {"router_bias": True}, {"balance_loss": 0.0, "router_bias_rate": 1e-2}),
}
KEPT = 5  # of the loads in the log, every fifth step is kept


def main(argv=None):
    """Train what is not there yet, write the report; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.experts", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results/experts"), help="folder of rows and report")
    parser.add_argument("--work", type=Path, default=Path("runs/experts"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    parser.add_argument("--report", action="store_true", help="train nothing; write the report of the rows")
    options = parser.parse_args(argv)
    path = options.out / "rows.jsonl"
    found = rows.read([path]) if path.exists() else []
    jobs = [(arm, seed) for seed in SEEDS[: options.seeds] for arm in ARMS] if not options.report else []
    done = {(row["arm"], row["seed"]) for row in found}
    for arm, seed in (job for job in jobs if job not in done):
        print(f"{arm}, seed {seed}", file=sys.stderr, flush=True)
        row = run(arm, seed, options.work)
        options.out.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            file.write(json.dumps(row) + "\n")
        found.append(row)
    print(experts_report.write(options.out, found))
    return 0


def texts(folder):
    """{topic: Dataset}, each with held-out text of its own."""
    source = folder / "code"
    for document in corpus.documents("stdlib"):
        if document.name.startswith(PACKAGES):
            path = source / document.name.replace("/", "-")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(document.text)
    sources = {"help": "pydoc", "code": source}
    return {topic: prepare(sources[topic], folder / f"{topic}-tokens", encode, "uint8") for topic in TOPICS}


def joined(found):
    """The topics one after the other, as one Dataset."""
    sides = {side: np.concatenate([getattr(found[topic], side) for topic in TOPICS]) for side in ("train", "validation")}
    sizes = {f"{side}_bytes": sum(getattr(found[topic], f"{side}_bytes") for topic in TOPICS) for side in sides}
    return Dataset(**sides, **sizes, header={})


def configs(arm, seed):
    """(ModelConfig, TrainConfig) of a run."""
    model, settings = preset("speedrun")
    model_changes, changes = ARMS[arm]
    settings = dataclasses.replace(
        settings, steps=STEPS, seed=seed, device="cpu", eval_every=50, eval_tokens=1 << 13, save_every=0, **changes
    )
    return dataclasses.replace(model, **SIZE, **model_changes), settings


def run(arm, seed, work):
    """Train one model; its row."""
    found, folder = texts(work / "text"), work / f"{arm.replace(' ', '-')}-{seed}"
    model, settings = configs(arm, seed)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    start = perf_counter()
    trained = train(model, settings, joined(found), folder, report=Progress(settings.steps))
    logged = log.read_rows(folder / log.NAME)
    row = {
        "arm": arm,
        "seed": seed,
        "steps": settings.steps,
        "tokens": trained.tokens,
        "parameters": parameter_count(model),
        "active": active_parameter_count(model),
        "seconds": round(perf_counter() - start, 1),
        "commit": environment.revision()[0],
        "environment": environment.describe("cpu"),
        "curve": [(one["step"], one["val_loss"]) for one in logged if one.get("val_loss") is not None],
    }
    ends = {topic: evaluate(trained.params, model, found[topic].validation, 32) for topic in TOPICS}
    count = sum(end["tokens"] for end in ends.values())
    row["loss"] = {topic: end["loss"] for topic, end in ends.items()}
    row["loss"]["all"] = sum(end["loss"] * end["tokens"] for end in ends.values()) / count
    if model.experts:
        history = expert_log.history(logged)
        row["load"] = {
            "step": history["step"][::KEPT].tolist(),
            "share": history["load"][::KEPT].round(3).tolist(),
            "violation": expert_log.violation(history["load"]).mean(1)[::KEPT].round(3).tolist(),
            "entropy": history["entropy"].mean(1)[::KEPT].round(3).tolist(),
        }
        row["chosen"] = {topic: chosen(trained.params, model, found[topic].validation).tolist() for topic in TOPICS}
    return row


@torch.inference_mode()
def chosen(params, config, tokens):
    """How often each expert was chosen for a byte of each class: (L, E, C) int64, over a text."""
    routing = [{"capacity": None, "noise": None}] * config.layers
    total = np.zeros((len(config.moe_layers), config.experts, len(CLASSES)), np.int64)
    for inputs, _ in evaluation_windows(tokens, config.context, 32):
        _, routes = transformer(inputs, params, config, logits=False, routing=routing)
        kinds = classes(inputs.numpy())
        for layer, route in enumerate(routes):
            for kind in range(len(CLASSES)):
                slots = route["indices"][torch.from_numpy(kinds == kind)]
                total[layer, :, kind] += expert_load(slots, config.experts).numpy()
    return total


def classes(tokens):
    """The class of each byte, a number in ``CLASSES``. Shapes: (...) -> (...) int64."""
    table = np.full(256, CLASSES.index("marks"))
    for name, members in (("small letters", range(97, 123)), ("capitals", range(65, 91)), ("digits", range(48, 58))):
        table[list(members)] = CLASSES.index(name)
    table[[ord(" "), ord("\t")]] = CLASSES.index("spaces")
    table[ord("\n")] = CLASSES.index("line ends")
    return table[tokens]


if __name__ == "__main__":
    sys.exit(main())
