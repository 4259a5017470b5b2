"""A rollout, judged: what an iteration learns from, and what it has to tell."""

from time import perf_counter

import numpy as np

from numpy_ref.grpo.advantages import informative
from numpy_ref.reward.shaping import clip_rewards, missing_end_penalty
from numpy_ref.rl.batch import chosen, joined
from numpy_ref.rl.record import rollout_facts
from numpy_ref.rl.rewards import Completion, pass_rate
from numpy_ref.rl.rollout import rollout


def gather(params, config, source, judge, settings, seed, position=0, number=0, level=None):
    """Completions of the next prompts, and their rewards.

    params, config: the policy, without a critic. source: ``TaskPrompts`` or ``FilePrompts``, from ``position`` on at a
    ``level``; judge: a ``Judge``; number: of the next rollout. A GRPOConfig with ``dynamic`` n leaves out groups whose
    rewards are all equal, and draws up to n rollouts more until ``prompts`` groups are left (arXiv:2503.14476, section
    3.2); should too few be left even then, it goes on with those.

    -> the batch: what ``rollout`` returns, "rewards" (B,) after shaping, "valid" bool (B,), rows of a prompt side by side;
    and facts: metrics for the log, with "drawn" prompts and "rollouts".
    """
    more, kept, facts = getattr(settings, "dynamic", 0), [], []
    for turn in range(1 + more):
        prompts = source.take(position + turn * settings.prompts, settings.prompts, level)
        batch, fact = _judged(params, config, prompts, source.speech, judge, settings, seed, number + turn)
        facts.append(fact)
        if more:
            good = informative(_groups(batch["rewards"], settings), _groups(batch["valid"], settings))
            if not good.any():
                continue
            batch = chosen(batch, np.nonzero(np.repeat(good, settings.group))[0])
        kept.append(batch)
        if sum(len(one["tokens"]) for one in kept) >= settings.prompts * settings.group:
            break
    batch = joined(kept) if kept else batch
    batch = chosen(batch, np.arange(min(len(batch["tokens"]), settings.prompts * settings.group)))
    return batch, rollout_facts(facts, settings)


def completions(batch, prompts, group, speech):
    """The Completion of every row of a rollout."""
    found = []
    for row, ids in enumerate(batch["tokens"].tolist()):
        start, length, ended = int(batch["starts"][row]), int(batch["lengths"][row]), bool(batch["ended"][row])
        said = ids[start : start + length]
        text = speech.answer(np.array(said[: length - ended], np.int64))
        found.append(Completion(prompts[row // group], tuple(said), text, ended))
    return found


def _judged(params, config, prompts, speech, judge, settings, seed, number):
    """One rollout with rewards, and what there is to tell of it."""
    start = perf_counter()
    ids = [np.array(prompt.ids) for prompt in prompts]
    batch = rollout(params, config, ids, settings.sample(seed), speech.stop, settings.group, number)
    generated = perf_counter()
    written = completions(batch, prompts, settings.group, speech)
    totals, valid, parts, failures = judge(written)
    rewards = np.array(totals, batch["logprobs"].dtype)
    if settings.missing_end:
        rewards = missing_end_penalty(rewards, batch["ended"], settings.missing_end)
    if settings.reward_clip:
        rewards = clip_rewards(rewards, settings.reward_clip)
    batch |= {"rewards": rewards, "valid": np.array(valid)}
    said = {"generated": generated - start, "judged": perf_counter() - generated}
    said |= {"passed": pass_rate(written)} if settings.adaptive else {}
    return batch, said | _described(batch, parts, failures, settings)


def _described(batch, parts, failures, settings):
    rewards, valid = batch["rewards"], batch["valid"]
    counted = rewards[valid] if valid.any() else np.zeros(1)
    groups = _groups(rewards, settings), _groups(valid, settings)
    facts = {
        "reward": float(np.mean(counted)),
        "reward_std": float(np.std(counted)),
        "length": float(np.mean(batch["lengths"])),
        "length_max": float(np.max(batch["lengths"])),
        "ended": float(np.mean(batch["ended"])),
        "new_tokens": int(np.sum(batch["lengths"])),
        "failed": {name: failures.get(name, 0) for name in parts},
    }
    if settings.group > 1:
        facts["zero_variance"] = float(np.mean(~informative(*groups)))
    fine = {name: [score for score in scores if np.isfinite(score)] for name, scores in parts.items()}
    return facts | {"parts": {name: float(np.mean(scores)) if scores else 0.0 for name, scores in fine.items()}}


def _groups(values, settings):
    return values.reshape(-1, settings.group)
