"""Bytes, hyperbolic space and tokenizers for `units`: as in `unit_cases`."""

import functools
import importlib
from dataclasses import replace

import numpy as np

from bench import hyperbolic
from bench.sides import flatten
from bench.unit_cases import Case, drawn_weights, generator
from bench.work import to_bfloat16
from numpy_ref.config import TrainConfig
from numpy_ref.data import corpus
from numpy_ref.hyperbolic import embedding_arms
from numpy_ref.hyperbolic.graphs import balanced_tree
from numpy_ref.patching import arms
from numpy_ref.patching import config as patch_config
from numpy_ref.tokenizers import tokenizer_file
from numpy_ref.tokenizers.patches import space_starts

SETTINGS, EMBEDDINGS, TREE = arms.SIZES["cpu"], embedding_arms.SIZES["cpu"], (3, 5)
BYTES_PER_TOKEN = 2.6  # of the experiment's BPE; the arms ask for it
UNLIKE = 0.62  # share of chance in H-Net's router, the rest compares bytes as they are: 4 to 5 bytes a chunk


# -- bytes and patches --------------------------------------------------------------------------------------------


def _windows(settings, context):
    """(inputs, targets) of real text."""
    data = np.frombuffer(text().encode(), np.uint8)
    places = generator("windows").integers(0, len(data) - context - 1, settings.batch)
    rows = data[places[:, None] + np.arange(context + 1)].astype(np.int64)
    return rows[:, :-1], rows[:, 1:]


def byte_step(arm):
    """A training step of an arm of the experiment on tokenizations; its patches are found before."""

    def case(side, name):
        settings = SETTINGS
        config = arms.configs(settings, BYTES_PER_TOKEN)[arm]
        inputs, targets = _windows(settings, config.context)
        starts = space_starts(inputs) if config.kind == "blt" else None
        weights = drawn_weights(patch_config.parameter_shapes(config), name)
        for key in (key for key in weights if key.startswith("route.")):
            weights[key] = to_bfloat16(UNLIKE * weights[key] + (1 - UNLIKE) * np.eye(config.width))
        master = replace(side, dtype="float32") if side.dtype == "bfloat16" else side
        params, train = master.place(weights), TrainConfig(beta2=0.95, weight_decay=0.1, clip=1.0)
        inputs, targets, starts = side.place((inputs, targets, starts))
        step, more = side.module("patching.step"), {}
        if master is not side:
            import torch

            more = {"dtype": getattr(torch, side.dtype)}
        kept = [params, side.module("training.optimizer").init_states(params, train)]

        def call():
            kept[:] = step.train_step(*kept, inputs, targets, config, train, 1e-3, starts, **more)[1:]

        def results():
            return flatten(step.loss_and_grads(params, inputs, targets, config, starts, **more))

        return Case(call, results, inputs.shape[0] * inputs.shape[1], 8)

    return case


def _differentiated(side, path, function, arguments, after, count, slack=4.0):
    """Forward and backward of a component by ``arguments``, its first ones; ``after``: those that follow."""
    run, values = getattr(side.module(path), function), [side.place(value) for value in arguments.values()]
    if side.torch:
        import torch

        leaves = [leaf for value in values for leaf in (value.values() if isinstance(value, dict) else [value])]
        leaves = [leaf.requires_grad_() for leaf in leaves if leaf.is_floating_point()]
    value = side.function(path, function)(*values, *after)
    dy = side.place(np.asarray(to_bfloat16(generator(function).standard_normal(tuple(value.shape)))))

    def both():
        if side.torch:
            value = run(*values, *after)
            return value, torch.autograd.grad(value, leaves, dy)
        value, vjp = run(*values, *after)
        return value, vjp(dy)

    def results():
        value, grads = both()
        parts = grads if isinstance(grads, tuple) else (grads,)
        found = [part for grad in parts for part in (grad.values() if isinstance(grad, dict) else [grad])]
        return flatten(value) | flatten(tuple(part for part in found if part is not None), "d")

    return Case(both, results, count, slack)


