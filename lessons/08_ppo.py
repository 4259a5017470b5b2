# %% [markdown]
# # Lesson 8: PPO, or learning from a number
#
# Lesson 7 ended with a number for every answer, and with a warning. Now a policy learns from such numbers. Nobody tells it which token
# was good: it writes, it is judged, and what was judged well has to become likelier. The art is in how far to go at once.
#
# ## The problem
#
# An answer is drawn, token by token, from the model's own probabilities. The reward does not depend on the weights by any formula
# that could be differentiated: it depends on *which tokens came out*. How can there be a gradient?
#
# ## The idea: the gradient of an average
#
#     E[R] = sum over answers of pi(y) R(y)
#     d E[R] = sum dpi(y) R(y) = sum pi(y) (dpi(y) / pi(y)) R(y) = E[R d ln pi(y)]
#
# The average of R times the gradient of the log-probability: draw answers, push each by its reward. No derivative of R is needed
# anywhere. And because sum dpi = 0 (probabilities sum to one), E[b d ln pi] = 0 for every constant b: subtracting a *baseline*
# changes nothing on average, but very much around it. Three actions, rewards 10, 11, 12:

# %%

import numpy as np

from lessons.draw.curves import curves
from numpy_ref.model.softmax import log_softmax, softmax

rng = np.random.default_rng(0)
logits, rewards = np.array([0.2, 0.0, -0.2]), np.array([10.0, 11.0, 12.0])
p = softmax(logits)[0]
exact = softmax(logits)[1](rewards)  # the gradient of sum p R
scores = np.eye(3) - p  # row a: the gradient of ln p_a
drawn = rng.choice(3, 20_000, p=p)
for name, baseline in (("no baseline", 0.0), ("baseline 11", 11.0)):
    samples = scores[drawn] * (rewards[drawn] - baseline)[:, None]
    print(
        f"{name}: mean {samples.mean(0).round(3)}, exact {exact.round(3)}, deviation of one sample {samples.std(0).mean():.2f}"
    )

# %% [markdown]
# What was *expected* is the best baseline. PPO has a second head for it, the critic: V(text so far).
#
# ## What each token earns
#
# The reward comes once, at the end of the answer. And every token pays for its distance from a reference, the model that learning
# began with: without that price the policy would leave the texts that the judge can judge (lesson 7).
#
#     r_t = -coefficient kl_t + [t is the last token] score

# %%
from numpy_ref.ppo.advantages import gae, token_rewards

mask = np.array([[True, True, True, False], [True, True, True, True]])
kl = np.array([[0.1, 0.0, 0.2, 9.9], [0.0, 0.1, 0.1, 0.0]])
r = token_rewards(np.array([1.0, 0.0]), kl, mask, 0.1)
print("rewards of the tokens\n", r)

# %% [markdown]
# ## How much better than expected?
#
# After token t the critic expects V_(t+1) where it expected V_t before. What was better than expected at this one step:
#
#     delta_t = r_t + gamma V_next - V_t
#
# Trusting only that (lambda = 0) makes learning as wrong as the critic is. Trusting only what really came (lambda = 1) is right on
# average, and noisy: everything that happened later counts as this token's merit. GAE goes between, A_t = delta_t + gamma lam A_next:

# %%
values = np.array([[0.4, 0.5, 0.7, 0.0], [0.4, 0.3, 0.3, 0.1]])
for lam in (0.0, 0.95, 1.0):
    advantages, returns = gae(r, values, mask, 1.0, lam)
    print(f"lambda {lam:4}: advantages {advantages.round(2).tolist()}")
print(
    "sum of the deltas of row 0 = reward - V_0:",
    np.isclose(gae(r, values, mask, 1.0, 1.0)[0][0, 0], r[0].sum() - 0.4),
)

# %% [markdown]
# **Exercises:** `08_token_rewards`, `08_gae`, `08_whiten`.
#
# ## How far is far?
#
# The distance from the reference is KL = E[ln pi - ln ref], and each drawn token gives an estimate of it: with d = ln pi - ln ref,
#
#     k1 = d        k2 = d^2 / 2        k3 = exp(-d) - 1 + d
#
# As *values*, k1 and k3 are right on average; k3 is never negative. As a *loss*, something else counts: the average of the
# gradient. Over all five tokens of a small vocabulary, exactly:

# %%
from numpy_ref.rl.kl import kl_estimate

logits, reference = rng.standard_normal((2, 5))
logp, logp_vjp = log_softmax(logits)
p, ref = np.exp(logp), log_softmax(reference)[0]
true_kl = np.sum(p * (logp - ref))
true_gradient = logp_vjp(p * (logp - ref + 1))
print(f"KL {true_kl:.4f}, gradient  {true_gradient.round(3)}")
for kind in ("k1", "k2", "k3"):
    value, vjp = kl_estimate(logp, ref, kind)
    gradient = logp_vjp(p * vjp(np.ones(5)))  # the average over draws of each draw's gradient
    print(f"{kind}: average {np.sum(p * value):.4f}, average gradient {gradient.round(3)}")

