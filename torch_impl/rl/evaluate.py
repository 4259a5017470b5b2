"""Evaluation on held-out prompts."""

import dataclasses

import torch

from numpy_ref.rl.prompts import right
from numpy_ref.sft.metrics import pass_at_k
from torch_impl.rl.experience import completions
from torch_impl.rl.rollout import rollout

_NUMBER = 1 << 31  # streams from here on are no training's


def held_out(params, config, prompts, speech, judge, settings, seed=0):
    """{"loss", "reward", "reward_sampled", "ended"} of held-out prompts, and where their answers are known "greedy",
    "pass_1" and "pass_k": rewards and shares of right answers, greedy and of ``eval_samples`` samples a prompt. "loss" is
    minus the greedy reward. The samples' draws are the same each time, so that evaluations can be compared.
    """
    group, sampled = settings.eval_samples, settings.sample(seed)
    greedy = dataclasses.replace(sampled, greedy=True)
    first = _judged(params, config, prompts, speech, judge, greedy, 1, settings)
    more = _judged(params, config, prompts, speech, judge, sampled, group, settings)
    found = {"loss": -_mean(first["reward"]), "reward": _mean(first["reward"]), "reward_sampled": _mean(more["reward"])}
    found["ended"] = _mean(first["ended"])
    if len(first["right"]) == len(prompts):
        counts = torch.tensor(more["right"]).view(-1, group).sum(1).tolist()
        found["greedy"] = _mean(first["right"])
        for k in sorted({1, group}):
            found[f"pass_{k}"] = _mean([pass_at_k(group, int(count), k) for count in counts])
    return found


def _judged(params, config, prompts, speech, judge, sample, group, settings):
    """{"reward", "ended", "right"}: lists over completions, ``group`` of each prompt, as many at once as in a rollout."""
    at_once = max(1, settings.prompts * settings.group // group)
    found = {"reward": [], "ended": [], "right": []}
    for start in range(0, len(prompts), at_once):
        some = prompts[start : start + at_once]
        batch = rollout(
            params, config, [prompt.ids for prompt in some], sample, speech.stop, group, _NUMBER + start
        )
        said = completions(batch, some, group, speech)
        found["reward"] += judge(said)[0]
        found["ended"] += [one.ended for one in said]
        found["right"] += [right(one.prompt, one.text, one.ended) >= 1 for one in said if one.prompt.example]
    return found


def _mean(values):
    return float(torch.tensor(values, dtype=torch.float64).mean())
