"""Iterations of PPO and GRPO."""

import dataclasses
import json
from pathlib import Path
from time import perf_counter

import torch

from numpy_ref import checkpoint_file
from numpy_ref.drive import drive
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.rl.parts import policy_config, policy_params, require_reference
from numpy_ref.rl.pictures import BEFORE
from numpy_ref.rl.prompts import adapted_level
from numpy_ref.rl.record import row, tell_cold
from torch_impl.device import choose_device
from torch_impl.rl.evaluate import held_out
from torch_impl.rl.experience import gather
from torch_impl.rl.kl import adapted_coefficient, kl_estimate
from torch_impl.rl.masked import aggregate
from torch_impl.rl.policy import policy, with_value
from torch_impl.rl.step import learn
from torch_impl.training import checkpoint
from torch_impl.training.optimizer import init_states
from torch_impl.training.step import compute_dtype


def reinforce(
    run, reference, source, judge, settings, prepare, objective, by, out, stop_after=None, report=None, seconds=None,
    sample=None,
):  # fmt: skip
    """Steps of reinforcement learning in the run folder ``out``, until ``run.train_config.steps``; returns the Run.

    ``run`` and ``reference`` come from ``begin`` or ``resumed``, prompts from ``source``, rewards from ``judge``.
    ``prepare(run, batch, settings)`` adds advantages (and for PPO values and returns) to a batch, ``objective`` makes a
    loss of it, averaged ``by``. For the rest see ``training.loop.train``.
    """
    device = run.params["token_embedding.weight"].device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    checkpoint_file.describe(out, run.model_config, run.train_config, name)
    prompts = source.held_out(settings.eval_prompts)

    def step():
        return iterate(run, reference, source, judge, settings, prepare, objective, by)

    def measured():
        own, config = policy_params(run.params), policy_config(run.model_config)
        return held_out(own, config, prompts, source.speech, judge, settings, run.train_config.seed)

    if run.step == 0:
        before = measured()
        replace(Path(out) / BEFORE, lambda file: file.write((json.dumps(before) + "\n").encode()))
        tell_cold(before, report)
    return drive(run, out, step, measured, checkpoint.snapshot, stop_after, report, seconds, sample)


def iterate(run, reference, source, judge, settings, prepare, objective, by):
    """A rollout and the updates that it is good for. Moves the Run on by one step; returns the row of the log."""
    c, extra = run.train_config, run.extra
    config, dtype = policy_config(run.model_config), compute_dtype(run.params, run.model_config, run.train_config)
    level = extra["level"] if settings.adaptive else None
    own = {name: param.to(dtype) for name, param in policy_params(run.params).items()}
    batch, facts = gather(own, config, source, judge, settings, c.seed, run.position, extra["rollouts"], level)
    began = perf_counter()
    batch["reference"] = None
    if _measures(run, settings):
        batch["reference"] = _reference(batch, reference, config, settings, dtype)
        facts |= _distance(batch)
    batch["mask"] = batch["mask"] & learnable(batch, settings)[:, None]
    batch |= prepare(run, batch, settings)
    if not settings.kl_loss:
        batch["reference"] = None
    _wait(own)
    scored = perf_counter()
    metrics, run.params, run.states = learn(
        run.params, run.states, batch, run.model_config, c, settings, objective, kl_weights(run, settings)[1], by, run.step
    )
    facts |= {name: float(batch[name]) for name in ("explained_variance",) if name in batch}
    _adapt(run, settings, source, facts)
    run.advance(facts["drawn"], facts["new_tokens"])
    return row(facts, metrics, scored - began, perf_counter() - scored)


