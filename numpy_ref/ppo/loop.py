"""Proximal policy optimisation (arXiv:1707.06347) of a language model (arXiv:1909.08593)."""

from numpy_ref.ppo.advantages import gae, token_rewards
from numpy_ref.ppo.loss import ppo_loss
from numpy_ref.rl.kl import kl_estimate
from numpy_ref.rl.loop import begin, kl_weights, output_of, reinforce, resumed
from numpy_ref.rl.masked import explained_variance, whiten
from numpy_ref.rl.policy import policy


def train_ppo(
    model_config, train_config, settings, source, judge, base, out, reward=None, resume=False, stop_after=None,
    report=None, seconds=None, sample=None,
):  # fmt: skip
    """Train the policy ``base`` (name -> array, of model_config) in the run folder ``out``; returns the Run.

    settings: PPOConfig. source: prompts (``rl.prompts``); judge: their rewards (``rl.rewards``). reward: parameters of a
    reward model, as which a critic apart may begin. The other arguments and errors are those of ``rl.loop.reinforce``.
    """
    config = output_of(model_config, settings.critic)
    run, reference = resumed(config, train_config, out) if resume else begin(config, train_config, base, out, reward)
    return reinforce(
        run, reference, source, judge, settings, advantages, ppo_loss, settings.by, out, stop_after, report, seconds, sample
    )


def advantages(run, batch, settings):
    """{"values", "advantages", "returns" (B, T - 1), "explained_variance" ()} of a batch: the critic's values before the
    update, and what came instead, once the price of the distance is paid."""
    mask = batch["mask"]
    (_, _, values), _ = policy(
        batch["tokens"], mask, run.params, run.model_config, settings.temperature, batch["kept"]
    )
    price, _ = kl_weights(run, settings)
    kl = batch["logprobs"] * 0.0
    if price:
        kl, _ = kl_estimate(batch["logprobs"], batch["reference"], settings.kl_reward_kind)
    rewards = token_rewards(batch["rewards"], kl, mask, price)
    found, returns = gae(rewards, values, mask, settings.gamma, settings.lam)
    foreseen = explained_variance(values, returns, mask)
    found = whiten(found, mask) if settings.whiten else found
    return {"values": values, "advantages": found, "returns": returns, "explained_variance": float(foreseen)}
