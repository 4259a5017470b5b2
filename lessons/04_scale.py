# %% [markdown]
# # Lesson 4: larger runs
#
# A larger run is not a small one with more zeros. Texts get shorter by a better tokenizer,
# numbers get shorter by 16-bit formats, gradients are put together from parts, the optimiser changes, and the run must survive
# whatever happens in its third week. Each of these is a small idea with one famous way to get it wrong.
#
# ## The problem
#
# The cost of a run is about 6 x parameters x tokens operations. To learn more for the same cost: fewer tokens for the same text, cheaper
# operations, and steps that get further.

# %%
import math
from pathlib import Path

import numpy as np

import numpy_ref
from lessons.draw.curves import curves
from lessons.probe import seconds

rng = np.random.default_rng(0)
samples = Path(numpy_ref.__file__).parent / "data" / "samples"
text = "\n\n".join(path.read_text() for path in sorted(samples.glob("*.txt")))

# %% [markdown]
# ## Byte pair encoding: common strings become one token
#
# Begin with bytes. Count all pairs of neighbours, join the most frequent pair into a new token, and again. That is all:

# %%
from numpy_ref.tokenizers.bpe import BPE, train

vocabulary = train([text], 256 + 400)
for rank in (0, 1, 2, 50, 200, 399):
    left, right = vocabulary.merges[rank]
    print(f"merge {rank:3}: {vocabulary.tokens[left]!r} + {vocabulary.tokens[right]!r}")

# %% [markdown]
# To encode is to *replay*: join the pair that training joined first, then the next. Not the longest match, not the most frequent
# pair: any other order gives other tokens than the model was trained on. Before all that a pattern cuts the text into words, so
# that no token spans two of them. The picture to remember:

# %%
from lessons.draw.tokens import tokens as draw_tokens

line = "The lighthouse keeper's daughter counted 1,024 waves: naïve, perhaps.\nThen she wrote “again” 😀."
small = BPE(train([text], 256 + 60))
large = BPE(vocabulary)
cuts = {"bytes": [bytes([b]) for b in line.encode()]}
cuts |= {
    f"BPE, {len(one.vocabulary)} tokens": [one.vocabulary.tokens[i] for i in one.encode(line)]
    for one in (small, large)
}
draw_tokens(line, cuts, "One text, three tokenizers")

# %% [markdown]
# Losses per *token* can't be compared between tokenizers: longer tokens are harder to guess. Bits per *byte* can:
# loss / (ln 2 x bytes a token). And the tie rule: two pairs that are equally frequent must be joined in an order that does
# not depend on which text was read first, or two machines learn two tokenizers.
#
# **Exercises:** `04_bpe_merge`, `04_bpe_train`.
#
# ## Sixteen bits
#
# A float32 has 24 bits of precision and 8 of exponent. bfloat16 keeps the exponent and has 8 bits of precision; float16 has 11 but
# only 5 bits of exponent. So bfloat16 is coarse and float16 is narrow:

# %%
from numpy_ref.precision import round_to

x = np.float32([1 / 3, 257, 70000, 1e-8])
for name in ("float32", "bfloat16", "float16"):
    print(f"{name:9}", "  ".join(f"{value:<13.8g}" for value in round_to(x, name)))

# %% [markdown]
# bfloat16 is the upper half of a float32, so rounding to it is whole-number arithmetic on the bits: add 0x7FFF, and the last bit
# that stays so that ties go to the even side, then cut. (`04_bfloat16` is about that.)
#
# What goes wrong: **sums**. Adding 1 to 256 in bfloat16 gives 256, as 257 does not exist. A sum of ones stops growing there. This is why
# products and sums are accumulated in float32 and only their results are stored in 16 bits, and why master weights stay in
# float32: a step of lr x gradient is often smaller than half the spacing of the weight.

# %%
total = {name: np.zeros(600, np.float32) for name in ("float32", "bfloat16", "float16")}
for name, running in total.items():
    for i in range(1, 600):
        running[i] = round_to(np.float32([running[i - 1] + 1]), name)[0]
curves(total, "Adding ones in 16 bits", xlabel="ones added", ylabel="sum")

# %% [markdown]
# **Loss scaling.** float16 ends at 6e-8, and gradients are small. Multiply the loss by S before the backward pass, and every
# gradient is S times larger; divide again in float32. How large may S be? Double it while all goes well, halve it when something
# overflows. What share of a freshly drawn model's gradients would be lost:

# %%
from numpy_ref.data.batches import batch
from numpy_ref.model.initialise import initialise
from numpy_ref.presets import preset
from numpy_ref.tokenizers.byte import encode
from numpy_ref.training.step import loss_and_grads

config, train_config = preset("tiny")
params = initialise(config, 0, np.float64)
data = encode(text)
inputs, targets = batch(data, 0, 8, 32, 0)
_, grads = loss_and_grads(params, inputs, targets, config, train_config, 0)
every = np.abs(np.concatenate([grad.ravel() for grad in grads.values()]))
every = every[every > 0]
for scale in (1.0, 2.0**7, 2.0**13):
    lost = np.mean(np.asarray(round_to((every * scale / 1e3).astype(np.float32), "float16")) == 0)
    print(
        f"gradients a thousand times smaller than these, scale 2^{int(math.log2(scale)):<2}: {100 * lost:5.1f} % become 0 in float16"
    )

