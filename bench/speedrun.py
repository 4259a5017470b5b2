"""Time to a loss: nanoGPT's published CPU recipe, the preset ``speedrun``, and what each step from one to the other bought.

The recipe trains a character model for 2,000 steps (github.com/karpathy/nanoGPT, "I only have a macbook"): 4 layers of
width 128, 4 heads, context 64, batch 12, AdamW, float32. Here it is a plain PyTorch model, with the initial weights and
batches of our first step, so that both learn the same thing and differ in speed alone.

Every other step has as many training steps as fit into the time of nanoGPT's 2,000, which is measured beside it: all
curves end at about the same second, and its own schedule ends there. Evaluations stop the clock; compiling does not.
"""

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench import gate
from bench.report_parts import select, table
from numpy_ref.config import ModelConfig, TrainConfig, parameter_count
from numpy_ref.data.corpus import SOURCES
from numpy_ref.presets import preset

KIND = "speedrun"
RECIPE = (
    ModelConfig(
        context=64, layers=4, width=128, heads=4, feed_forward=512, positions="learned", norm_bias=False,
        feed_forward_bias=False, tie_embeddings=True,
    ),
    TrainConfig(steps=2000, batch=12, lr=1e-3, warmup=100, final_lr=0.1, beta2=0.99, dtype="float32", device="cpu"),
)  # fmt: skip
POINTS = 25  # evaluations along a curve
SEEN = 8192  # held-out tokens that each of them reads
PACE = 2.0  # seconds for which a speed is measured before the steps are counted
SLACK = 4  # of the parity gate, as for whole training steps elsewhere


@dataclass(frozen=True)
class Step:
    """A step of the ladder: what it changes in the settings before. ``aside``: tried, and not kept by those after it."""

    name: str
    model: dict = field(default_factory=dict)
    train: dict = field(default_factory=dict)
    compiled: bool = False
    aside: bool = False


LADDER = (
    Step("nanoGPT's recipe, plain PyTorch"),
    Step("the same, this project's code"),
    Step("bfloat16", {}, {"dtype": "bfloat16"}),
    Step("16 rows of 128 tokens, rate 3e-3", {"context": 128}, {"batch": 16, "lr": 3e-3}),
    Step(
        "RMS norm, RoPE, SwiGLU, a head of its own",
        {"norm": "rms", "positions": "rope", "activation": "swiglu", "feed_forward": 384, "tie_embeddings": False},
    ),
    Step("Muon, rate 8e-3", {}, {"optimizer": "muon", "lr": 8e-3}),
    Step(
        "rate 0.02 after 10 steps, 0 at the end; momentum 0.9",
        {},
        {"lr": 0.02, "warmup": 10, "final_lr": 0.0, "momentum": 0.9, "beta2": 0.95},
    ),
    Step("embeddings times sqrt(width), larger initial weights", {"embedding_scale": math.sqrt(128), "init_std": 0.05}),
    Step("norm of queries and keys", {"qk_norm": True}),
    Step("tried: compiled", compiled=True, aside=True),
    Step("tried: loss in chunks of 512 tokens", {}, {"loss_chunk": 512}, aside=True),
    Step("the preset speedrun"),
)


def configs(number):
    """(ModelConfig, TrainConfig) of a step of the ladder; the last is the preset."""
    if number == len(LADDER) - 1:
        model, train = preset("speedrun")
        return model, replace(train, device="cpu")
    model, train = RECIPE
    for step in [*(step for step in LADDER[:number] if not step.aside), LADDER[number]]:
        model, train = replace(model, **step.model), replace(train, **step.train)
    return model, train


def groups(options):
    """A group for each step of the ladder: each is run once, for it takes a minute or more."""
    from bench.plan import job

    if options.quick or options.device != "cpu":
        return []
    source, found = Path(options.data).name, []
    data = options.data if options.data in SOURCES else str(Path(options.data).resolve())
    for number, step in enumerate(LADDER):
        who = ("plain", "default") if number == 0 else ("torch", "tuned")
        shape = {"source": source, "step": step.name, "points": POINTS}
        dtype = configs(number)[1].dtype
        one = job(KIND, f"{source}: {step.name}", who[0], dtype, "cpu", ["run"], who[1], step.compiled, **shape)
        found.append([one | {"number": number, "data": data, "rounds": 1, "timeout": 3600}])
    return found


# -- in the worker ------------------------------------------------------------------------------------------------


