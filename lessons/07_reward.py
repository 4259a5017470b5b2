# %% [markdown]
# # Lesson 7: reward models, or how an opinion becomes a number
#
# Lesson 6 learnt from answers. But nobody writes down the best of all answers; what people can do is to look at two and say
# which one they like better. This lesson makes a number for every answer out of such comparisons, and then looks hard at what
# happens when somebody optimises that number.
#
# ## The problem
#
# Given a text, say how good it is. Nobody knows that number, and no two people would give the same one. What is known are
# comparisons: this one rather than that one.
#
# ## The idea: Bradley and Terry, 1952
#
# Chess players have no true strength either, and yet they have ratings: numbers whose *differences* predict who wins.
#
#     P(chosen beats rejected) = sigmoid(z),    z = r_c - r_r,    sigmoid(z) = 1 / (1 + exp(-z))
#     l = -ln sigmoid(z) = softplus(-z),        softplus(x) = ln(1 + exp(x))
#
# Backward: softplus' = sigmoid, so dl/dz = -sigmoid(-z), and z = r_c - r_r gives
#
#     dr_c = -sigmoid(-z)        dr_r = +sigmoid(-z)
#
# The gradient is *the chance with which the model would have got it wrong*. A pair that is clear teaches nothing more; a pair that is
# upside down pulls with full force, but never with more than that, so that one wrong label can't throw the model far.

# %%
import math

import numpy as np

from lessons.draw.curves import curves
from lessons.probe import seconds
from numpy_ref.reward.objective import bradley_terry

rng = np.random.default_rng(0)
chosen, rejected = np.array([3.0, 0.0, -3.0]), np.zeros(3)
loss, vjp = bradley_terry(chosen, rejected, denominator=1)
print("leads   ", chosen, "  gradients of the chosen answers", vjp(1.0)[0].round(3))
print(
    "shifted by 100: the same loss,",
    bradley_terry(chosen + 100, rejected + 100)[0] == bradley_terry(chosen, rejected)[0],
)

# %% [markdown]
# Only differences count. So the mean of all rewards may drift anywhere, and two reward models have no common zero: never compare
# their numbers, and take off the mean before a policy learns from them.
#
# What goes wrong in code: ln(1 + exp(-z)) overflows where a pair is far upside down, exactly where the gradient matters most.
#
#     softplus(x) = max(x, 0) + ln(1 + exp(-|x|))        never overflows

# %%
with np.errstate(over="ignore"):
    print(
        "naive",
        np.log(1 + np.exp(np.float32(100))),
        "  reference",
        bradley_terry(np.float32([-100]), np.float32([0]))[0],
    )

# %% [markdown]
# **Exercises:** `07_bradley_terry`; and `07_plackett_luce` for whole rankings: each place is won, by a softmax, against all that are left.
#
# ## Where does the number come from?
#
# From the same transformer. In the place of the output head stands one row of weights, and it reads the hidden state at the
# *last token*, the only place that has seen the whole text. Finding that place is where most code goes wrong: the last column is
# padding for all but the longest text, and looking for the padding's id fails when the text contains that id.

# %%
from numpy_ref.reward.rows import padded

tokens, documents, ends = padded([np.array([7, 0, 0]), np.array([5, 6, 7, 8, 9])])
print(tokens)
print("ends by length  ", ends[:, 1].tolist())
print(
    "last non-zero id",
    [int(np.flatnonzero(row)[-1]) for row in tokens],
    " <- the text 7 0 0 has lost two tokens",
)

# %% [markdown]
# **Exercises:** `07_padded`, `07_scalar_head`.
#
# ## A reward model learns
#
# The task is to turn a word round. For each prompt we have two answers, each with 0 to 4 mistakes in it, and the better one
# is known. The model sees 400 comparisons, again and again. A truth is known here, so that we can look behind the number:
# `closeness`, 1 minus the share of edits that an answer needs.

# %%
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.model.initialise import initialise
from numpy_ref.reward.dataset import encoded
from numpy_ref.reward.model import reward_model, with_reward_head
from numpy_ref.reward.preferences import corrupted, graded
from numpy_ref.reward.settings import RewardConfig
from numpy_ref.reward.step import comparison_scores, reward_step
from numpy_ref.tasks.builtin import find
from numpy_ref.tasks.task import Draws, closeness, examples
from numpy_ref.tokenizers.byte import encode
from numpy_ref.training.optimizer import init_states

task, chat = find("reverse-4"), ChatFormat(256)
config = ModelConfig(
    vocab_size=chat.vocab_size,
    context=40,
    layers=2,
    width=48,
    heads=4,
    feed_forward=128,
    positions="rope",
    norm="rms",
    output="reward",
)
train_pairs = encoded(graded(task, "train", 400), chat, encode, config.context)
held_out = encoded(graded(task, "held_out", 200), chat, encode, config.context)
settings = TrainConfig(steps=300, batch=32, lr=3e-3, warmup=20, optimizer="muon", dtype="float32")