def ema_scan(side, name):
    """As many chunks of as many features as H-Net smooths in a step."""
    settings, rng = SETTINGS, generator(name)
    chunks = round(settings.context / settings.patch_bytes)
    z = to_bfloat16(rng.standard_normal((settings.batch, chunks, settings.width // 2)))
    p = to_bfloat16(rng.uniform(0.5, 1.0, z.shape[:2]))
    return _differentiated(side, "patching.chunking", "ema_scan", {"z": z, "p": p}, (), settings.batch * settings.context)


def ngrams(side, name):
    """The tables of the byte transformer."""
    settings = SETTINGS
    tables = drawn_weights({f"{size}.weight": (settings.buckets, settings.width) for size in settings.ngrams.split(",")}, name)
    arguments = {"tokens": _windows(settings, settings.context)[0], "params": tables}
    return _differentiated(side, "model.hash_ngrams", "hash_ngrams", arguments, (), settings.batch * settings.context)


# -- hyperbolic space ---------------------------------------------------------------------------------------------


def curved(operation):
    """Forward and backward of a map, at the points of `hyperbolic`, rounded to float32: the same for all formats."""
    model, _, function = operation.partition(".")

    def case(side, name):
        known, (letters, _) = hyperbolic._points(hyperbolic.SHAPE), hyperbolic.OPERATIONS[operation]
        points = {f"{place}{letter}": _single(known[letter]) for place, letter in enumerate(letters)}
        points["curvature"], count = np.ones(()), hyperbolic.SHAPE["points"]
        return _differentiated(side, f"hyperbolic.{model}", function, points, (), count, hyperbolic.SLACK)

    return case


def tree_step(geometry):
    """A step of the experiment with a tree, on all distances of all its nodes, in five dimensions."""

    def case(side, name):
        arm = embedding_arms.Arm("graph", geometry, "distance", 5, 0)
        graph = balanced_tree(*TREE)
        trainer = side.module("hyperbolic.trainer").Trainer(graph, arm, EMBEDDINGS, "cpu", side.dtype)
        points = _single(0.3 * generator(name).standard_normal((len(graph), arm.dim)) / np.sqrt(arm.dim))
        hops, learnt = side.place(graph.all_hops().astype(np.float64)), {"points": points, "log_scale": np.zeros(())}
        loss = _differentiated(
            side, "hyperbolic.graph_embedding", "embedding_loss", learnt, (None, hops, geometry, "distance"), len(graph),
            hyperbolic.SLACK,
        )  # fmt: skip
        return replace(loss, call=lambda: trainer.step(1e-3, 1e-2))

    return case


def _single(x):
    return x.astype(np.float32).astype(np.float64)


# -- tokenizers ---------------------------------------------------------------------------------------------------


def text():
    """The samples that come with the project."""
    return "".join(document.text for document in corpus.documents("samples"))


def learning(kind):
    """Training a tokenizer; the whole vocabulary must be the same, to the last score."""

    def case(side, name):
        data, module = text(), side.module(f"tokenizers.{kind}")
        call = lambda: module.train([data], SETTINGS.vocab_size)  # noqa: E731
        return Case(call, lambda: {"vocabulary": np.frombuffer(tokenizer_file.to_json(call())[0], np.uint8)}, len(data.encode()))

    return case


def writing(kind):
    """Text to ids, from an empty cache; ``side`` may be "hf_tokenizers", which reads our file."""

    def case(side, name):
        data, known = text(), _vocabulary(kind)
        if side == "hf_tokenizers":
            import tokenizers

            theirs = tokenizers.Tokenizer.from_str(tokenizer_file.to_json(known)[0].decode())

            def call():
                return theirs.encode(data).ids
        else:
            made = getattr(side.module(f"tokenizers.{kind}"), CLASSES[kind])

            def call():
                return made(known).encode(data)

        return Case(call, lambda: {"ids": np.asarray(call()).astype(np.int64)}, len(data.encode()))

    return case


@functools.cache
def _vocabulary(kind):
    train = importlib.import_module(f"torch_impl.tokenizers.{kind}").train
    return train([text()], SETTINGS.vocab_size, workers=1)


CLASSES = {"unigram": "Unigram", "wordpiece": "WordPiece", "boundless": "BoundlessBPE"}
