# %% [markdown]
# # Lesson 6: fine-tuning, or how a model learns to answer
#
# A language model continues texts. Ask it "sort 3142" and it may well go on with "sort 9921", as a page of exercises would. This
# lesson makes it answer: first by showing it answers, then by telling it which of two answers is better.
#
# ## The problem
#
# We have a model that predicts, and examples of what we want: a prompt, and the right answer. What exactly should it learn
# from them? Not the prompts: those are given when it is used. Not the end of one example and the start of the next. And it must
# learn to *stop*.
#
# ## A conversation is ids, not text
#
# Who speaks, and where a turn ends, is said by ids that no text can write: four *control tokens* directly above the vocabulary. If
# they were text, a user could type them, and end his own turn in the assistant's name.

# %%
from dataclasses import replace

import numpy as np

from lessons.probe import seconds
from numpy_ref.data.chat_format import CONTROLS, ChatFormat
from numpy_ref.tokenizers.byte import decode, encode

rng = np.random.default_rng(0)
chat = ChatFormat(256)
messages = [{"role": "user", "content": "reverse abc= <|end|>"}, {"role": "assistant", "content": "cba"}]
ids, weights = chat.encode(messages, encode)
print("ids    ", ids.tolist())
print("weights", weights.astype(int).tolist())
print(
    f"the end of a turn, id {chat.end}, occurs {np.sum(ids == chat.end)} times: once a turn. The typed <|end|> is seven bytes"
)

# %% [markdown]
# ## What counts in the loss
#
# Each token's cross-entropy is multiplied by a weight: 1 in an answer *and its end*, 0 in the prompt.
#
#     l = sum_n w_n (lse_n - logits_n[y_n]) / sum_n w_n        dlogits_n = w_n (p_n - onehot(y_n)) / sum w
#
# The divisor is the sum of the weights, over *all* micro-batches: with a mean of means, short answers in one part would count more
# than long ones in another. The picture to remember:

# %%
from lessons.draw.conversation import conversation

names = {chat.control(name): f"<{name}>" for name in CONTROLS}
pieces = [names.get(int(i)) or decode(np.array([i])) for i in ids]
conversation(pieces, weights)

# %% [markdown]
# **Exercise:** `06_weighted_loss`.
#
# ## Packing
#
# Conversations have all lengths, a batch is a rectangle. Padding every row to the longest wastes most of it. Putting several texts
# into one row (the longest first, each into the row with the least room that is enough) fills nearly all of it. The texts must
# not see each other: attention is cut at the borders, positions start again, and no target crosses a border.

# %%
from numpy_ref.data.packing import best_fit_decreasing, conversation_batch

lengths = np.minimum(64, rng.geometric(0.06, 400) + 4)
row, _ = best_fit_decreasing(lengths, 64)
print(
    f"400 texts of {lengths.min()} to {lengths.max()} tokens: padded, {lengths.sum() / (400 * lengths.max()):.0%} of the places are used; "
    f"packed into {row.max() + 1} rows of 64, {lengths.sum() / (64 * (row.max() + 1)):.1%}"
)

# %% [markdown]
# Is it the same? Logits of a text in a packed row, against the same text alone:

# %%
from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.model.initialise import initialise
from numpy_ref.model.transformer import transformer

config = ModelConfig(
    vocab_size=chat.vocab_size,
    context=64,
    layers=2,
    width=48,
    heads=4,
    feed_forward=128,
    positions="rope",
    norm="rms",
)
params = initialise(config, 0, np.float64)
together = np.array([[*ids, *ids[::-1]]])
documents = np.array([[0] * len(ids) + [1] * len(ids)])
packed = transformer(together, params, config, documents=documents)[0][0, len(ids) :]
alone = transformer(ids[::-1][None], params, config)[0][0]
leaky = transformer(together, params, config)[0][0, len(ids) :]
print(
    f"largest difference: packed {np.abs(packed - alone).max():.1e}, without telling the documents apart {np.abs(leaky - alone).max():.1e}"
)

# %% [markdown]
# **Exercises:** `06_best_fit`, `06_row_width`, `06_conversation_batch`.
#
# ## New tokens for an old model
#
# The control ids need rows in the embedding and in the output head. Rows of zeros look harmless. But a trained head gives unlikely
# bytes logits far below zero, and a row of zeros has the logit 0: the new tokens, which nobody has ever seen, get most of the
# probability. Rows drawn around the mean of the old ones begin as likely as an average token.

# %%
from numpy_ref.model.softmax import softmax
from numpy_ref.model.widen import widen

hidden = rng.standard_normal((200, 64)) + 1.0
head = (
    rng.standard_normal((256, 64)) * 0.1 - 0.08
)  # a head whose logits are mostly negative, as after training
for name, wide in {
    "zeros": np.concatenate((head, np.zeros((4, 64)))),
    "around the mean": widen(head, 260, 0, 0),
}.items():
    p = softmax(hidden @ wide.T)[0]
    print(f"four new rows, {name:15}: they take {p[:, 256:].sum(-1).mean():.1%} of the probability")