def accuracy(params):
    """Share of held-out pairs in which the better answer has the higher reward."""
    (scores, _), _ = comparison_scores(params, held_out, config)
    return 100 * float(np.mean(scores[:, 0] > scores[:, 1]))


def learn(seed):
    """Params of a reward model, and its accuracy after every 25 steps."""
    params = with_reward_head(initialise(config, seed, np.float32), config, seed)
    states, shares, order = init_states(params, settings), [accuracy(params)], np.random.default_rng(seed)
    for step in range(settings.steps):
        batch = [train_pairs[i] for i in order.integers(0, len(train_pairs), settings.batch)]
        _, params, states = reward_step(params, states, batch, config, settings, RewardConfig(), step)
        if (step + 1) % 25 == 0:
            shares.append(accuracy(params))
    return params, shares


models, accuracies = [], {}
for seed in range(3):
    params, shares = learn(seed)
    models.append(params)
    accuracies[f"model {seed}"] = (25 * np.arange(len(shares)), np.array(shares))
print(
    "held-out accuracy at the end: " + ", ".join(f"{shares[-1]:.0f} %" for _, shares in accuracies.values())
)
curves(accuracies, "Held-out comparisons judged right", ylabel="percent")

# %% [markdown]
# ## What happens when somebody optimises it
#
# Take n answers and keep the one with the highest reward. The larger n, the harder the reward is optimised: best-of-n is
# ln n - (n - 1) / n nats away from just answering. The reward of the winner rises with n, by construction. But is the *answer* better?
# The model was trained on answers with a few mistakes. Among hundreds of candidates there are some of a kind it has never seen,
# and where it happens to err upwards, best-of-n finds exactly that. "When a measure becomes a target, it ceases to be a good
# measure." (Goodhart's law; measured at scale in arXiv:2210.10760.)

# %%
CANDIDATES = 192


def candidates(example, number):
    """Answers of all kinds: with 1 to 4 mistakes, and of any letters and any length."""
    draws = Draws("lesson", number)
    found = []
    for place in range(CANDIDATES):
        if place % 3:
            found.append(draws.text(task.alphabet, 1 + draws.below(9)))
        else:
            found.append(corrupted(example.answer, 1 + draws.below(4), task.alphabet, draws))
    return found


def judged(params, prompt, answers):
    """The rewards of answers to a prompt."""
    texts = [
        chat.encode([{"role": "user", "content": prompt}, {"role": "assistant", "content": one}], encode)[0]
        for one in answers
    ]
    tokens, documents, ends = padded(texts)
    return reward_model(tokens, ends, params, config, documents)[0].astype(np.float64)


prompts = examples(task, "held_out", 20)
answers = [candidates(one, number) for number, one in enumerate(prompts)]
gold = np.array([[closeness(one, text, True) for text in texts] for one, texts in zip(prompts, answers)])
rewards = np.array(
    [[judged(params, one.prompt, texts) for params in models] for one, texts in zip(prompts, answers)]
)
print(
    "rewards (prompts, models, candidates):",
    rewards.shape,
    "  best answer of a prompt:",
    gold.max(1).mean().round(2),
    "on average",
)


# %%
def best_of(proxy, value, n):
    """The expected value of the answer with the highest proxy among n of the candidates, exactly.

    The answer of rank i (from 1) of N is the best of n with the chance C(i - 1, n - 1) / C(N, n).
    """
    total = proxy.shape[1]
    chance = np.array([math.comb(rank, n - 1) / math.comb(total, n) for rank in range(total)])
    order = np.argsort(proxy, axis=1)
    return float(np.mean(np.sum(np.take_along_axis(value, order, 1) * chance, axis=1)))


sizes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
nats = np.array([math.log(n) - (n - 1) / n for n in sizes])
one = rewards[:, 0]
scaled = (one - one.mean()) / one.std()
truth = (gold - gold.mean()) / gold.std()
result = {
    "reward of the model": (nats, np.array([best_of(one, scaled, n) for n in sizes])),
    "truth, judged by it": (nats, np.array([best_of(one, truth, n) for n in sizes])),
    "truth, judged by itself": (nats, np.array([best_of(gold, truth, n) for n in sizes])),
}
print(
    f"best of 128: reward {result['reward of the model'][1][-1]:.2f} deviations above the mean; truth {result['truth, judged by it'][1][-1]:.2f}; possible {result['truth, judged by itself'][1][-1]:.2f}"
)

# %% [markdown]
# The picture to remember:

