"""The training loop of models with units of thought: a new batch of problems each step, stage after stage."""

import dataclasses

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.drive import drive
from numpy_ref.errors import UserError
from numpy_ref.model.initialise import initialise
from numpy_ref.thoughts.codes import fit_codes
from numpy_ref.thoughts.evaluate import held_out
from numpy_ref.thoughts.settings import FITTED, stage_of
from numpy_ref.thoughts.step import train_step
from numpy_ref.thoughts.task import pointer_chains, practice
from numpy_ref.training import checkpoint
from numpy_ref.training.loop import resumed
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.schedules import learning_rate


def train_units(model_config, train_config, settings, out, resume=False, stop_after=None, report=None, seconds=None):
    """Train in the run folder ``out``; returns the Run, whose ``extra`` has the settings.

    Where a stage of the curriculum begins, the optimiser begins anew (section 4.2 of arXiv:2412.06769): its moments are
    those of another task. Codes are fitted there to what the model thinks (``fit_codes``): so each stage begins with a codebook
    that says what its thoughts would. settings: UnitConfig; the rest as of ``training.loop.train``.
    Raises UserError for a run that was begun with other settings.
    """
    c = train_config
    run = resumed(model_config, c, out) if resume else _begin(model_config, c)
    found = run.extra.setdefault("units", dataclasses.asdict(settings))
    if found != dataclasses.asdict(settings):
        raise UserError(f"the run in {out} has other units: {found}; take those, or start a new run")
    checkpoint_file.describe(out, model_config, c, "cpu")

    def step():
        stage = stage_of(run.step, c.steps, settings)
        if run.step and stage != stage_of(run.step - 1, c.steps, settings):
            run.states = init_states(run.params, c)
            if settings.kind == "code":
                edges, walk = pointer_chains(c.seed, run.position, FITTED, settings.nodes, settings.hops)
                question = np.concatenate([edges, walk[:, :1]], axis=1)
                run.params = fit_codes(run.params, question, model_config, settings, stage * settings.per_step)
        tokens, targets, places = practice(c.seed, run.position, c.batch, stage, settings)
        lr = learning_rate(run.step, c)
        metrics, run.params, run.states = train_step(
            run.params, run.states, tokens, targets, model_config, c, settings, lr, places
        )
        run.advance(c.batch, tokens.size)
        return metrics | {"stage": stage}

    def measured():
        return {name: value for name, value in held_out(run.params, model_config, settings).items() if value is not None}

    return drive(run, out, step, measured, checkpoint.snapshot, stop_after, report, seconds)


def _begin(model_config, train_config):
    """The Run before its first step."""
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), model_config)
    params = initialise(model_config, train_config.seed, dtype)
    return checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config))
