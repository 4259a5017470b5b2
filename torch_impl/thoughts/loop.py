"""Training with units of thought: problems are made on the device, a batch a step."""

import dataclasses

import torch

from numpy_ref import checkpoint_file
from numpy_ref.drive import drive
from numpy_ref.errors import UserError
from numpy_ref.thoughts.settings import FITTED, stage_of
from torch_impl.device import choose_device
from torch_impl.model.initialise import initialise
from torch_impl.thoughts.codes import fit_codes
from torch_impl.thoughts.evaluate import held_out
from torch_impl.thoughts.step import train_step
from torch_impl.thoughts.task import pointer_chains, practice
from torch_impl.training import checkpoint
from torch_impl.training.loop import device_name, master_dtype, resumed
from torch_impl.training.optimizer import init_states
from torch_impl.training.schedules import learning_rate


def train_units(model_config, train_config, settings, out, resume=False, stop_after=None, report=None, seconds=None):
    """Train a model with the units of ``settings`` (UnitConfig) in the run folder ``out``; returns its Run.

    The optimiser forgets at each new stage, and the codebook is fitted anew. The rest as of ``training.loop.train``.
    UserError for a run with other units.
    """
    c, device = train_config, choose_device(train_config.device)
    run = resumed(model_config, c, out) if resume else _begin(model_config, c, device)
    found = run.extra.setdefault("units", dataclasses.asdict(settings))
    if found != dataclasses.asdict(settings):
        raise UserError(f"the run in {out} has other units: {found}; take those, or start a new run")
    checkpoint_file.describe(out, model_config, c, device_name(device))

    def step():
        stage = stage_of(run.step, c.steps, settings)
        if run.step and stage != stage_of(run.step - 1, c.steps, settings):
            run.states = init_states(run.params, c)
            if settings.kind == "code":
                edges, walk = pointer_chains(c.seed, run.position, FITTED, settings.nodes, settings.hops, device=device)
                question = torch.cat((edges, walk[:, :1]), 1)
                run.params = fit_codes(run.params, question, model_config, settings, stage * settings.per_step)
        tokens, targets, places = practice(c.seed, run.position, c.batch, stage, settings, device=device)
        lr = learning_rate(run.step, c)
        metrics, run.params, run.states = train_step(
            run.params, run.states, tokens, targets, model_config, c, settings, lr, places
        )
        run.advance(c.batch, tokens.numel())
        return metrics | {"stage": stage}

    def measured():
        return {name: value for name, value in held_out(run.params, model_config, settings).items() if value is not None}

    return drive(run, out, step, measured, checkpoint.snapshot, stop_after, report, seconds)


def _begin(model_config, train_config, device):
    params = initialise(model_config, train_config.seed, master_dtype(train_config), device)
    return checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config))
