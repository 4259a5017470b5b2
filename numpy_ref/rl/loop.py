"""The loop of reinforcement learning: write, judge, score, learn. PPO and GRPO differ in two functions that it is given."""

import dataclasses
import json
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.drive import drive
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.rl.evaluate import held_out
from numpy_ref.rl.experience import gather
from numpy_ref.rl.kl import adapted_coefficient, kl_estimate
from numpy_ref.rl.parts import policy_config, policy_params, require_reference
from numpy_ref.rl.pictures import BEFORE
from numpy_ref.rl.policy import policy, with_value
from numpy_ref.rl.prompts import adapted_level
from numpy_ref.rl.record import row, tell_cold
from numpy_ref.rl.step import learn
from numpy_ref.training import checkpoint
from numpy_ref.training.optimizer import init_states


def reinforce(
    run, reference, source, judge, settings, prepare, objective, by, out, stop_after=None, report=None, seconds=None,
    sample=None,
):  # fmt: skip
    """Learn in the run folder ``out`` from rewards; returns the Run.

    run, reference: as from ``begin`` or ``resumed``. source: prompts; judge: their rewards. ``prepare(run, batch,
    settings)`` gives what the objective needs beside the log-probabilities ("advantages", "values", ...), ``objective``
    is ``ppo_loss`` or ``grpo_loss``, averaged ``by``. The other arguments and errors are those of ``training.loop.train``.
    """
    checkpoint_file.describe(out, run.model_config, run.train_config, "cpu")
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
    """One step of the run: a rollout and the passes over it. The Run moves on; -> the row for the log."""
    c, extra = run.train_config, run.extra
    config = policy_config(run.model_config)
    level = extra["level"] if settings.adaptive else None
    batch, facts = gather(
        policy_params(run.params), config, source, judge, settings, c.seed, run.position, extra["rollouts"], level
    )
    began = perf_counter()
    batch["reference"] = None
    if _measures(run, settings):
        (batch["reference"], _, _), _ = policy(
            batch["tokens"], batch["mask"], reference, config, settings.temperature, batch["kept"]
        )
        facts |= _distance(batch)
    batch["mask"] = batch["mask"] & learnable(batch, settings)[:, None]
    batch |= prepare(run, batch, settings)
    scored = perf_counter()
    if not settings.kl_loss:
        batch["reference"] = None
    metrics, run.params, run.states = learn(
        run.params, run.states, batch, run.model_config, c, settings, objective, kl_weights(run, settings)[1], by, run.step
    )
    facts |= {name: batch[name] for name in ("explained_variance",) if name in batch}
    _adapt(run, settings, source, facts)
    run.advance(facts["drawn"], facts["new_tokens"])
    return row(facts, metrics, scored - began, perf_counter() - scored)


def begin(model_config, train_config, base, out, reward=None):
    """(Run before its first step, reference): the reference is ``base``, the policy's parameters, and stays what it is;
    it is kept in ``out``/reference. reward: parameters of a reward model for a critic apart to begin as, or None."""
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), model_config)
    base = {name: value.astype(dtype) for name, value in base.items()}
    reward = reward and {name: value.astype(dtype) for name, value in reward.items()}
    params = with_value(base, model_config, reward)
    run = checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config))
    run.extra = {"rollouts": 0, "level": 0.0, "kl": 1.0}
    config = policy_config(model_config)
    checkpoint.save(
        Path(out) / "reference", checkpoint_file.Run(config, train_config, base, {name: {} for name in base})
    )
    return run, base


def resumed(model_config, train_config, out):
    """The same of the run saved in ``out``. Raises UserError where it can't go on, or has lost its reference."""
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), model_config).name
    run = checkpoint.load(out, dtype)
    checkpoint_file.check_resumable(run, model_config, train_config, out)
    if not {"rollouts", "level", "kl"} <= set(run.extra):
        raise UserError(f"the run in {out} has not learnt from rewards; begin with it by --checkpoint, in another --out")
    run.train_config = train_config
    require_reference(out)
    return run, checkpoint.load(Path(out) / "reference", dtype).params


def learnable(batch, settings):
    """Which completions are learnt from: those with a reward, and under ``drop_truncated`` those that ended. bool (B,)."""
    return batch["valid"] & (batch["ended"] | (not settings.drop_truncated))


def kl_weights(run, settings):
    """(price in the rewards, weight in the loss) of the distance now: the settings', times what has adapted them."""
    return getattr(settings, "kl_reward", 0.0) * run.extra["kl"], settings.kl_loss * run.extra["kl"]


def _measures(run, settings):
    needed = settings.kl_loss or getattr(settings, "kl_reward", 0.0) or settings.kl_target
    return needed or settings.kl_every and run.step % settings.kl_every == 0


def _distance(batch):
    """The distance from the reference: nats a token by k1 and k3, and nats a completion."""
    mask = batch["mask"]
    k1 = np.where(mask, kl_estimate(batch["logprobs"], batch["reference"], "k1")[0], 0.0)
    k3 = np.where(mask, kl_estimate(batch["logprobs"], batch["reference"], "k3")[0], 0.0)
    tokens = max(1, int(np.sum(mask)))
    found = {"kl": np.sum(k1) / tokens, "kl_k3": np.sum(k3) / tokens, "kl_completion": np.sum(k1) / len(mask)}
    return {name: float(value) for name, value in found.items()}


def _adapt(run, settings, source, facts):
    """What the next iteration does otherwise: the numbers of ``run.extra``."""
    extra = run.extra = dict(run.extra)
    extra["rollouts"] += facts["rollouts"]
    if settings.adaptive:
        facts["level"] = extra["level"]
        extra["level"] = adapted_level(extra["level"], facts["passed"], settings.adaptive, len(source.tasks))
    if settings.kl_target:
        facts["kl_weight"] = extra["kl"]
        extra["kl"] = adapted_coefficient(
            extra["kl"], facts["kl_completion"], settings.kl_target, facts["drawn"] * settings.group, settings.kl_horizon
        )


def output_of(model_config, output):
    """The config of a policy that ends in ``output``. Raises UserError for a base that is no model of tokens."""
    if model_config.output != "tokens":
        raise UserError("a policy begins with a model of tokens; give a checkpoint that `train` or `sft` made")
    return dataclasses.replace(model_config, output=output)