def measure(job):
    """The answer to a job: the final held-out loss as ``value``, the seconds of training, and the curve as a note."""
    from numpy_ref.data.token_files import prepare
    from torch_impl.device import choose_dtype
    from torch_impl.tokenizers.byte import encode

    text = prepare(job["data"], Path(job["cache"]) / "speedrun", encode, np.uint8)
    baseline, number = Plainly(text, *RECIPE), job["number"]
    model, train = configs(number)
    runner = Ours(text, model, train, job["compiled"]) if number else baseline
    dtype = str(choose_dtype(train.dtype, "cpu", model)).removeprefix("torch.")
    parity = gate.compare(runner.first(), runner.reference(), dtype, SLACK)
    allowed, compiling = RECIPE[1].steps * baseline.pace()[0], 0.0
    if 0 < number < len(LADDER) - 1:
        pace, first = runner.pace()
        compiling = first if job["compiled"] else 0.0
        runner.train = replace(train, steps=max(1, int((allowed - compiling) / pace)))
    seconds, curve = learnt(runner, text.validation, job["shape"]["points"], compiling)
    final = runner.loss(text.validation)
    notes = {"curve": curve, "steps": runner.train.steps, "allowed": allowed, "parameters": parameter_count(model)}
    mode = {"value": final, "tokens": runner.train.steps * runner.train.batch * model.context, "memory": None}
    mode["seconds"] = {"median": seconds, "fastest": seconds, "repeats": 1}
    return {"modes": {"run": mode}, "parity": parity, "notes": notes}


def learnt(runner, held_out, points, clock=0.0):
    """(seconds, curve) of a whole run; curve: [seconds, held-out loss] about ``points`` times, on a part of the text.

    clock: seconds that were spent before, on compiling.
    """
    steps, curve = runner.train.steps, []
    for step in range(steps):
        start = time.perf_counter()
        runner.step(step)
        clock += time.perf_counter() - start
        if (step + 1) * points // steps > step * points // steps:
            curve.append([round(clock, 3), runner.loss(held_out[: SEEN + 1])])
    return clock, curve


class Ours:
    """The training step of the fast side under these settings."""

    def __init__(self, text, model, train, compiled=False):
        import torch

        from torch_impl.model.initialise import initialise
        from torch_impl.model.transformer import transformer
        from torch_impl.training.optimizer import init_states

        self.text, self.model, self.train = text, model, train
        self.extra = {"forward": torch.compile(transformer)} if compiled else {}
        self.params = initialise(model, train.seed, torch.float32)
        self.states = init_states(self.params, train)

    def batch(self, step):
        from torch_impl.data.batches import batch

        train = self.train
        return batch(self.text.train, step * train.batch, train.batch, self.model.context, train.seed)

    def first(self):
        """Loss and gradients of the first batch."""
        from bench.candidates import named
        from torch_impl.training.step import loss_and_grads

        return named(*loss_and_grads(self.params, *self.batch(0), self.model, self.train, 0))

    def reference(self):
        """The same in float64, by the reference."""
        from bench.candidates import named
        from numpy_ref.model.initialise import initialise
        from numpy_ref.training.step import loss_and_grads

        params = {name: value.astype(np.float64) for name, value in initialise(self.model, self.train.seed, np.float32).items()}
        exact = replace(self.train, dtype="float64")
        return named(*loss_and_grads(params, *(x.numpy() for x in self.batch(0)), self.model, exact, 0))

    def step(self, number):
        from torch_impl.training.step import train_step

        train_step(self.params, self.states, *self.batch(number), self.model, self.train, number, **self.extra)

    def loss(self, tokens):
        """Nats a byte on held-out text."""
        from torch_impl.training.evaluate import evaluate

        return evaluate(self.params, self.model, tokens, 32)["loss"]

    def pace(self):
        """(seconds of a step, of the first step): of another run of this kind, so that this one begins at its beginning."""
        other, seconds = type(self)(self.text, self.model, replace(self.train, lr=1e-9)), []
        other.extra = self.extra
        while len(seconds) < 4 or sum(seconds[3:]) < PACE:
            start = time.perf_counter()
            other.step(len(seconds))
            seconds.append(time.perf_counter() - start)
        return sum(seconds[3:]) / len(seconds[3:]), seconds[0]