# %% [markdown]
# **Exercises:** `04_bfloat16`, `04_loss_scale`.
#
# ## Batches in parts
#
# A batch too large for memory goes through the model in parts, and the gradients add up. The famous way to get it wrong: average
# the parts' *means*. If one part has 10 tokens that count and another 100, a mean of means gives the ten ten times the weight. All
# parts must be divided by the number of tokens of the whole batch. (A widely used library had this wrong until late 2024.)

# %%
from dataclasses import replace

from numpy_ref.training.losses import cross_entropy

targets_some = targets.copy()
targets_some[:4, 4:] = -100  # in the first half of the rows only four tokens count
whole, _ = loss_and_grads(params, inputs, targets_some, config, train_config, 0)
parts, _ = loss_and_grads(params, inputs, targets_some, config, replace(train_config, accumulate=2), 0)
halves = [
    loss_and_grads(params, inputs[rows], targets_some[rows], config, train_config, 0)[0]
    for rows in (slice(0, 4), slice(4, 8))
]
print(f"whole batch {whole:.9f}   in two parts {parts:.9f}   mean of the parts' means {np.mean(halves):.9f}")

# %% [markdown]
# **A loss that never holds all logits.** With a vocabulary of 100,000 the logits are far larger than everything else. No token's loss
# depends on another's: take 1,024 tokens at a time, keep only their losses, and compute the logits again in the backward pass.
#
#     dx_n = dlogits_n W        dW = sum over the chunks of dlogits^T x

# %%
from numpy_ref.training.losses import linear_cross_entropy

hidden, head = rng.standard_normal((512, 64)), rng.standard_normal((5000, 64)) / 8
ids = rng.integers(0, 5000, 512)
full, full_vjp = cross_entropy(hidden @ head.T, ids)
chunked, chunked_vjp = linear_cross_entropy(hidden, head, ids, chunk=64)
print(
    f"loss {full:.12f} and {chunked:.12f}; dW equal to {np.abs(chunked_vjp(1.0)[1] - full_vjp(1.0).T @ hidden).max():.1e}"
)
print(f"logits in memory: {512 * 5000 * 8 / 2**20:.1f} MiB and {64 * 5000 * 8 / 2**20:.1f} MiB")

# %% [markdown]
# **Documents that share a row** must not see each other, and count their positions from 0: `04_document_positions`.
#
# **Exercise:** `04_chunked_loss`, the hardest of this lesson.
#
# ## Muon: all directions alike
#
# A gradient matrix usually has a few large singular values and many small ones. A step along it changes a few directions much and
# the others hardly at all. Muon replaces it by the nearest *orthogonal* matrix: all singular values become one. Decomposing is slow,
# but an odd polynomial acts on singular values alone, and needs matrix products only:
#
#     X = a X + (b A + c A A) X,    A = X X^T        X = U S V^T becomes U (a S + b S^3 + c S^5) V^T
#
# Why? A X = U S^2 U^T U S V^T = U S^3 V^T. Small values grow fastest, by up to 3.4445 a step, and five steps bring all but the tiniest into the neighbourhood of one:

# %%
from numpy_ref.training.muon import orthogonalise

_, grads = loss_and_grads(initialise(config, 0, np.float64), inputs, targets, config, train_config, 0)
gradient = grads["blocks.0.feed_forward.up.weight"]
before = np.linalg.svd(gradient, compute_uv=False)[
    :-1
]  # what comes out of a layer norm has mean 0: the last one is 0
singular = {"the gradient": before / before[0]}
singular |= {
    f"after {n} step{'s' * (n > 1)}": np.linalg.svd(orthogonalise(gradient, n), compute_uv=False)[:-1]
    for n in (1, 3, 5)
}
curves(
    singular,
    "Singular values of a gradient under Muon's iteration",
    xlabel="singular value, largest first",
    ylabel="size",
    logarithmic=True,
)

# %% [markdown]
# Is it worth it? The same model, the same 300 steps, each optimiser with its own best of three learning rates:

# %%
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step


def run(**changes):
    """Losses of 300 steps."""
    settings = replace(train_config, steps=300, warmup=20, dtype="float32", **changes)
    params = initialise(config, 0, np.float32)
    states, losses = init_states(params, settings), []
    for step in range(settings.steps):
        inputs, targets = batch(data, step * settings.batch, settings.batch, config.context, 0)
        metrics, params, states = train_step(params, states, inputs, targets, config, settings, step)
        losses.append(float(metrics["loss"]))
    return losses


best = {}
for name in ("adamw", "muon"):
    runs = {lr: run(optimizer=name, lr=lr) for lr in (5e-3, 1e-2, 2e-2)}
    lr = min(runs, key=lambda lr: np.mean(runs[lr][-30:]))
    best[f"{name}, lr {lr:g}"] = runs[lr]
