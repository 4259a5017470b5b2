"""Rollouts and their rewards."""

from time import perf_counter

import torch

from numpy_ref.rl.record import rollout_facts
from numpy_ref.rl.rewards import Completion, pass_rate
from torch_impl.grpo.advantages import informative
from torch_impl.reward.shaping import clip_rewards, missing_end_penalty
from torch_impl.rl.batch import chosen, joined
from torch_impl.rl.rollout import rollout


def gather(params, config, source, judge, settings, seed, position=0, number=0, level=None):
    """The next rollout with its rewards: (batch, facts).

    batch: as from ``rollout``, with "rewards" and "valid" (B,); completions of a prompt are neighbours. facts: numbers for
    the log, among them the "drawn" prompts and the number of "rollouts". Under ``dynamic`` sampling (arXiv:2503.14476
    §3.2) groups without different rewards are replaced, by at most that many rollouts more.
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
            batch = chosen(batch, good.repeat_interleave(settings.group).nonzero()[:, 0])
        kept.append(batch)
        if sum(len(one["tokens"]) for one in kept) >= settings.prompts * settings.group:
            break
    batch = joined(kept) if kept else batch
    most = settings.prompts * settings.group
    if len(batch["tokens"]) > most:
        batch = chosen(batch, torch.arange(most, device=batch["tokens"].device))
    return batch, rollout_facts(facts, settings)


def completions(batch, prompts, group, speech):
    """The Completion of every row of a rollout; everything comes from the device at once."""
    rows = zip(*(batch[name].tolist() for name in ("tokens", "starts", "lengths", "ended")))
    found = []
    for row, (ids, start, length, ended) in enumerate(rows):
        said = ids[start : start + length]
        text = speech.answer(said[: length - ended])
        found.append(Completion(prompts[row // group], tuple(said), text, ended))
    return found


def _judged(params, config, prompts, speech, judge, settings, seed, number):
    start = perf_counter()
    ids = [prompt.ids for prompt in prompts]
    batch = rollout(params, config, ids, settings.sample(seed), speech.stop, settings.group, number)
    said = completions(batch, prompts, settings.group, speech)  # waits for the device
    generated = perf_counter()
    totals, valid, parts, failures = judge(said)
    like = batch["logprobs"]
    rewards = torch.tensor(totals, dtype=like.dtype, device=like.device)
    if settings.missing_end:
        rewards = missing_end_penalty(rewards, batch["ended"], settings.missing_end)
    if settings.reward_clip:
        rewards = clip_rewards(rewards, settings.reward_clip)
    batch |= {"rewards": rewards, "valid": torch.tensor(valid, device=like.device)}
    facts = {"generated": generated - start, "judged": perf_counter() - generated}
    if settings.adaptive:
        facts["passed"] = pass_rate(said)
    return batch, facts | _described(batch, parts, failures, settings)


def _described(batch, parts, failures, settings):
    rewards, valid = batch["rewards"].double(), batch["valid"]
    counted = rewards[valid] if valid.any() else torch.zeros(1)
    lengths = batch["lengths"].double()
    groups = _groups(rewards, settings), _groups(valid, settings)
    numbers = {
        "reward": counted.mean(),
        "reward_std": counted.std(correction=0),
        "length": lengths.mean(),
        "length_max": lengths.max(),
        "ended": batch["ended"].double().mean(),
    }
    if settings.group > 1:
        numbers["zero_variance"] = (~informative(*groups)).double().mean()
    fine = {name: [score for score in scores if score - score == 0] for name, scores in parts.items()}
    return {name: float(number) for name, number in numbers.items()} | {
        "new_tokens": int(batch["lengths"].sum()),
        "failed": {name: failures.get(name, 0) for name in parts},
        "parts": {name: sum(scores) / len(scores) if scores else 0.0 for name, scores in fine.items()},
    }


def _groups(values, settings):
    return values.view(-1, settings.group)