# %%
curves(
    result,
    "Best of n answers: what the model believes, and what is true",
    xlabel="how hard it is optimised, in nats: ln n - (n - 1) / n",
    ylabel="deviations above the mean answer",
)

# %% [markdown]
# **Several judges.** Models that learnt the same comparisons from different beginnings agree where they were trained and disagree
# elsewhere. Their mean is steadier than each of them, and being sceptical (the worst of them, or mean minus deviation) avoids answers that
# one of them happens to like:

# %%
from numpy_ref.reward.model import ensemble

for name, proxy in {
    "one model": rewards[:, 0],
    "mean of three": np.array([ensemble(r, "mean") for r in rewards]),
    "worst of three": np.array([ensemble(r, "worst") for r in rewards]),
}.items():
    print(f"best of 128 by {name:15} truth {best_of(proxy, gold, 128):.3f}")

# %% [markdown]
# **Exercise:** `07_ensemble`.
#
# ## Shaping
#
# Before a policy learns from it, a reward is brought to a steady size. The running deviation must not be computed from a sum of
# squares: for rewards around 1,000 nothing would be left of it in float32. Two groups are merged instead (Chan, Golub, LeVeque 1979):
#
#     d = a - m        m' = m + d k / (n + k)        S' = S + Q + d^2 n k / (n + k)

# %%
from numpy_ref.reward.shaping import NO_MOMENTS, potential_shaping, update_moments

stream = (1000 + 0.05 * rng.standard_normal(5000)).astype(np.float32)
moments, total, squares = NO_MOMENTS, np.float32(0), np.float32(0)
for part in np.split(stream, 50):
    moments = update_moments(moments, part)
    total, squares = total + part.sum(), squares + (part * part).sum()
naive = squares / 5000 - (total / 5000) ** 2
print(
    f"deviation: merged {math.sqrt(moments['squares'] / moments['count']):.4f}, truth {stream.astype(float).std():.4f}, variance by squares in float32 {naive:.4f}"
)

# %% [markdown]
# And hints on the way? A reward for each good step changes what is best: the policy walks in circles to collect it. Only one form is
# safe (Ng, Harada, Russell 1999): the *gain* of a potential, f_t = phi(s_(t+1)) - phi(s_t), with phi = 0 at the end. Its sum over an
# answer is -phi(s_0), whatever the answer was:

# %%
mask = np.arange(6) < np.array([[3], [6]])
potentials = np.where(mask, rng.standard_normal((2, 6)), 0.0)
potentials[:, 0] = 0.7  # both answers begin in the same state
hints = potential_shaping(potentials, mask)
print("hints\n", hints.round(2), "\nsums", hints.sum(1).round(12))

# %% [markdown]
# **Exercises:** `07_update_moments`, `07_missing_end`, `07_potential_shaping`.
#
# ## The other side: PyTorch

# %%
import torch

from torch_impl.reward.model import reward_model as torch_reward_model

texts = [text for pair in train_pairs[:32] for text in pair.texts]
tokens, documents, ends = padded(texts)
params = {name: value.astype(np.float64) for name, value in models[0].items()}
torch_params = {name: torch.from_numpy(value) for name, value in params.items()}
tensors = [torch.from_numpy(array) for array in (tokens, ends, documents)]
ours = reward_model(tokens, ends, params, config, documents)[0]
theirs = torch_reward_model(tensors[0], tensors[1], torch_params, config, tensors[2])
print(f"largest difference of {len(texts)} rewards: {np.abs(ours - theirs.detach().numpy()).max():.1e}")
small = {name: value.float() for name, value in torch_params.items()}
times = {
    "NumPy": seconds(lambda: reward_model(tokens, ends, models[0], config, documents)),
    "PyTorch": seconds(lambda: torch_reward_model(tensors[0], tensors[1], small, config, tensors[2])),
}
print(
    f"judging {len(texts)} answers: "
    + ", ".join(f"{name} {1000 * time:.1f} ms" for name, time in times.items())
)

# %% [markdown]
# ## Further reading
#
# - Bradley, Terry, *Rank analysis of incomplete block designs*, Biometrika 39 (1952) 324.
# - Stiennon et al., *Learning to summarize from human feedback*, arXiv:2009.01325; Ouyang et al., arXiv:2203.02155.
# - Gao, Schulman, Hilton, *Scaling laws for reward model overoptimization*, arXiv:2210.10760.
# - Coste et al., *Reward model ensembles help mitigate overoptimization*, arXiv:2310.02743.
# - Ng, Harada, Russell, *Policy invariance under reward transformations*, ICML 1999.
#
# In this project: `numpy_ref/reward/`. **Next:** lesson 8 lets a policy learn from the number, carefully.
