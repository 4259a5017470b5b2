# %% [markdown]
# # Lesson 9: GRPO, or learning from siblings
#
# PPO needs a critic that says what was to be expected: a second head or a second model, which has to be learnt itself. For texts
# whose answers can be checked there is something simpler: ask the same question eight times. What was to be expected is what the
# other seven got.
#
# ## The problem
#
# A policy gradient needs a baseline (lesson 8), and a critic of a language model is as hard to learn as the policy. The reward comes once,
# at the end; the critic has to guess after three words whether a proof will succeed.
#
# ## The idea
#
# Draw a group of G answers to each prompt. The advantage of an answer, all its tokens alike, is its reward beside those of its group:
#
#     GRPO        A = (R - mean) / (s + eps),    s: deviation of the group       arXiv:2402.03300
#     Dr. GRPO    A = R - mean                                                   arXiv:2503.20783
#     RLOO        A = R - mean of the others                                     arXiv:2402.14740
#
# A group whose rewards are all equal teaches nothing: all right or all wrong, there is nobody to compare with.
#
# What division by s does: one success among eight has A = 2.47 instead of 0.875. A prompt that is nearly always failed, or nearly
# always solved, counts as much as one in between. The picture to remember:

# %%
import numpy as np

from lessons.draw.curves import curves
from lessons.draw.grpo import grpo
from numpy_ref.grpo.advantages import group_advantages

rewards = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 1, 1, 1, 1, 1],
        [0] * 8,
        [0, 0.25, 0.25, 0.5, 0.5, 0.5, 0.75, 1],
        [1] * 8,
    ],
    float,
)
grpo(rewards)

# %% [markdown]
# What goes wrong: equal rewards in floating point. The mean of eight times 0.1 is not exactly 0.1, the deviation is not exactly 0, and
# dividing one rounding error by another makes advantages out of nothing:

# %%
same = np.full((1, 8), 0.1, np.float32)
mean = same.mean() + np.float32(1e-8)  # what a sum in another order may give
print("naive    ", ((same - mean) / ((same - mean).std() + 1e-12))[0, :3], "...")
print("reference", group_advantages(same)[0, :3], "...")

# %% [markdown]
# **Exercises:** `09_group_advantages`, `09_informative`.
#
# ## A mean over what?
#
# Every token has a loss, and one number is wanted. There are three ways, and they learn different things:
#
#     sequence    mean of each answer, mean of those        a token of a long answer counts less
#     token       mean over all tokens                      every token counts alike, long answers more
#     length      sum / (rows x longest possible answer)    a token is worth the same in every batch
#
# Under "sequence", a wrong answer is punished less per token the longer it is: models learn to be wrong at length (arXiv:2503.20783).
# How hard one token of a wrong answer is pushed down, beside one of a right answer of 4 tokens:

# %%
from numpy_ref.rl.masked import aggregate

for by in ("sequence", "token", "length"):
    pushes = []
    for length in (4, 8, 32):
        mask = np.arange(32) < np.array([[4], [length]])
        advantages = np.array([[1.0], [-1.0]]) * np.ones((2, 32))
        _, vjp = aggregate(advantages, mask, by)
        share = vjp(1.0)
        pushes.append(f"{share[1, 0] / share[0, 0]:.3f}")
    print(
        f"{by:9} wrong answers of 4, 8, 32 tokens: " + ", ".join(pushes),
        f"   gradient of a token in the last batch {share[0, 0]:.4f}",
    )

# %% [markdown]
# **Exercises:** `09_denominator`, `09_aggregate`.
#
# ## Whose ratio?
#
# PPO's ratio belongs to a token, but the reward belongs to the answer. GSPO (arXiv:2507.18071) takes one ratio for the whole answer,
# the geometric mean of its tokens', and clips that:
#
#     s = exp(mean of (ln pi - ln pi_old))        ds/d ln pi_t = s / n
#
# CISPO (arXiv:2506.13585) clips the *weight* and not the loss, so that no token is left out: -w A ln pi, w = min(r, c) a constant.
# Four tokens of one good answer, one of which has moved far:

