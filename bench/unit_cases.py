"""What `units` times, at the sizes that the experiments of part 10 have: written once for both wings. Here what a case
is, and concepts, thoughts and context; the rest in `byte_cases`.

A case is made for a ``Side`` and answers with ``call``, what is timed; ``results()``, what must be the reference's; and
``count``, how many stories, bytes or points one call takes care of. Weights and data are drawn here, the same for all.
"""

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.sides import flatten
from bench.work import to_bfloat16
from numpy_ref.concepts import config as concept_config
from numpy_ref.concepts.sentences import to_tokens
from numpy_ref.concepts.settings import ExperimentConfig
from numpy_ref.concepts.stories import SENTENCES
from numpy_ref.config import parameter_shapes
from numpy_ref.context import config as context_config
from numpy_ref.context.commands import TRAINING as CONTEXT_TRAINING
from numpy_ref.thoughts import settings as unit_settings
from numpy_ref.thoughts.settings import TRAINING as UNIT_TRAINING
from numpy_ref.thoughts.task import pointer_chains, unit_rows

EXPERIMENT = ExperimentConfig()
QUESTIONS = 250  # that the experiment with thoughts decodes at once


@dataclass(frozen=True)
class Case:
    """See above. slack: of the parity gate, where many roundings follow each other."""

    call: Callable
    results: Callable
    count: int
    slack: float = 4.0


@dataclass(frozen=True)
class Side:
    """A wing in a number format."""

    package: str
    dtype: str

    @property
    def torch(self):
        return self.package == "torch_impl"

    def function(self, path, name):
        """A function of this wing, which returns its value without the vjp."""
        found = getattr(self.module(path), name)
        return found if self.torch else lambda *arguments, **more: without_vjp(found(*arguments, **more))

    def module(self, path):
        return importlib.import_module(f"{self.package}.{path}")

    def place(self, tree):
        """Arrays as this wing has them, floating-point numbers in its format."""
        if isinstance(tree, dict):
            return {name: self.place(value) for name, value in tree.items()}
        if isinstance(tree, tuple):
            return tuple(map(self.place, tree))
        if not isinstance(tree, np.ndarray):
            return tree
        if self.torch:
            import torch

            tensor = torch.from_numpy(tree.copy())
            return tensor.to(getattr(torch, self.dtype)) if tensor.is_floating_point() else tensor
        return tree.astype(self.dtype) if tree.dtype.kind == "f" else tree


def without_vjp(result):
    return result[0] if isinstance(result, tuple) and len(result) == 2 and callable(result[1]) else result


def drawn_weights(shapes, name):
    """Weights that keep activations near one; nothing begins at 0, for a zero hides what is wrong behind it."""
    rng, found = np.random.default_rng(zlib.crc32(name.encode())), {}
    for key, shape in shapes.items():
        value = rng.standard_normal(shape)
        value = 0.1 * value + ("norm" in key) if len(shape) == 1 else value / np.sqrt(shape[-1])
        found[key] = to_bfloat16(value)
    return found