print(
    "\n".join(
        f"{name:16} loss of the last 30 steps {np.mean(losses[-30:]):.3f}" for name, losses in best.items()
    )
)
curves(best, "AdamW and Muon, each at its best of three learning rates", smooth=True)

# %% [markdown]
# **Exercises:** `04_orthogonalise`, `04_muon`.
#
# ## Schedules that don't know the end, averages, and surviving
#
# A cosine has to know how long the run is. *Warm-up, stay, cool down* only knows when the end begins: one long run at the peak can be
# cooled down at many lengths. A moving average of the weights is often a better model than the weights themselves.

# %%
from numpy_ref.training.schedules import warmup_cosine, warmup_stable_decay

steps = np.arange(1000)
curves(
    {
        "cosine": [warmup_cosine(int(s), 1000, 1.0, 50) for s in steps],
        "warm-up, stay, cool down": [warmup_stable_decay(int(s), 1000, 1.0, 50) for s in steps],
        "cooled down at 600": [warmup_stable_decay(int(s), 600, 1.0, 50) for s in steps[:600]],
    },
    "Learning rates over a run",
    ylabel="share of the peak",
)

# %% [markdown]
# **Exercises:** `04_ema`, `04_warmup_stable_decay`.
#
# Surviving: a checkpoint is written beside the old one and renamed, so there is always a whole one. The order of the data and every
# dropout mask are functions of (seed, stream, position), so a run resumes from a few integers, on either side. Kill it at step 5 of
# 8 and go on: the weights are the same to the last bit.

# %%
import tempfile
from types import SimpleNamespace

from numpy_ref.training.loop import train as train_loop

dataset = SimpleNamespace(train=data[4096:], validation=data[:4096])
settings = replace(train_config, steps=8, dtype="float32", eval_every=0, save_every=5, eval_tokens=512)
with tempfile.TemporaryDirectory() as folder:
    straight = train_loop(config, settings, dataset, Path(folder) / "a")
    train_loop(config, settings, dataset, Path(folder) / "b", stop_after=5)
    resumed = train_loop(config, settings, dataset, Path(folder) / "b", resume=True)
print(
    "same weights:",
    all(np.array_equal(straight.params[name], resumed.params[name]) for name in straight.params),
)

# %% [markdown]
# ## The other side: PyTorch
#
# Byte pair encoding over millions of characters wants better data structures than a page to learn from: the fast side keeps a heap of
# pairs for training and looks words up that it has seen. Same merges, same ids.

# %%
from torch_impl.tokenizers.bpe import BPE as FastBPE
from torch_impl.tokenizers.bpe import train as fast_train

same = fast_train([text], 656) == vocabulary
slow, fast = (seconds(lambda f=f: f([text], 356), 1) for f in (train, fast_train))
print(f"same vocabulary: {same};  100 merges: reference {slow:.2f} s, fast {fast:.2f} s")
one, other = BPE(vocabulary), FastBPE(vocabulary)
print(
    "same ids:",
    np.array_equal(one.encode(text), other.encode(text)),
    f"  {len(text) / seconds(lambda: one.encode(text), 1) / 1e6:.2f} and {len(text) / seconds(lambda: other.encode(text), 3) / 1e6:.2f} MB/s",
)

# %%
import torch

from torch_impl.training.muon import orthogonalise as fast_orthogonalise

matrix = rng.standard_normal((512, 512)).astype(np.float32)
tensor = torch.from_numpy(matrix)
times = {
    "NumPy float32": seconds(lambda: orthogonalise(matrix)),
    "PyTorch float32": seconds(lambda: fast_orthogonalise(tensor)),
    "PyTorch bfloat16": seconds(lambda: fast_orthogonalise(tensor.bfloat16())),
    "singular value decomposition": seconds(lambda: torch.linalg.svd(tensor), 1),
}
print(
    "a 512 x 512 matrix made orthogonal: "
    + ", ".join(f"{name} {1000 * time:.0f} ms" for name, time in times.items())
)

# %% [markdown]
# ## Further reading
#
# - Sennrich, Haddow, Birch, *Neural machine translation of rare words with subword units*, arXiv:1508.07909.
# - Micikevicius et al., *Mixed precision training*, arXiv:1710.03740; *FP8 formats for deep learning*, arXiv:2209.05433.
# - Jordan, *Muon: an optimizer for hidden layers in neural networks*, 2024; Liu et al., *Muon is scalable*, arXiv:2502.16982.
# - Hu et al., *MiniCPM* (warm-up, stay, decay), arXiv:2404.06395; Hoffmann et al., *Training compute-optimal models*, arXiv:2203.15556.
# - Wijmans et al., *Cut your losses in large-vocabulary language models*, arXiv:2411.09009.
#
# In this project: `numpy_ref/tokenizers/`, `numpy_ref/precision.py`, `numpy_ref/training/`. **Next:** lesson 5, mixtures of experts.