# %%
from numpy_ref.grpo.objective import cispo_loss, group_loss, gspo_loss

log_ratio = np.array([[0.0, 0.05, 0.9, 0.0]])
old, everyone, good = np.zeros((1, 4)), np.ones((1, 4), bool), np.ones((1, 1))
for name, loss in {
    "per token (PPO, GRPO)": lambda: group_loss(log_ratio, old, good, everyone, "grpo"),
    "per answer (GSPO)": lambda: gspo_loss(log_ratio, old, good, everyone, 0.2, 0.3),
    "held weights (CISPO)": lambda: cispo_loss(log_ratio, old, good, everyone, 1.2),
}.items():
    print(f"{name:22} gradient of ln pi:", loss()[1](1.0)[0].round(3))

# %% [markdown]
# **Exercises:** `09_gspo`, `09_cispo`; and for the distance `09_adapted_coefficient`.
#
# ## All of it
#
# A model learns to turn three letters round from a few examples (lesson 6), not enough to be good at it. Then it practises: eight
# answers to each of 16 prompts, a checker that says right or wrong, and nothing else.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.data.packing import conversation_batch
from numpy_ref.grpo import loop as grpo_loop
from numpy_ref.grpo.loss import grpo_loss
from numpy_ref.grpo.objective import BY
from numpy_ref.model.initialise import initialise
from numpy_ref.rl.evaluate import held_out
from numpy_ref.rl.loop import begin, iterate
from numpy_ref.rl.parts import policy_params
from numpy_ref.rl.prompts import Speech, TaskPrompts
from numpy_ref.rl.rewards import Judge, checker
from numpy_ref.rl.settings import GRPOConfig
from numpy_ref.tasks.builtin import find
from numpy_ref.tasks.task import examples
from numpy_ref.tokenizers.byte import decode, encode
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step

chat, task = ChatFormat(256), find("reverse-3")
speech = Speech(encode, decode, chat)
source, judge = TaskPrompts((task,), speech), Judge((checker(),))
config = ModelConfig(
    vocab_size=chat.vocab_size,
    context=32,
    layers=2,
    width=48,
    heads=4,
    feed_forward=96,
    positions="rope",
    norm="rms",
)


def fine_tuned(count, steps):
    """A model that has seen ``count`` examples."""
    params, settings = (
        initialise(config, 0, np.float32),
        TrainConfig(steps=steps, batch=32, lr=6e-3, warmup=10, optimizer="muon", dtype="float32"),
    )
    chosen = examples(task, "train", count)
    both = [
        chat.encode(
            [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.answer}], encode
        )
        for one in chosen
    ]
    ids, weights = (np.concatenate(part) for part in zip(*both))
    borders, states = np.cumsum([0, *(len(one) for one, _ in both)]), init_states(params, settings)
    for step in range(steps):
        rows = (32 * step + np.arange(32)) % count
        inputs, targets, share, documents = conversation_batch(ids, weights, borders, rows, 32)
        _, params, states = train_step(
            params, states, inputs, targets, config, settings, step, documents=documents, weights=share
        )
    return params


base = fine_tuned(2000, 225)
settings = GRPOConfig(prompts=16, group=8, tokens=5, epochs=1, eval_prompts=60, kl_every=5)
training = TrainConfig(steps=60, lr=1e-3, warmup=5, final_lr=1.0, weight_decay=0.0, dtype="float32")
questions = source.held_out(settings.eval_prompts)


def measured(params):
    """Pass rates on held-out prompts, in percent."""
    found = held_out(params, config, questions, speech, judge, settings)
    return {name: 100 * found[name] for name in ("greedy", "pass_1", "pass_8")}


print("fine-tuned:", {name: f"{value:.0f} %" for name, value in measured(base).items()})

# %% [markdown]
# pass_8 is the chance that one of eight drawn answers is right: what the model *can* do. pass_1 is how often a single one is. Between
# the two lies what practice can bring out.

# %%


