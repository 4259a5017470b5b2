"""Which parameters are whose. A policy with a critic is one model with one checkpoint:

    output "value"     one trunk; "value.weight" and "value.bias" are the critic's scalar head on it
    output "critic"    a second trunk with a head of its own, shaped like a reward model, under "critic."
"""

import dataclasses
from pathlib import Path

from numpy_ref import checkpoint_file
from numpy_ref.errors import UserError

DEFINITION = "names of parameters: no arithmetic"

_CRITIC, _HEAD = "critic.", ("value.weight", "value.bias")


def policy_params(params):
    """The language model among the parameters."""
    return {name: value for name, value in params.items() if not name.startswith(_CRITIC) and name not in _HEAD}


def policy_config(config):
    """The config of the language model alone."""
    return dataclasses.replace(config, output="tokens")


def policy_of(run):
    """The Run of a policy without its critic: it generates like any model, and begins other runs."""
    params = policy_params(run.params)
    config = policy_config(run.model_config)
    return dataclasses.replace(run, params=params, model_config=config, states={name: {} for name in params})


def critic_params(params):
    """The parameters of a critic apart, under a reward model's names."""
    return {name.removeprefix(_CRITIC): value for name, value in params.items() if name.startswith(_CRITIC)}


def critic_config(config):
    """The config of a critic apart: a reward model's."""
    return dataclasses.replace(config, output="reward")


def with_critic(params, critic):
    """The parameters of a policy and of a critic apart in one."""
    return params | {f"{_CRITIC}{name}": value for name, value in critic.items()}


def require_reference(out):
    """UserError where a run folder has lost the policy that the run began with."""
    folder = Path(out) / "reference"
    if not checkpoint_file.exists(folder):
        raise UserError(
            f"there is no checkpoint at {folder}, of the policy that distances are measured from; put the folder back, or start "
            "a new run by --checkpoint"
        )