# %% [markdown]
# **Exercise:** `06_widen`.
#
# ## Learning to answer
#
# The task: turn four letters round. A tenth of all prompts is held out by the hash of the prompt. We learn from the answers, and
# measure by the answers themselves: does greedy decoding give exactly the right text, and stop?

# %%
from numpy_ref.config import SampleConfig
from numpy_ref.inference.generate import generate
from numpy_ref.tasks.builtin import find
from numpy_ref.tasks.task import examples
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step

task = find("reverse-4")
settings = TrainConfig(steps=500, batch=32, lr=6e-3, warmup=20, optimizer="muon", dtype="float32")
train_set, held_out = examples(task, "train", 4000), examples(task, "held_out", 100)


def conversations(chosen):
    """ids, weights and borders of examples, one after the other."""
    both = [
        chat.encode(
            [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.answer}], encode
        )
        for one in chosen
    ]
    borders = np.cumsum([0, *(len(ids) for ids, _ in both)])
    return np.concatenate([ids for ids, _ in both]), np.concatenate([weights for _, weights in both]), borders


ids, weights, borders = conversations(train_set)


def right(params):
    """The share of held-out prompts that are answered exactly, and stopped."""
    prompts = [chat.prompt([{"role": "user", "content": one.prompt}], encode) for one in held_out]
    answers = generate(params, config, prompts, SampleConfig(tokens=7, greedy=True), stop=(chat.end,))
    return np.mean(
        [len(new) < 7 and chat.said(new, decode) == one.answer for new, one in zip(answers, held_out)]
    )


def fine_tune(answers_only, width=40):
    """The share of right answers after every 50 steps; ``answers_only`` False gives every token the weight 1."""
    params = initialise(config, 0, np.float32)
    states, shares = init_states(params, settings), [right(params)]
    for step in range(settings.steps):
        chosen = (step * settings.batch + np.arange(settings.batch)) % len(train_set)
        inputs, targets, share, documents = conversation_batch(ids, weights, borders, chosen, width)
        share = share if answers_only else (targets >= 0).astype(float)
        _, params, states = train_step(
            params, states, inputs, targets, config, settings, step, documents, share
        )
        if (step + 1) % 50 == 0:
            shares.append(right(params))
    return params, 100 * np.array(shares)


results, tuned = {}, {}
for name, answers_only in (("loss on answers alone", True), ("loss on prompts, too", False)):
    tuned[name], shares = fine_tune(answers_only)
    results[name] = (50 * np.arange(len(shares)), shares)
    print(
        f"{name:22} held-out prompts answered exactly after 150 steps {shares[3]:.0f} %, after 500 {shares[-1]:.0f} %"
    )

# %% [markdown]
# Nobody can predict the random letters of a prompt; a loss on them is noise that the gradient has to carry along.

# %%
from lessons.draw.curves import curves

curves(results, "Held-out prompts answered exactly", ylabel="percent")

# %% [markdown]
# **A curriculum** shows easy examples first: the share of the examples that may be drawn grows from c0 to 1 (`06_competence`).
#
# ## Learning beside frozen weights: LoRA
#
# Fine-tuning all weights of a large model needs their gradients, two moments each, and a whole copy for every task. LoRA leaves a
# matrix as it is and learns the product of two small ones beside it (arXiv:2106.09685):
#
#     W' = W + s B A        A (r, i), B (o, r), r small, s = alpha / r
#
# Backward. dW' flows to the product as to any other:  dB = s dW' A^T,  dA = s B^T dW'.
#
# B begins at 0, so that at first nothing changes; A at random numbers. Why not both at 0? Look at the two gradients: each is
# multiplied by the other matrix, and neither would ever move.

# %%
from numpy_ref.sft.lora import low_rank

weight, dy = rng.standard_normal((2, 48, 64))
a, b = rng.standard_normal((4, 64)) / 8, np.zeros((48, 4))
for name, first in (("A random, B zero", a), ("both zero", 0 * a)):
    together, vjp = low_rank(weight, first, b, 2.0)
    _, da, db = vjp(dy)
    print(
        f"{name:17} W' = W: {np.array_equal(together, weight)}   gradient of A {np.abs(da).max():.2f}, of B {np.abs(db).max():.2f}"
    )
print(
    f"numbers to train: {weight.size:,} in the matrix, {a.size + b.size:,} beside it; in a matrix of 4,096 x 4,096 with r = 8 it is 1 in {4096**2 // (2 * 8 * 4096)}"
)