def practise(settings, steps=60):
    """A run of GRPO: the Run and the rows of its log."""
    with tempfile.TemporaryDirectory() as folder:
        run, reference = begin(config, training, base, Path(folder))
    by = BY[settings.objective]
    return run, [
        iterate(run, reference, source, judge, settings, grpo_loop.advantages, grpo_loss, by)
        for _ in range(steps)
    ]


runs = {
    "GRPO's deviation": practise(settings),
    "from the mean (Dr. GRPO)": practise(replace(settings, baseline="mean", objective="dr_grpo")),
}
for name, (run, rows) in runs.items():
    print(f"{name:25}", {key: f"{value:.0f} %" for key, value in measured(policy_params(run.params)).items()})

# %%
curves(
    {name: np.array([row["reward"] for row in rows]) for name, (_, rows) in runs.items()},
    "Practice: the share of right answers in each rollout",
    xlabel="rollout",
    ylabel="mean reward",
    smooth=True,
)

# %% [markdown]
# While it gets better, more and more groups are right as a whole and teach nothing. "Dynamic sampling" (DAPO, arXiv:2503.14476) draws on
# until the batch is full of groups that do:

# %%
silent = {name: 100 * np.array([row["zero_variance"] for row in rows]) for name, (_, rows) in runs.items()}
print(
    "; ".join(
        f"{name}: {values[:5].mean():.0f} % of the groups at first, {values[-5:].mean():.0f} % at the end"
        for name, values in silent.items()
    )
)
curves(
    silent,
    "Groups whose rewards are all equal",
    xlabel="rollout",
    ylabel="percent of the groups",
    smooth=True,
)

# %% [markdown]
# ## The other side: PyTorch

# %%
import time

import torch

from torch_impl.grpo import loop as torch_grpo_loop
from torch_impl.grpo.loss import grpo_loss as torch_grpo_loss
from torch_impl.rl.loop import begin as torch_begin
from torch_impl.rl.loop import iterate as torch_iterate

double = replace(training, dtype="float64")
with tempfile.TemporaryDirectory() as folder:
    ours, reference = begin(
        config, double, {name: value.astype(np.float64) for name, value in base.items()}, Path(folder)
    )
    theirs, torch_reference = torch_begin(
        config,
        double,
        {name: torch.from_numpy(value.astype(np.float64)) for name, value in base.items()},
        Path(folder),
    )
took = {"NumPy": 0.0, "PyTorch": 0.0}
for step in range(3):
    start = time.perf_counter()
    a = iterate(ours, reference, source, judge, settings, grpo_loop.advantages, grpo_loss, "token")
    took["NumPy"] += time.perf_counter() - start
    start = time.perf_counter()
    b = torch_iterate(
        theirs, torch_reference, source, judge, settings, torch_grpo_loop.advantages, torch_grpo_loss, "token"
    )
    took["PyTorch"] += time.perf_counter() - start
    print(
        f"step {step}: reward {a['reward']:.6f} and {b['reward']:.6f}, gradient norm {a['grad_norm']:.12f} and {float(b['grad_norm']):.12f}"
    )
print("a step: " + ", ".join(f"{name} {1000 * seconds / 3:.0f} ms" for name, seconds in took.items()))

# %% [markdown]
# ## Further reading
#
# - Shao et al., *DeepSeekMath* (GRPO), arXiv:2402.03300; DeepSeek-AI, *DeepSeek-R1*, arXiv:2501.12948.
# - Liu et al., *Understanding R1-Zero-like training* (Dr. GRPO), arXiv:2503.20783; Yu et al., *DAPO*, arXiv:2503.14476.
# - Ahmadian et al., *Back to basics* (RLOO), arXiv:2402.14740.
# - Zheng et al., *Group sequence policy optimization*, arXiv:2507.18071; MiniMax, *MiniMax-M1* (CISPO), arXiv:2506.13585.
# - Chen et al., *Evaluating large language models trained on code* (pass@k), arXiv:2107.03374.
#
# In this project: `numpy_ref/grpo/`, `numpy_ref/rl/`. **Next:** lesson 10 leaves tokens behind.