# %% [markdown]
# k1 as a loss is pure noise: its gradient is zero on average. k2, which is a little off as a value, has exactly the gradient of the
# KL divergence. k3's is that of the divergence the other way round.
#
# **Exercise:** `08_kl`.
#
# ## Small steps: the ratio and the clip
#
# One rollout is expensive, so several steps are taken on it. After the first, the tokens no longer come from the policy that drew
# them; each is weighted by r = pi / pi_old. For r far from 1 that is noise. PPO's answer (arXiv:1707.06347): what goes beyond
# 1 +- 0.2 earns nothing more.
#
#     l = max(-A r, -A clip(r, 1 - low, 1 + high))        dl/d ln pi = -A r where the first counts, else 0
#
# Why the max? A token that has gone too far in the *wrong* direction must come back: there the first form is the larger, and it
# has its gradient. The simpler "no gradient outside of the clip" would leave it there.

# %%
from numpy_ref.ppo.objective import policy_loss

old = np.zeros((1, 4))
ratio = np.array([[1.5, 0.5, 1.5, 0.5]])
advantages = np.array([[1.0, 1.0, -1.0, -1.0]])
_, vjp = policy_loss(np.log(ratio), old, advantages, np.ones((1, 4), bool))
print("ratio     ", ratio[0], "\nadvantage ", advantages[0], "\ngradient  ", vjp(4.0)[0])

# %% [markdown]
# The first has gone up far enough and the last down far enough: 0. The two in the middle went the wrong way, and are pulled back.
#
# **Exercises:** `08_token_logprobs`, `08_token_entropy`, `08_policy_loss`, `08_value_loss`.
#
# ## All of it
#
# The task: write eight letters of a class, such as vowels; the reward is the share that belongs to the class. The policy begins as a
# model that has learnt nothing but to write eight random letters.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.model.initialise import initialise
from numpy_ref.ppo import loop as ppo_loop
from numpy_ref.ppo.loss import ppo_loss
from numpy_ref.rl.loop import begin, iterate, output_of
from numpy_ref.rl.prompts import Speech, TaskPrompts
from numpy_ref.rl.rewards import Judge, checker
from numpy_ref.rl.settings import PPOConfig
from numpy_ref.tasks.builtin import find
from numpy_ref.tokenizers.byte import decode, encode
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step

chat, task = ChatFormat(256), find("class-8")
speech = Speech(encode, decode, chat)
config = ModelConfig(
    vocab_size=chat.vocab_size,
    context=48,
    layers=2,
    width=48,
    heads=4,
    feed_forward=96,
    positions="rope",
    norm="rms",
)
source, judge = TaskPrompts((task,), speech), Judge((checker(),))


def random_letters():
    """A model that answers every prompt with eight random letters."""
    params = initialise(config, 0, np.float32)
    settings = TrainConfig(steps=150, batch=32, lr=6e-3, warmup=10, optimizer="muon", dtype="float32")
    states = init_states(params, settings)
    for step in range(settings.steps):
        texts = []
        for prompt in source.take(1000 + 32 * step, 32):
            answer = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 8))
            texts.append(np.array([*prompt.ids, *encode(answer), chat.end]))
        width = max(map(len, texts))
        inputs, targets = np.zeros((2, 32, width - 1), np.int64)
        targets[:] = -100
        for row, text in enumerate(texts):
            inputs[row, : len(text) - 1] = text[:-1]
            targets[row, len(text) - 10 : len(text) - 1] = text[-9:]
        _, params, states = train_step(params, states, inputs, targets, config, settings, step)
    return params


base = random_letters()
print("prompts:", [one.example.prompt for one in source.held_out(3)])

# %%
settings = PPOConfig(prompts=64, tokens=9, epochs=4, minibatches=2, lam=0.95, kl_reward=0.01, kl_every=1)
training = TrainConfig(steps=50, lr=1.5e-3, warmup=5, final_lr=1.0, weight_decay=0.0, dtype="float32")


def learn(settings, training=training, steps=50):
    """A run of PPO: the Run and the rows of its log."""
    with tempfile.TemporaryDirectory() as folder:
        run, reference = begin(output_of(config, settings.critic), training, base, Path(folder))
    rows = [
        iterate(run, reference, source, judge, settings, ppo_loop.advantages, ppo_loss, settings.by)
        for _ in range(steps)
    ]
    return run, rows


