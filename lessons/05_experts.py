# %% [markdown]
# # Lesson 5: mixtures of experts, or more parameters for the same price
#
# Most parameters of a transformer are in its feed-forward networks, and every token passes through all of them, whether it is a comma
# or the name of a theorem. What if there were eight such networks, and each token went to the two that suit it? The model would
# know eight times as much, and compute a quarter of it.
#
# ## The problem
#
# Parameters hold what a model knows; operations are what it costs. In a dense model the two grow together. How can they be
# parted? Somebody has to *choose* which parameters a token meets. A choice has no derivative, so how is the chooser to learn?
#
# ## The idea
#
# A **router** gives every expert a score for the token. The k best are taken; their outputs are added up, *weighted by the scores*.
#
#     l = x W^T            s = softmax(l)            chosen: the k largest
#     w_i = s_i / (sum of s over the chosen)         y = sum over the chosen of w_i FFN_i(x)
#
# The choice has no derivative, but the weights have: if the output of an expert would have lowered the loss by counting more, its
# score rises, and next time it is chosen sooner. With k = 1 and renormalised weights, w = 1 always, and the router learns nothing.

# %%
from dataclasses import replace

import numpy as np

from lessons.probe import seconds, slope
from numpy_ref.model.router import gate_weights, top_experts

rng = np.random.default_rng(0)
logits = np.array([[2.0, 0.5, 1.0, -1.0]])
indices = top_experts(logits, 2)
weights, vjp = gate_weights(logits, indices)
print(
    "chosen",
    indices[0],
    " weights",
    weights[0].round(3),
    " gradient of the logits for dw = (1, 0):",
    vjp(np.array([[1.0, 0.0]]))[0].round(3),
)
alone = top_experts(logits, 1)
print(
    "one expert, renormalised: weight",
    gate_weights(logits, alone)[0][0],
    " gradient",
    gate_weights(logits, alone)[1](np.ones((1, 1)))[0],
)

# %% [markdown]
# ## Backward, step by step
#
# With o_nk the output of slot k of row n, and y_n = sum_k w_nk o_nk:
#
#     dw_nk = sum_d dy_nd o_nkd              how much this expert's output would have helped
#     do_nk = w_nk dy_n                      goes back through the expert
#     w = s / S, S = sum of the chosen:      ds_i = (dw_i - sum_j dw_j w_j) / S        then through the softmax
#
# dx is the sum of three: what the experts return, and what comes back through the router. Against the complex step:

# %%
from numpy_ref.model.moe import experts

params = {
    "up.weight": rng.standard_normal((4, 6, 3)),
    "up.bias": rng.standard_normal((4, 6)),
    "down.weight": rng.standard_normal((4, 3, 6)),
    "down.bias": rng.standard_normal((4, 3)),
}
x, router = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
chosen = top_experts(x @ router.T, 2)


def mixture(x):
    """Router and experts, with the choice held fixed."""
    weights, _ = gate_weights(x @ router.T, chosen)
    return experts(x, chosen, weights, params)[0]


dy, t = rng.standard_normal((2, 5, 3))
weights, weights_vjp = gate_weights(x @ router.T, chosen)
_, experts_vjp = experts(x, chosen, weights, params)
dx, dweights, _ = experts_vjp(dy)
dx = dx + weights_vjp(dweights) @ router
print(f"vjp {np.sum(dx * t):.14f}   complex step {np.sum(dy * slope(mixture, x, t)):.14f}")

# %% [markdown]
# **Exercises:** `05_top_experts`, `05_gate_weights`, `05_experts`.
#
# ## What goes wrong: the rich get richer
#
# An expert that gets tokens learns; an expert that has learnt gets more tokens. Left to itself a mixture collapses onto a few experts,
# and the others are memory that nobody reads. Three remedies:
#
# **A loss** (Switch, arXiv:2101.03961): L = sum_i f_i P_i, with f_i the share of the slots that expert i has (times E), and P_i its mean
# probability. 1 at balance, E where one has all. Counting has no derivative, so the gradient is in P alone: busy experts become
# less probable.
#
# **A bias** (arXiv:2408.15664): added to the scores when experts are *chosen* and never when they are *weighted*, and moved by a fixed
# step towards those who have too little. No gradient, no second goal that pulls at the model.
#
# **A capacity**: an expert takes so many tokens and no more; the rest lose that slot. It bounds the cost, at the price of lost tokens.

# %%
from numpy_ref.model.balance import balance_loss, drop_overflow, expert_capacity, expert_load, update_bias

scores = np.full((8, 4), 0.25)
fair, unfair = np.arange(8)[:, None] % 4, np.zeros((8, 1), int)
print(
    "balance loss: all alike",
    balance_loss(scores, fair)[0],
    "  one has all, and is sure of it",
    balance_loss(np.eye(4)[[0] * 8], unfair)[0],
)
load = expert_load(unfair, 4)
print("load", load, " bias after a step", update_bias(np.zeros(4), load, 0.001))
capacity = expert_capacity(8, 4, 1, 1.25)
print(f"capacity {capacity} of 8 tokens; slots left:", drop_overflow(unfair, np.ones((8, 1)), capacity)[:, 0])

# %% [markdown]
# **Exercises:** `05_expert_load`, `05_balance_loss`, `05_router_z_loss`, `05_update_bias`, `05_capacity`, `05_drop_overflow`.
#
# ## Training one
#
# The tiny model of lesson 2, with eight experts in the place of each feed-forward network, two for each token, each half as wide: a
# token meets as many weights as in the dense model, and there are four times as many. Three runs: nothing asks for balance; the
# loss does; the bias does.