def begin(model_config, train_config, base, out, reward=None):
    """(Run, reference) before the first step. ``base``: parameters of the policy, which as the reference never change, and
    are saved in ``out``/reference. ``reward``: of a reward model, which a critic apart starts from if given."""
    device = choose_device(train_config.device)
    dtype = torch.float64 if train_config.dtype == "float64" else torch.float32
    base = {name: value.to(device, dtype) for name, value in base.items()}
    reward = reward and {name: value.to(device, dtype) for name, value in reward.items()}
    params = {name: value.clone() for name, value in with_value(base, model_config, reward).items()}
    run = checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config))
    run.extra = {"rollouts": 0, "level": 0.0, "kl": 1.0}
    frozen = checkpoint_file.Run(policy_config(model_config), train_config, base, {name: {} for name in base})
    checkpoint.save(Path(out) / "reference", frozen)
    return run, base


def resumed(model_config, train_config, out):
    """(Run, reference) as saved in ``out``. UserError if that is no run of PPO or GRPO, or of other settings."""
    device = choose_device(train_config.device)
    dtype = "float64" if train_config.dtype == "float64" else "float32"
    run = checkpoint.load(out, dtype, device)
    checkpoint_file.check_resumable(run, model_config, train_config, out)
    if not {"rollouts", "level", "kl"} <= set(run.extra):
        raise UserError(f"the run in {out} did not learn from rewards; take it as --checkpoint of a run in another --out")
    run.train_config = train_config
    require_reference(out)
    return run, checkpoint.load(Path(out) / "reference", dtype, device).params


def learnable(batch, settings):
    """(B,) bool: completions with a valid reward, without those that were cut off if ``drop_truncated`` says so."""
    return batch["valid"] & batch["ended"] if settings.drop_truncated else batch["valid"]


def kl_weights(run, settings):
    """(in the rewards, in the loss): what a nat of distance costs at this step."""
    return getattr(settings, "kl_reward", 0.0) * run.extra["kl"], settings.kl_loss * run.extra["kl"]


@torch.no_grad()
def _reference(batch, reference, config, settings, dtype):
    """What the reference thinks of the tokens, (B, T - 1)."""
    params = {name: param.to(dtype) for name, param in reference.items()}
    return policy(
        batch["tokens"], batch["mask"], params, config, settings.temperature, batch["kept"], entropy=False,
        shared=(batch["prompts"], batch["starts"]),
    )[0]  # fmt: skip


def _measures(run, settings):
    needed = settings.kl_loss or getattr(settings, "kl_reward", 0.0) or settings.kl_target
    return needed or settings.kl_every and run.step % settings.kl_every == 0


def _distance(batch):
    """k1 and k3 in nats a token, and k1 in nats a completion."""
    mask, pair = batch["mask"], (batch["logprobs"].double(), batch["reference"].double())
    k1, k3 = kl_estimate(*pair, "k1"), kl_estimate(*pair, "k3")
    found = {"kl": aggregate(k1, mask), "kl_k3": aggregate(k3, mask), "kl_completion": aggregate(k1, mask, denominator=len(mask))}
    return {name: float(value) for name, value in found.items()}


def _adapt(run, settings, source, facts):
    """Sets what the next iteration starts from: ``run.extra``."""
    extra = run.extra = dict(run.extra)
    extra["rollouts"] += facts["rollouts"]
    if settings.adaptive:
        facts["level"] = extra["level"]
        extra["level"] = adapted_level(extra["level"], facts["passed"], settings.adaptive, len(source.tasks))
    if settings.kl_target:
        facts["kl_weight"] = extra["kl"]
        completions = facts["drawn"] * settings.group
        extra["kl"] = adapted_coefficient(
            extra["kl"], facts["kl_completion"], settings.kl_target, completions, settings.kl_horizon
        )


def _wait(params):
    """So that seconds are those of the work: a GPU is waited for."""
    if params["token_embedding.weight"].is_cuda:
        torch.cuda.synchronize()


def output_of(model_config, output):
    """The model_config with that output; UserError unless it has been one of plain tokens."""
    if model_config.output != "tokens":
        raise UserError("reinforcement learning starts from a model of tokens; give what `train` or `sft` has made")
    return dataclasses.replace(model_config, output=output)
