"""Rewards of tokens, and how much better than expected each token was."""

import numpy as np


def token_rewards(scores, kl, mask, coefficient):
    """What each token earns: the price of its distance from the reference, and at the last one the score of the whole.

        r_t = -coefficient kl_t + [t is the last token that counts] score          (arXiv:1909.08593, eq. 2)

    The last one is the end token, if the text has one: it is there that the policy decided to stop. The score must not
    stand behind it, on the first token of the padding, where the critic has never learnt anything.

    Shapes: scores (B,), kl (B, T), mask bool (B, T) -> (B, T), 0 where the mask hides. No vjp.
    """
    position = np.arange(mask.shape[1])
    last = np.max(np.where(mask, position, -1), axis=-1, keepdims=True, initial=-1)
    rewards = np.where(mask, -coefficient * np.where(mask, kl, 0.0), 0.0)
    return rewards + np.where(mask & (position == last), scores[:, None], 0.0)


def gae(rewards, values, mask, gamma=1.0, lam=0.95, final=None):
    """Generalised advantage estimates (arXiv:1506.02438, eq. 16), and the returns that the critic is to learn.

        delta_t = r_t + gamma V_next - V_t        A_t = delta_t + gamma lam A_next        R_t = A_t + V_t

    "next" is the next token that counts: between two turns of the policy others may have written, and those tokens are
    passed over. After the last one V is 0, for there the text is over; ``final`` (B,) is the critic's value of a text
    that was only cut off. Values V_t are those before token t is chosen. The returns belong to the advantages as they
    are here, before any whitening.

    Shapes: rewards, values, mask bool (B, T), final (B,) or None -> advantages, returns (B, T), 0 where the mask hides;
    what rewards and values hold there changes no bit. No vjp: the policy's gradient takes advantages for constants.
    """
    rewards, values = np.where(mask, rewards, 0.0), np.where(mask, values, 0.0)
    next_value = np.zeros_like(values[:, 0]) if final is None else final
    next_advantage = np.zeros_like(values[:, 0])
    advantages = np.zeros_like(values)
    for t in reversed(range(mask.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        advantages[:, t] = np.where(here, advantage, 0.0)
        next_value = np.where(here, values[:, t], next_value)
        next_advantage = np.where(here, advantage, next_advantage)
    return advantages, advantages + values