def generator(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


# -- concepts -----------------------------------------------------------------------------------------------------


def _trained(side, params, train, grads_of, descend, count):
    """A training step: ``grads_of(params)`` -> (loss, grads), ``descend(params, grads, states)`` -> params, states."""
    kept = [params, side.module("training.optimizer").init_states(params, train)]

    def call():
        kept[:] = descend(kept[0], grads_of(kept[0])[1], kept[1])

    return Case(call, lambda: flatten(grads_of(params)), count)


def autoencoder(side, name):
    config, train, rng = EXPERIMENT.model("autoencoder"), EXPERIMENT.training("autoencoder"), generator(name)
    rows = rng.permutation(len(SENTENCES))[: len(SENTENCES) // 2]
    tokens, lengths = to_tokens(SENTENCES, config.length)
    data = side.place((tokens[rows], lengths[rows], to_bfloat16(rng.standard_normal((len(rows), config.concept)))))
    step, params = side.module("concepts.step"), side.place(drawn_weights(concept_config.parameter_shapes(config), name))
    return _trained(
        side, params, train, lambda params: step.autoencoder_loss_and_grads(params, *data, config),
        lambda params, grads, states: step.descend(params, grads, states, 1e-3, train)[1:], len(rows),
    )  # fmt: skip


def _concept_model(side, name, kind):
    """(config, weights, a batch of stories, codebooks, generator)."""
    settings, rng = EXPERIMENT, generator(name)
    config, shape = settings.model(kind), (settings.batch, settings.sentences - 1)
    batch = {
        "concepts": to_bfloat16(rng.standard_normal((shape[0], shape[1] + 1, config.concept))),
        "noise": to_bfloat16(rng.standard_normal((*shape, config.concept))), "times": rng.integers(0, config.steps, shape),
        "keep": rng.random(shape) >= config.drop,
    }  # fmt: skip
    codebooks = to_bfloat16(rng.standard_normal((config.codebooks, config.entries, config.concept)))
    weights = drawn_weights(concept_config.parameter_shapes(config), name)
    return config, *side.place((weights, batch, codebooks)), rng


def concept_step(kind):
    def case(side, name):
        config, params, batch, codebooks, _ = _concept_model(side, name, kind)
        train, step = EXPERIMENT.training(kind), side.module("concepts.step")
        return _trained(
            side, params, train, lambda params: step.loss_and_grads(params, batch, config, codebooks),
            lambda params, grads, states: step.descend(params, grads, states, 1e-3, train)[1:], len(batch["concepts"]),
        )  # fmt: skip

    return case


def next_concept(kind):
    """As the experiment judges its models: all held-out stories at once."""

    def case(side, name):
        config, params, _, codebooks, rng = _concept_model(side, name, kind)
        shape = (EXPERIMENT.held_out, EXPERIMENT.sentences - 1, config.concept)
        draws = rng.random((shape[0], config.codebooks))
        draws = draws if kind == "quantised" else to_bfloat16(rng.standard_normal((shape[0], config.concept)))
        stories, draws = side.place((to_bfloat16(rng.standard_normal(shape)), draws))
        sampled = side.function("concepts.speak", "next_concept")
        call = lambda: sampled(stories, params, config, draws, codebooks)  # noqa: E731
        return Case(call, lambda: flatten(call()), shape[0], 32)

    return case


# -- thoughts, context --------------------------------------------------------------------------------------------


def _thinker(side, name, kind):
    settings = unit_settings.UnitConfig(kind=kind)
    config = unit_settings.ArmConfig().model("thoughts", settings)
    return settings, config, side.place(drawn_weights(parameter_shapes(config), name))


def thought_step(kind):
    """At the last stage of the curriculum, where all steps of the chain are units."""

    def case(side, name):
        settings, config, params = _thinker(side, name, kind)
        train, stage = UNIT_TRAINING, unit_settings.last_stage(settings)
        tokens, targets, places = unit_rows(*pointer_chains(0, 0, train.batch, settings.nodes, settings.hops), stage, settings)
        data, step = side.place((tokens, targets)), side.module("thoughts.step")
        kept = [params, side.module("training.optimizer").init_states(params, train)]

        def call():
            kept[:] = step.train_step(*kept, *data, config, train, settings, 1e-3, places)[1:]

        return Case(call, lambda: flatten(step.loss_and_grads(params, *data, config, settings, places)), train.batch)

    return case


def decoding(kind, beam):
    """Units one after the other, with the keys and values of what was before them."""

    def case(side, name):
        settings, config, params = _thinker(side, name, kind)
        edges, walk = pointer_chains(0, 0, QUESTIONS, settings.nodes, settings.hops)
        question = side.place(np.concatenate([edges, walk[:, :1]], axis=1))
        search = side.module("thoughts.decoding").beam_search
        call = lambda: search(question, params, config, settings, beam, 1.0)  # noqa: E731
        return Case(call, lambda: flatten(call()), QUESTIONS)

    return case


def context_step(side, name):
    config, train, rng = context_config.ContextConfig(), CONTEXT_TRAINING, generator(name)
    tokens, senses = rng.integers(2, config.vocab_size, (train.batch, config.span + 1)), rng.integers(0, 2, train.batch)
    tokens[:, -1] = 2 + rng.integers(0, config.pairs, train.batch)
    data = side.place((tokens, tokens[:, -1] - 2, senses))
    params, step = side.place(drawn_weights(context_config.parameter_shapes(config), name)), side.module("context.step")
    kept = [params, side.module("training.optimizer").init_states(params, train)]

    def call():
        kept[:] = step.train_step(*kept, *data, config, train, 1e-3)[1:]

    return Case(call, lambda: flatten(step.loss_and_grads(params, *data, config)), train.batch)