# %%
from pathlib import Path

import numpy_ref
from numpy_ref import expert_log
from numpy_ref.data.batches import batch
from numpy_ref.model.initialise import initialise
from numpy_ref.presets import preset
from numpy_ref.tokenizers.byte import encode
from numpy_ref.training.evaluate import evaluate
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step

samples = Path(numpy_ref.__file__).parent / "data" / "samples"
data = encode("\n\n".join(path.read_text() for path in sorted(samples.glob("*.txt"))))
held_out, data = data[:8192], data[8192:]
dense, settings = preset("tiny")
settings = replace(settings, steps=300, batch=16, lr=1e-2, warmup=20, dtype="float32", balance_loss=0.0)
sparse = replace(dense, experts=8, experts_per_token=2, expert_width=dense.feed_forward // 2)


def train(config, settings):
    """(params at the end, rows of a log)."""
    params = initialise(config, 0, np.float32)
    states, rows = init_states(params, settings), []
    for step in range(settings.steps):
        inputs, targets = batch(data, step * settings.batch, settings.batch, config.context, 0)
        metrics, params, states = train_step(params, states, inputs, targets, config, settings, step)
        rows.append({"step": step} | (expert_log.row(metrics["routing"]) if config.experts else {}))
    return params, rows


runs = {
    "left to itself": (sparse, settings),
    "balance loss": (sparse, replace(settings, balance_loss=0.02)),
    "bias": (replace(sparse, router_bias=True), replace(settings, router_bias_rate=0.005)),
    "dense": (dense, settings),
}
logs = {}
for name, (config, how) in runs.items():
    params, rows = train(config, how)
    loss = evaluate(params, config, held_out, 8)["loss"]
    busy = ""
    if config.experts:
        logs[name] = rows
        busy = f"   busiest expert: {8 * np.array([row['experts']['load'] for row in rows[-20:]]).mean(0).max():.2f} times its share"
    print(
        f"{name:15} {sum(value.size for value in params.values()):7,} parameters   held-out loss {loss:.3f}{busy}"
    )

# %% [markdown]
# The picture to remember: white is an equal share, red is too much, blue is idle.

# %%
from lessons.draw.router import router as draw_router

draw_router(logs)

# %% [markdown]
# ## What a token costs
#
# `inspect` counts what a token meets. Mixtures trade memory for arithmetic, and so they are at home where memory is plentiful: on
# servers, with the experts spread over many machines.

# %%
from numpy_ref.inspect import flops_forward
from numpy_ref.config import parameter_count

for name, config in {"dense": dense, "8 experts, 2 a token": sparse}.items():
    print(
        f"{name:22} {parameter_count(config):8,} parameters   {flops_forward(config):8,} operations a token"
    )

# %% [markdown]
# ## The other side: PyTorch
#
# The reference goes through the experts one by one. The fast side sorts all slots by expert, multiplies each run of rows with its
# expert's matrices, and collects. Same choice, same numbers:

# %%
import torch

from torch_impl.model.moe import experts as torch_experts

N, E, K, width, hidden = 1024, 8, 2, 128, 256
params = {
    "up.weight": rng.standard_normal((E, hidden, width)) / 11,
    "down.weight": rng.standard_normal((E, width, hidden)) / 16,
}
x, weights = rng.standard_normal((N, width)), rng.random((N, K))
indices = top_experts(rng.random((N, E)), K)
tensors = {name: torch.from_numpy(value) for name, value in params.items()}
given = torch.from_numpy(x), torch.from_numpy(indices), torch.from_numpy(weights)
print(
    f"largest difference: {np.abs(experts(x, indices, weights, params)[0] - torch_experts(*given, tensors).numpy()).max():.1e}"
)
small = {name: value.astype(np.float32) for name, value in params.items()}
arrays = x.astype(np.float32), indices, weights.astype(np.float32)
floats = [value.float() if value.is_floating_point() else value for value in given]
tensors = {name: value.float() for name, value in tensors.items()}
times = {
    "NumPy": seconds(lambda: experts(*arrays, small)),
    "PyTorch": seconds(lambda: torch_experts(*floats, tensors)),
}
print(
    f"{N} tokens through 2 of 8 experts: "
    + ", ".join(f"{name} {1000 * time:.1f} ms" for name, time in times.items())
)

# %% [markdown]
# ## Further reading
#
# - Shazeer et al., *Outrageously large neural networks*, arXiv:1701.06538.
# - Fedus, Zoph, Shazeer, *Switch transformers*, arXiv:2101.03961; Zoph et al., *ST-MoE* (z-loss), arXiv:2202.08906.
# - Jiang et al., *Mixtral of experts*, arXiv:2401.04088; Dai et al., *DeepSeekMoE* (shared experts), arXiv:2401.06066.
# - Wang et al., *Auxiliary-loss-free load balancing*, arXiv:2408.15664; DeepSeek-AI, *DeepSeek-V3*, arXiv:2412.19437.
# - Zhou et al., *Expert choice routing*, arXiv:2202.09368.
#
# In this project: `numpy_ref/model/router.py`, `moe.py`, `balance.py`, `numpy_ref/training/routing.py`. **Next:** lesson 6 teaches
# a model to answer.
