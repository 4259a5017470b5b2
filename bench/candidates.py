"""Whole programs to measure: a training step and a generated text, on either wing. `peers` has the same for others.

A candidate has ``first_call()`` (compiles what compiles), ``results()`` and ``reference()`` for the gate, ``call()`` to
be timed, and its work: ``tokens``, ``flops`` and ``bytes`` a call.
"""

import importlib
from dataclasses import replace

import numpy as np

from bench import gate, sides, work
from numpy_ref.config import SampleConfig, TrainConfig, parameter_count
from numpy_ref.presets import preset

PROMPT = 16  # tokens given before generation begins
SLACK = 4  # of the parity gate: roundings of a whole model and its backward pass


def make(job):
    """The candidate of a job."""
    if job["implementation"] not in ("numpy", "torch"):
        from bench import peers

        return peers.make(job)
    return {"training": Training, "generation": Generation}[job["kind"]](job)


def model_config(job, **changes):
    """The preset's model without dropout, which other projects draw differently."""
    shape = job["shape"]
    return replace(preset(shape["preset"])[0], dropout=0.0, context=shape["context"], **changes)


def is_modern(job):
    """Whether the preset is a Llama, which peers have too, but for the scale of the embedding."""
    return preset(job["shape"]["preset"])[0].positions == "rope"


def train_config(job):
    return TrainConfig(
        steps=10_000,
        warmup=100,
        batch=job["shape"]["batch"],
        dtype=job["dtype"],
        device=job.get("device", "cpu"),
        **job["shape"].get("settings", {}),
    )


def initial_params(config, folder=None):
    """The same initial weights for everybody: the reference's, in float32. Kept in ``folder`` for other processes."""
    from numpy_ref.model.initialise import initialise

    return gate.cached(folder, f"weights {config}", lambda: initialise(config, 0, np.float32))


def tokens_and_targets(job):
    shape = job["shape"]
    rows = np.random.default_rng(1).integers(0, 256, (shape["batch"], shape["context"] + 1))
    return rows[:, :-1].copy(), rows[:, 1:].copy()


def reference_step(job, config):
    """Loss and gradients of the first step by the float64 reference."""
    from numpy_ref.training.step import loss_and_grads

    params = {name: value.astype(np.float64) for name, value in initial_params(config).items()}
    return loss_and_grads(
        params, *tokens_and_targets(job), config, replace(train_config(job), dtype="float64", device="cpu"), 0
    )


def training_work(job, config):
    """(tokens, operations, bytes) of a step. Bytes: weights and both moments read and written once, in float32."""
    shape = job["shape"]
    forward, backward = work.model_flops(config, shape["batch"], shape["context"])
    return shape["batch"] * shape["context"], forward + backward, 24 * parameter_count(config)


def generation_work(job, config):
    """(tokens, operations, bytes) of a text. Bytes: every weight once for each token, as with a key-value cache."""
    tokens, size = job["shape"]["tokens"], {"float32": 4, "bfloat16": 2}[job["dtype"]]
    forward, _ = work.model_flops(config, 1, PROMPT + tokens)
    return tokens, forward, tokens * size * parameter_count(config)


def prompt():
    return np.random.default_rng(2).integers(0, 256, PROMPT)


def reference_text(job, config):
    """What the float64 reference says: logits of the prompt and, to check float32, the tokens."""
    from numpy_ref.inference.generate import generate
    from numpy_ref.model.transformer import transformer

    params = {name: value.astype(np.float64) for name, value in initial_params(config).items()}
    logits, _ = transformer(prompt()[None], params, config)
    found = {"logits": logits}
    if job["dtype"] == "float32":  # coarser formats may part ways at a near tie
        sample = SampleConfig(tokens=job["shape"]["tokens"], greedy=True)
        found["tokens"] = np.asarray(generate(params, config, [prompt()], sample)[0])
    return found


class Training:
    """One step of this project's own training: forward, backward, clipping, AdamW."""

    def __init__(self, job):
        same = {"embedding_scale": 1.0} if is_modern(job) else {}
        self.job, self.config, self.train = job, model_config(job, **same), train_config(job)
        self.reference_label = repr(self.config)
        self.step = importlib.import_module(f"{package(job)}.training.step")
        self.params, self.extra = _weights(job, self.config)
        self.states = importlib.import_module(f"{package(job)}.training.optimizer").init_states(
            self.params, self.train
        )
        self.inputs, self.targets = (_tokens(job, x) for x in tokens_and_targets(job))
        self.tokens, self.flops, self.bytes = training_work(job, self.config)
        self.notes = {"parameters": parameter_count(self.config)}

    def first_call(self):
        scaled = {"scale": 2.0**16} if self.job["dtype"] == "float16" else {}  # as the step scales the loss at first
        self.found = self.step.loss_and_grads(
            self.params, self.inputs, self.targets, self.config, self.train, 0, **self.extra, **scaled
        )

    def results(self):
        loss, grads = self.found
        del self.found
        return named(loss, grads)

    def reference(self):
        return named(*reference_step(self.job, self.config))

    def call(self):
        metrics, self.params, self.states = self.step.train_step(
            self.params, self.states, self.inputs, self.targets, self.config, self.train, 0, **self.extra
        )
        return metrics


class Generation:
    """A greedy text from one prompt."""

    def __init__(self, job):
        self.job, self.config = job, model_config(job)
        self.reference_label = repr((self.config, job["dtype"] == "float32"))
        wing = package(job)
        self.generate = importlib.import_module(f"{wing}.inference.generate").generate
        self.transformer = importlib.import_module(f"{wing}.model.transformer").transformer
        self.params, _ = _weights(job, self.config)
        if job["implementation"] == "torch":
            self.params = {name: value.to(_dtype(job)) for name, value in self.params.items()}
        self.sample = SampleConfig(tokens=job["shape"]["tokens"], greedy=True)
        self.prompt = _tokens(job, prompt())
        self.tokens, self.flops, self.bytes = generation_work(job, self.config)
        self.notes = {"parameters": parameter_count(self.config)}

    def first_call(self):
        self.text = self.call()

    def results(self):
        logits = self.transformer(self.prompt[None], self.params, self.config)
        logits = logits[0] if isinstance(logits, tuple) else logits
        found = {"logits": sides.flatten(logits)["y"]}
        if self.job["dtype"] == "float32":
            found["tokens"] = np.asarray(self.text)
        return found

    def reference(self):
        return reference_text(self.job, self.config)

    def call(self):
        return self.generate(self.params, self.config, [self.prompt], self.sample)[0]


def named(loss, grads):
    """Loss and gradients as one flat dict of NumPy arrays."""
    arrays = sides.flatten({"loss": loss, "grad": grads}, "")
    return {name.removeprefix("."): value for name, value in arrays.items()}


def package(job):
    """The wing of a job."""
    return {"numpy": "numpy_ref", "torch": "torch_impl"}[job["implementation"]]


def _dtype(job):
    import torch

    return getattr(torch, job["dtype"])


def _tokens(job, array):
    if job["implementation"] == "numpy":
        return array
    import torch

    return torch.from_numpy(array).to(job.get("device", "cpu"))


def _weights(job, config):
    """(float32 parameters of the wing, further arguments of its step)."""
    params = initial_params(config)
    if job["implementation"] == "numpy":
        return params, {}
    import torch

    params = {name: torch.from_numpy(value).to(job.get("device", "cpu")) for name, value in params.items()}
    if not job.get("compiled"):
        return params, {}
    from torch_impl.model.transformer import transformer

    return params, {"forward": torch.compile(transformer)}
