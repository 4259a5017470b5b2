"""How good a policy is on prompts that it never learns from."""

import dataclasses

import numpy as np

from numpy_ref.rl.experience import completions
from numpy_ref.rl.prompts import right
from numpy_ref.rl.rollout import rollout
from numpy_ref.sft.metrics import pass_at_k

_NUMBER = 1 << 31  # of the first rollout of an evaluation: streams that no training draws from


def held_out(params, config, prompts, speech, judge, settings, seed=0):
    """Rewards and pass rates on held-out prompts: greedy, and of ``eval_samples`` completions drawn at the temperature of
    the rollouts, with the same draws at every evaluation.

    -> {"loss": minus the mean greedy reward, by which the best checkpoint is kept; "reward", "reward_sampled"; and where
    prompts say what is right "greedy", "pass_1" and "pass_k" for k samples, as shares; "ended": of the greedy ones}.
    """
    sampled = settings.sample(seed)
    greedy = dataclasses.replace(sampled, greedy=True)
    first, ended, first_right = _judged(params, config, prompts, speech, judge, greedy, 1, _NUMBER, settings)
    group = settings.eval_samples
    more, _, more_right = _judged(params, config, prompts, speech, judge, sampled, group, _NUMBER, settings)
    found = {"loss": -float(np.mean(first)), "reward": float(np.mean(first)), "reward_sampled": float(np.mean(more))}
    found["ended"] = float(np.mean(ended))
    if first_right is not None:
        counts = np.sum(np.reshape(more_right, (-1, group)), axis=1).tolist()
        found["greedy"] = float(np.mean(first_right))
        for k in sorted({1, group}):
            found[f"pass_{k}"] = float(np.mean([pass_at_k(group, count, k) for count in counts]))
    return found


def _judged(params, config, prompts, speech, judge, sample, group, number, settings):
    """(rewards, ended, right or None) of ``group`` completions of each prompt, as many at a time as a rollout has."""
    at_once = max(1, settings.prompts * settings.group // group)
    rewards, ended, fine = [], [], []
    for start in range(0, len(prompts), at_once):
        some = prompts[start : start + at_once]
        ids = [np.array(prompt.ids) for prompt in some]
        batch = rollout(params, config, ids, sample, speech.stop, group, number + start)
        said = completions(batch, some, group, speech)
        rewards += judge(said)[0]
        ended += [one.ended for one in said]
        fine += [right(one.prompt, one.text, one.ended) >= 1 for one in said if one.prompt.example]
    return rewards, ended, fine if len(fine) == len(rewards) else None