runs = {
    "PPO, a price of 0.01 a nat": learn(settings),
    "no price for distance": learn(replace(settings, kl_reward=0.0)),
    "no clip": learn(replace(settings, clip_low=1.0, clip_high=1e6)),
}
for name, (_, rows) in runs.items():
    last = rows[-1]
    print(
        f"{name:27} reward {rows[0]['reward']:.2f} -> {last['reward']:.2f}   entropy {last['entropy']:.2f} nats a token   distance {last['kl_completion']:.1f} nats an answer"
    )

# %%
curves(
    {name: np.array([row["reward"] for row in rows]) for name, (_, rows) in runs.items()},
    "Reward: the share of letters of the class asked for",
    xlabel="rollout",
    ylabel="mean reward",
)

# %% [markdown]
# What do they write? Look at how far each has gone, in nats an answer, and at what is left of its entropy. Where distance costs nothing
# the policy goes as far as the judge lets it; without the clip, one rollout's noise has pushed it over an edge.

# %%
from numpy_ref.rl.parts import policy_config, policy_params
from numpy_ref.rl.rollout import rollout

prompt = source.held_out(1)[0]
print(repr(prompt.example.prompt))
for name, (run, _) in runs.items():
    batch = rollout(
        policy_params(run.params),
        policy_config(run.model_config),
        [np.array(prompt.ids)],
        settings.sample(1),
        speech.stop,
        group=4,
    )
    said = [
        speech.answer(row[start : start + length - 1])
        for row, start, length in zip(batch["tokens"], batch["starts"], batch["lengths"])
    ]
    print(f"{name:27}", said)

# %% [markdown]
# The picture to remember: the surrogate, and the ratios of the tokens of one more rollout after the four passes over it. Blue tokens were
# better than expected and have become likelier, red ones worse; what has left the band wins nothing more.

# %%
from lessons.draw.ppo import ppo
from numpy_ref.rl.experience import gather
from numpy_ref.rl.policy import policy
from numpy_ref.rl.step import learn as passes

run = runs["PPO, a price of 0.01 a nat"][0]
one_rollout, _ = gather(
    policy_params(run.params), config, source, judge, settings, 0, run.position, run.extra["rollouts"]
)
one_rollout["reference"] = one_rollout["logprobs"]
one_rollout |= ppo_loop.advantages(run, one_rollout, settings)
_, params, _ = passes(
    run.params,
    run.states,
    one_rollout,
    run.model_config,
    training,
    settings,
    ppo_loss,
    0.0,
    settings.by,
    run.step,
)
(now, _, _), _ = policy(one_rollout["tokens"], one_rollout["mask"], params, run.model_config)
counted = one_rollout["mask"]
ppo(ratios=np.exp(now - one_rollout["logprobs"])[counted], advantages=one_rollout["advantages"][counted])

# %% [markdown]
# ## The other side: PyTorch
#
# The same run, on the same random numbers: rollouts, judgements and updates are the same, step for step.

# %%
import torch

from torch_impl.ppo import loop as torch_ppo_loop
from torch_impl.ppo.loss import ppo_loss as torch_ppo_loss
from torch_impl.rl.loop import begin as torch_begin
from torch_impl.rl.loop import iterate as torch_iterate

double = replace(training, dtype="float64")
torch_base = {name: torch.from_numpy(value.astype(np.float64)) for name, value in base.items()}
with tempfile.TemporaryDirectory() as folder:
    ours, reference = begin(
        output_of(config, "value"),
        double,
        {name: value.astype(np.float64) for name, value in base.items()},
        Path(folder),
    )
    theirs, torch_reference = torch_begin(output_of(config, "value"), double, torch_base, Path(folder))
for step in range(3):
    a = iterate(ours, reference, source, judge, settings, ppo_loop.advantages, ppo_loss, settings.by)
    b = torch_iterate(
        theirs,
        torch_reference,
        source,
        judge,
        settings,
        torch_ppo_loop.advantages,
        torch_ppo_loss,
        settings.by,
    )
    print(
        f"step {step}: reward {a['reward']:.6f} and {b['reward']:.6f}, loss {a['loss']:.12f} and {float(b['loss']):.12f}"
    )

# %% [markdown]
# ## Further reading
#
# - Williams, *Simple statistical gradient-following algorithms*, Machine Learning 8 (1992) 229: REINFORCE.
# - Schulman et al., *Proximal policy optimization algorithms*, arXiv:1707.06347; *Generalized advantage estimation*, arXiv:1506.02438.
# - Ziegler et al., *Fine-tuning language models from human preferences*, arXiv:1909.08593.
# - Schulman, *Approximating KL divergence*, 2020.
# - Huang et al., *The 37 implementation details of PPO*, 2022; Andrychowicz et al., *What matters in on-policy RL*, arXiv:2006.05990.
#
# In this project: `numpy_ref/ppo/`, `numpy_ref/rl/`. **Next:** lesson 9 does it without a critic.