class Plainly(Ours):
    """nanoGPT's recipe as plain PyTorch: modules, autograd, ``torch.optim.AdamW``; no biases, tied embeddings."""

    def __init__(self, text, model, train):
        import torch

        from bench.plain import Plain
        from torch_impl.model.initialise import initialise
        from torch_impl.training.adamw import decays

        self.text, self.model, self.train, self.module, self.extra = text, model, train, Plain(model), {}
        for part in self.module.modules():
            if isinstance(part, (torch.nn.Linear, torch.nn.LayerNorm)):
                part.bias = None
        self.module.load_state_dict(initialise(model, train.seed, torch.float32), strict=False)
        self.module.output.weight = self.module.token_embedding.weight
        groups = {True: [], False: []}
        for name, param in self.module.named_parameters():
            groups[decays(name, param.shape)].append(param)
        decay = [{"params": params, "weight_decay": train.weight_decay * has} for has, params in groups.items()]
        self.optimizer = torch.optim.AdamW(decay, lr=train.lr, betas=(train.beta1, train.beta2), eps=train.eps)

    def first(self):
        from bench.candidates import named

        loss = self._gradients(0)
        found = named(loss, {name: param.grad for name, param in self.module.named_parameters()})
        self.optimizer.zero_grad(set_to_none=True)
        return found

    def step(self, number):
        import torch

        from torch_impl.training.schedules import learning_rate

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, self.train)
        self._gradients(number)
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.train.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _gradients(self, number):
        import torch.nn.functional as F

        inputs, targets = self.batch(number)
        loss = F.cross_entropy(self.module(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        return loss

    def loss(self, tokens):
        import torch
        import torch.nn.functional as F

        from torch_impl.data.batches import evaluation_windows

        total, count = 0.0, 0
        with torch.inference_mode():
            for inputs, targets in evaluation_windows(tokens, self.model.context, 32):
                total += F.cross_entropy(self.module(inputs).flatten(0, 1), targets.flatten(), reduction="sum").item()
                count += targets.numel()
        return total / count


# -- in the report ------------------------------------------------------------------------------------------------


def reached(curve, target):
    """Seconds at which a curve first passes below the target, on a line between its points; None where it does not."""
    before = None
    for seconds, loss in curve:
        if loss <= target:
            if before is None:
                return seconds
            share = (before[1] - target) / (before[1] - loss)
            return before[0] + share * (seconds - before[0])
        before = seconds, loss
    return None


def runs(found):
    """{source: rows in the order of the ladder} of the texts for which its first step was measured."""
    order, sources = [step.name for step in LADDER], {}
    for row in select(found, kind=KIND):
        if row["shape"]["step"] in order:
            sources.setdefault(row["shape"]["source"], []).append(row)
    for measured in sources.values():
        measured.sort(key=lambda row: order.index(row["shape"]["step"]))
    return {source: measured for source, measured in sources.items() if measured[0]["implementation"] == "plain"}


def sections(found, drawn):
    """For each text a table: how fast each step of the ladder gets to where nanoGPT ends, and where it ends itself."""
    for number, (source, measured) in enumerate(runs(found).items()):
        first, lines = measured[0], []
        whole, target = first["seconds"]["median"], first["notes"]["curve"][-1][1]
        for row in measured:
            passed = reached(row["notes"]["curve"], target)
            lines.append(
                (
                    row["shape"]["step"],
                    f"{row['tokens_per_second']:,.0f}",
                    f"{row['notes']['steps']:,}",
                    f"{row['seconds']['median']:.1f}",
                    "-" if passed is None else f"{passed:.1f}",
                    "-" if passed is None else f"{whole / passed:.1f}",
                    f"{row['value']:.3f}",
                    f"{row['value'] - first['value']:+.3f}",
                )
            )
        titles = ("step", "tokens/s", "steps", "s", "s to nanoGPT's loss", "times sooner", "final loss", "against nanoGPT")
        words = (
            f"Bytes of {source}: training for as long as nanoGPT's published CPU recipe takes for its 2,000 steps, and the "
            "loss on held-out text in nats a byte. Each line changes what it names in the line before and keeps the rest, "
            "but for what was only tried; the last is `train --preset speedrun`. Evaluations stop the clock, compiling does "
            "not. A small text is read several times in that minute: steps that learn faster then also learn it by heart "
            "sooner, and lose at the end some of what they gained."
        )
        picture = "\n\n![speedrun](speedrun.png)" if "speedrun.png" in drawn and number == 0 else ""  # of all texts
        words = words if number == 0 else f"The same on {source}."
        yield f"## Speedrun: {source}\n\n{words}\n\n{table(titles, lines)}{picture}"


def picture(measured):
    """Held-out loss over seconds, one panel a text, one curve a step of the ladder."""
    from matplotlib import colormaps

    from bench.pictures import INK, figure_with_panels

    found, order = runs(measured), [step.name for step in LADDER]
    if not found:
        return None
    figure, panels = figure_with_panels(6.2 * len(found), 4.2, ncols=len(found), squeeze=False)
    for axes, (source, group) in zip(panels.flat, found.items()):
        target = group[0]["notes"]["curve"][-1][1]
        axes.axhline(target, color=INK, linewidth=0.8, linestyle=":")
        for row in group:
            place = order.index(row["shape"]["step"])
            ends, tried = place in (0, len(order) - 1), LADDER[place].aside
            colour = INK if place == 0 else colormaps["turbo"](0.08 + 0.84 * place / len(order))
            style = {"linewidth": 2.4 if ends else 1.2, "linestyle": "--" if tried else "-", "color": colour}
            axes.plot(*zip(*row["notes"]["curve"]), **style, label=row["shape"]["step"])
        lowest = min(loss for row in group for _, loss in row["notes"]["curve"])
        axes.set_ylim(lowest - 0.05, target + 1.0)
        axes.set_xlabel("seconds of training")
        axes.set_ylabel("held-out loss, nats a byte")
        axes.set_title(f"Speedrun: {source}", loc="left")
        axes.grid()
        axes.legend(frameon=False, fontsize=7)
    return figure


PICTURES = {"speedrun.png": picture}