# %% [markdown]
# For use B A is added to W once (*merged*), and the model is as fast as before.
#
# **Exercise:** `06_lora`.
#
# ## From examples to preferences: DPO
#
# Often nobody can write the best answer, but anybody can say which of two is better. Suppose the best policy pi for some reward r
# that may not stray too far from the reference pi_ref:
#
#     maximise  E[r] - beta KL(pi || pi_ref)        solution:  pi(y) = pi_ref(y) exp(r(y) / beta) / Z
#
# Solve that for the reward: r(y) = beta ln(pi(y) / pi_ref(y)) + beta ln Z. Z depends on the prompt alone and cancels between two
# answers, so the chance that people prefer c to r (Bradley and Terry) needs no reward model at all:
#
#     h = ln pi(c)/pi_ref(c) - ln pi(r)/pi_ref(r)        l = -ln sigmoid(beta h)
#     dl/dh = -beta sigmoid(-beta h)                      chosen goes up by that, rejected down
#
# A pair that is far right has next to no gradient, one that is wrong has the whole one.

# %%
from numpy_ref.dpo.objective import dpo, ipo

lead = np.array([-20.0, -5.0, 0.0, 5.0, 20.0])
zero = np.zeros(5)
loss, vjp = dpo(lead, zero, zero, zero, beta=0.5, denominator=1)
print("lead h        ", lead)
print("dL/d(chosen)  ", vjp(1.0)[0].round(3))

# %% [markdown]
# What goes wrong: when all preferences agree, the loss has no minimum. DPO pushes h to infinity, whatever beta is, often by making the
# rejected answer impossible while the chosen one becomes *less* likely, too. IPO asks for a lead of 1 / (2 beta) and stops there.
# A policy over four answers, one pair of which is compared, two thousand steps of gradient descent:

# %%
from numpy_ref.model.softmax import log_softmax

logits0 = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
reference = log_softmax(logits0)[0]
leads = {}
for name, objective in (("DPO", dpo), ("IPO", ipo)):
    logits, leads[name] = logits0.copy(), []
    for _ in range(2000):
        logp, vjp = log_softmax(logits)
        loss, loss_vjp = objective(logp[0:1], logp[1:2], reference[0:1], reference[1:2], beta=0.1)
        dchosen, drejected = loss_vjp(1.0)
        logits -= (2.0 if name == "DPO" else 0.05) * vjp(np.array([dchosen[0], drejected[0], 0.0, 0.0]))
        leads[name].append(float(logp[0] - reference[0] - logp[1] + reference[1]))
print(
    f"lead after 2,000 steps: DPO {leads['DPO'][-1]:.1f} and growing, IPO {leads['IPO'][-1]:.2f} = 1 / (2 beta)"
)
curves(leads, "The lead of the preferred answer, beta = 0.1", ylabel="h in nats")

# %% [markdown]
# **Exercises:** `06_dpo`, `06_ipo`.
#
# ## The other side: PyTorch
#
# The same steps on the same conversations, and the time of one:

# %%
import torch

from torch_impl.model.initialise import initialise as torch_initialise
from torch_impl.training.optimizer import init_states as torch_init_states
from torch_impl.training.step import train_step as torch_train_step

chosen = np.arange(settings.batch)
arrays = conversation_batch(ids, weights, borders, chosen, 40)
tensors = [torch.from_numpy(array) for array in arrays]
double = replace(settings, dtype="float64")
params = initialise(config, 0, np.float64)
ours, _, _ = train_step(
    params,
    init_states(params, double),
    *arrays[:2],
    config,
    double,
    0,
    documents=arrays[3],
    weights=arrays[2],
)
torch_params = torch_initialise(config, 0, torch.float64)
theirs, _, _ = torch_train_step(
    torch_params,
    torch_init_states(torch_params, double),
    *tensors[:2],
    config,
    double,
    0,
    documents=tensors[3],
    weights=tensors[2],
)
print(f"loss: NumPy {ours['loss']:.15f}, PyTorch {float(theirs['loss']):.15f}")


def step(train_step, params, states, arrays):
    return lambda: train_step(
        params, states, *arrays[:2], config, settings, 0, documents=arrays[3], weights=arrays[2]
    )


small, torch_small = initialise(config, 0, np.float32), torch_initialise(config, 0, torch.float32)
times = {
    "NumPy": seconds(step(train_step, small, init_states(small, settings), arrays)),
    "PyTorch": seconds(
        step(torch_train_step, torch_small, torch_init_states(torch_small, settings), tensors)
    ),
}
print(
    f"a step on {settings.batch} conversations in {len(arrays[0])} rows: "
    + ", ".join(f"{name} {1000 * time:.1f} ms" for name, time in times.items())
)

# %% [markdown]
# ## Further reading
#
# - Ouyang et al., *Training language models to follow instructions*, arXiv:2203.02155.
# - Rafailov et al., *Direct preference optimization*, arXiv:2305.18290; Azar et al., *A general theoretical paradigm* (IPO),
#   arXiv:2310.12036.
# - Ding et al., *Fewer truncations improve language modeling*, arXiv:2404.10830: best-fit packing.
# - Platanios et al., *Competence-based curriculum learning*, arXiv:1903.09848.
# - Hewitt, *Initializing new word embeddings for pretrained language models*, 2021.
#
# In this project: `numpy_ref/sft/`, `numpy_ref/dpo/`, `numpy_ref/data/chat_format.py`, `numpy_ref/data/packing.py`. **Next:**
# lesson 7 turns preferences into a number.
