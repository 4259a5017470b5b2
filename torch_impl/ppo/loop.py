"""PPO on completions of a language model."""

import torch

from torch_impl.ppo.advantages import gae, token_rewards
from torch_impl.ppo.loss import ppo_loss
from torch_impl.rl.kl import kl_estimate
from torch_impl.rl.loop import begin, kl_weights, output_of, reinforce, resumed
from torch_impl.rl.masked import explained_variance, whiten
from torch_impl.rl.policy import policy
from torch_impl.training.step import compute_dtype


def train_ppo(
    model_config, train_config, settings, source, judge, base, out, reward=None, resume=False, stop_after=None,
    report=None, seconds=None, sample=None,
):  # fmt: skip
    """A PPO run in ``out``, from the policy ``base`` of model_config or resumed; returns the Run.

    settings: a PPOConfig; ``reward``: a reward model's parameters, for a critic apart to start from; the rest as
    ``rl.loop.reinforce`` takes it.
    """
    config = output_of(model_config, settings.critic)
    run, reference = resumed(config, train_config, out) if resume else begin(config, train_config, base, out, reward)
    return reinforce(
        run, reference, source, judge, settings, advantages, ppo_loss, settings.by, out, stop_after, report, seconds, sample
    )


@torch.no_grad()
def advantages(run, batch, settings):
    """Old values, advantages and returns, (B, T - 1) each, and how much of the returns' variance the values explain."""
    mask, dtype = batch["mask"], compute_dtype(run.params, run.model_config, run.train_config)
    params = {name: param.to(dtype) for name, param in run.params.items()}
    values = policy(
        batch["tokens"], mask, params, run.model_config, settings.temperature, batch["kept"], entropy=False,
        shared=(batch["prompts"], batch["starts"]),
    )[2]  # fmt: skip
    price, _ = kl_weights(run, settings)
    kl = torch.zeros_like(values)
    if price:
        kl = kl_estimate(batch["logprobs"], batch["reference"], settings.kl_reward_kind)
    rewards = token_rewards(batch["rewards"], kl, mask, price)
    found, returns = gae(rewards, values, mask, settings.gamma, settings.lam)
    foreseen = explained_variance(values, returns, mask)
    found = whiten(found, mask) if settings.whiten else found
    return {"values": values, "advantages": found, "returns": returns, "explained_variance": foreseen}
