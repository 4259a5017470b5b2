# %% [markdown]
# # Lesson 2: training, from bytes to text
#
# Lesson 1 ended with a model that knows nothing: 256 bytes, all about equally likely. This one
# turns it into something that writes, and takes every step of that apart: text to tokens, tokens to a loss, the loss to a
# gradient, the gradient to better weights, the weights to new text.
#
# ## The problem
#
# We have a text and a function with 33,280 adjustable numbers. How wrong is it, in one number? In which direction should each of
# the 33,280 move, and how far? And when it has learnt something, how do we get words out of it?

# %%
import math

import numpy as np

from lessons.probe import seconds

# %% [markdown]
# ## Text to numbers, numbers to examples
#
# The simplest tokenizer is no tokenizer: the bytes of UTF-8. There are 256 of them, every text can be written, nothing has to be
# learnt. A training example is a window of the text; the targets are the same window one byte later.

# %%
from pathlib import Path

import numpy_ref
from numpy_ref.data.batches import batch, windows
from numpy_ref.tokenizers.byte import decode, encode

samples = Path(numpy_ref.__file__).parent / "data" / "samples"
text = "\n\n".join(path.read_text() for path in sorted(samples.glob("*.txt")))
data = encode(text)
held_out, data = data[:8192], data[8192:]
inputs, targets = batch(data, position=0, batch_size=8, context=32, seed=0)
print(f"{len(data):,} bytes, {windows(len(data), 32):,} windows of 32")
print("input ", repr(decode(inputs[0])))
print("target", repr(decode(targets[0])))

# %% [markdown]
# The order of the windows is a random permutation that nobody stores: a function of (seed, epoch, place), so a run can stop
# anywhere and go on as if nothing had happened.
#
# **Exercises:** `02_encode`, `02_windows`.
#
# ## How wrong? Cross-entropy
#
# The model gives the token that really came the probability p. Its surprise is -ln p: 0 when it was certain, ln 256 = 5.5 when it
# guessed blindly among 256, and beyond all bounds when it had excluded what came. The mean over all tokens is the loss.
#
#     l = -ln softmax(logits)_y = lse(logits) - logits_y,        lse = ln sum_j exp(logits_j)
#
# Backward, step by step. d lse / d logits_j = exp(logits_j) / sum exp = p_j. And d logits_y / d logits_j = [j = y]. So
#
#     dl/dlogits_j = p_j - [j = y]
#
# *What the model said, minus what came.* It is hard to think of a simpler gradient, and every training step of every language
# model begins with it. It sums to zero, and it vanishes exactly when the model was right and certain.

# %%
from numpy_ref.training.losses import cross_entropy

logits, target = np.array([[2.0, 1.0, -1.0, 0.0]]), np.array([1])
loss, vjp = cross_entropy(logits, target)
p = np.exp(logits) / np.exp(logits).sum()
print(f"loss {loss:.4f} = -ln {p[0, 1]:.4f}")
print("p       ", p[0].round(4))
print("gradient", vjp(1.0)[0].round(4))

# %% [markdown]
# Where it goes wrong: taking the logarithm *after* the softmax. When the model is sure of something else, p underflows to 0 and
# its logarithm is infinite. With the largest logit subtracted first, lse - logits_y is right whatever the logits are:

# %%
sure = np.array([[0.0, 800.0]])
with np.errstate(all="ignore"):
    p = np.exp(sure - 800) / np.exp(sure - 800).sum()
    print("-ln softmax:", -np.log(p[0, 0]), "  reference:", cross_entropy(sure, np.array([0]))[0])

# %% [markdown]
# **Exercises:** `02_cross_entropy`, `02_cross_entropy_backward`.
#
# ## Which way, how far? From gradient descent to AdamW
#
# Going straight down the gradient, w = w - lr g, has one lr for all weights, although their gradients differ by orders of
# magnitude. Adam divides each weight's step by the size its gradient usually has:
#
#     m = b1 m + (1 - b1) g           what the gradient has been lately
#     v = b2 v + (1 - b2) g^2         how large it has been lately
#     w = w - lr m / sqrt(v)          so a step is about lr, whatever the scale of g
#
# Both averages begin at 0 and are too small at first. After t steps of a constant gradient, m = (1 - b1^t) g: divide by that and
# the first step is as it should be. Without the correction, v (with b2 close to 1) is much too small, and the first steps are
# several times too long:

# %%
from lessons.draw.curves import curves
from numpy_ref.training.adamw import adamw, init_state

corrected, plain = [], []
w, state, m, v = np.array([0.0]), init_state(np.array([0.0])), 0.0, 0.0
for t in range(40):
    new, state = adamw(w, np.array([0.01]), state, lr=1.0, beta1=0.9, beta2=0.999)
    corrected.append(float(w[0] - new[0]))
    w = new
    m, v = 0.9 * m + 0.1 * 0.01, 0.999 * v + 0.001 * 0.01**2
    plain.append(m / (math.sqrt(v) + 1e-8))
print(
    f"first step: corrected {corrected[0]:.3f}, not corrected {plain[0]:.3f}; longest: {max(corrected):.3f} and {max(plain):.3f}"
)
curves(
    {"with bias correction": corrected, "without": plain},
    "Steps for a constant gradient of 0.01, in units of the learning rate",
    ylabel="length of the step",
)

# %% [markdown]
# The W in AdamW is *decoupled* decay: weights shrink by lr * decay each step, outside of the division. If the decay were added to the
# gradient it would be divided by sqrt(v) as well, and weights with large gradients would hardly decay. That is a one-line
# difference which many codes had wrong for years (arXiv:1711.05101).
#
# Two more safeguards. **Clipping**: all gradients together are one vector; if it is longer than 1, shorten it and keep its direction.
# **Warm-up**: begin with tiny steps, because v needs some steps to know anything, then let the rate fall along a cosine.

# %%
from numpy_ref.training.schedules import warmup_cosine

rates = [warmup_cosine(step, 1500, 1e-2, warmup=50) for step in range(1500)]
print(", ".join(f"step {step}: {rates[step]:.2e}" for step in (0, 49, 775, 1499)))

# %% [markdown]
# **Exercises:** `02_adamw`, `02_clip`, `02_warmup_cosine`.
#
# ## A whole step, and 1,500 of them
#
# `train_step` is: loss, gradients, clip, update. With the preset "tiny", 2 layers of width 32, it takes milliseconds in NumPy.

# %%
from dataclasses import replace

from numpy_ref.model.initialise import initialise
from numpy_ref.presets import preset
from numpy_ref.training.evaluate import evaluate
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step

config, train_config = preset("tiny")
train_config = replace(train_config, steps=1500, batch=16, lr=1e-2, warmup=50, dtype="float32")


def train(train_config, dtype=np.float32):
    """Losses of a run, and the weights at its end."""
    params = initialise(config, 0, dtype)
    states, losses = init_states(params, train_config), []
    for step in range(train_config.steps):
        inputs, targets = batch(
            data, step * train_config.batch, train_config.batch, config.context, train_config.seed
        )
        metrics, params, states = train_step(params, states, inputs, targets, config, train_config, step)
        losses.append(float(metrics["loss"]))
    return losses, params


losses, params = train(train_config)
before = evaluate(initialise(config, 0, np.float32), config, held_out, 8)
after = evaluate(params, config, held_out, 8)
print(
    f"held-out text: {before['loss']:.3f} nats a byte before, {after['loss']:.3f} after; perplexity {before['perplexity']:.0f} and {after['perplexity']:.1f}"
)

# %% [markdown]
# Perplexity is exp(loss): the model hesitates as if among so many equally likely bytes.
#
# The number that matters most is the learning rate. Too small, and nothing happens; too large, and every step throws away what the
# one before has learnt:

# %%
short = replace(train_config, steps=400, batch=8)
runs = {f"learning rate {lr:g}": train(replace(short, lr=lr))[0] for lr in (1e-4, 1e-3, 1e-2, 1.0)}
print(
    "\n".join(
        f"{name:20} loss of the last 20 steps {np.mean(values[-20:]):.2f}" for name, values in runs.items()
    )
)
curves(runs, "Four hundred steps with four learning rates", smooth=True)

# %% [markdown]
# ## The landscape
#
# 33,280 dimensions can't be drawn, but a slice through them can: along two random directions whose rows are as long as those of the
# weights (arXiv:1712.09913). The star is where training ended. Around it lies a smooth bowl, not a needle hole: that is why
# a gradient measured on 8 windows is good enough to follow.

# %%
from lessons.draw.loss_surface import loss_surface
from numpy_ref.model.transformer import transformer

some_inputs, some_targets = batch(data, 10_000, 16, config.context, 1)
loss_surface(
    lambda params: cross_entropy(transformer(some_inputs, params, config)[0], some_targets)[0],
    params,
    span=0.6,
    steps=17,
)

# %% [markdown]
# ## Back to text
#
# The model gives probabilities; somebody has to choose. *Greedy* takes the likeliest token and soon goes round in circles.
# *Sampling* draws. The temperature divides the logits first: below 1 it sharpens the distribution, above 1 it flattens it.
# The tail of a distribution is long, and thousands of unlikely tokens together are likely: *top-p* cuts it, keeping the fewest
# tokens whose mass reaches p.

# %%
from lessons.draw.sampling import sampling

prompt = encode("The wat")
logits, _ = transformer(prompt[None].astype(np.int64), params, config)
sampling(
    logits[0, -1].astype(np.float64),
    [decode([i]).replace(" ", "·").replace("\n", "↵") for i in range(256)],
    top_p=0.9,
)

# %% [markdown]
# To draw means: add the probabilities up until the sum exceeds a uniform number. Off by one in "exceeds" and a token of
# probability 0 can come out.

# %%
from numpy_ref.config import SampleConfig
from numpy_ref.inference.generate import generate

for name, choice in {
    "greedy": SampleConfig(tokens=70, greedy=True),
    "temperature 0.7": SampleConfig(tokens=70, temperature=0.7, seed=1),
    "temperature 1, top-p 0.9": SampleConfig(tokens=70, top_p=0.9, seed=1),
    "temperature 2": SampleConfig(tokens=70, temperature=2.0, seed=1),
}.items():
    (new,) = generate(params, config, [prompt], choice)
    print(f"{name:25}", repr("The wat" + decode(new)))

# %% [markdown]
# **Exercises:** `02_sample`, `02_top_p`.
#
# ## What has it learnt? A look inside
#
# Some stories of 42 kB are enough for heads to find their jobs. Rows are the bytes that look, columns what they look at.
# This is the picture of this lesson.

# %%
from lessons.draw.attention import attention

line = "the keeper of the lighth"
attention(
    encode(line).astype(np.int64),
    list(line),
    params,
    config,
    title="Where the heads of a model of 33,280 numbers look",
)

# %% [markdown]
# ## The other side: PyTorch
#
# The same run, step for step, on the other wing: the same weights to begin with, the same windows in the same order. In float64
# both sides stay together to the last digits; in float32 PyTorch is what you would train with.

# %%
import torch

from torch_impl.model.initialise import initialise as torch_initialise
from torch_impl.training.optimizer import init_states as torch_init_states
from torch_impl.training.step import train_step as torch_train_step

short = replace(train_config, steps=30)
torch_params = torch_initialise(config, 0, torch.float64)
torch_states, torch_losses = torch_init_states(torch_params, short), []
for step in range(short.steps):
    inputs, targets = (
        torch.from_numpy(part)
        for part in batch(data, step * short.batch, short.batch, config.context, short.seed)
    )
    metrics, torch_params, torch_states = torch_train_step(
        torch_params, torch_states, inputs, targets, config, replace(short, dtype="float64"), step
    )
    torch_losses.append(float(metrics["loss"]))
ours = train(replace(short, dtype="float64"), np.float64)[0]
print(f"loss after 30 steps: NumPy {ours[-1]:.12f}, PyTorch {torch_losses[-1]:.12f}")

# %%
big, settings = preset("showcase")
settings = replace(settings, batch=8, dtype="float32")
inputs, targets = batch(data, 0, 8, big.context, 0)


def numpy_step(params=initialise(big, 0, np.float32)):
    train_step(params, init_states(params, settings), inputs, targets, big, settings, 0)


def torch_step(params=torch_initialise(big, 0, torch.float32)):
    torch_train_step(
        params,
        torch_init_states(params, settings),
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        big,
        settings,
        0,
    )


times = {"NumPy": seconds(numpy_step, 3), "PyTorch": seconds(torch_step, 3)}
print(
    "a training step of the showcase on 1,024 tokens: "
    + ", ".join(f"{name} {1000 * time:.0f} ms" for name, time in times.items())
)

# %% [markdown]
# Train it for real with `make demo`: two and a half minutes on two cores, and it writes English.
#
# ## Further reading
#
# - Kingma, Ba, *Adam*, 2014, arXiv:1412.6980; Loshchilov, Hutter, *Decoupled weight decay regularization*, arXiv:1711.05101.
# - Pascanu, Mikolov, Bengio, *On the difficulty of training recurrent neural networks*, arXiv:1211.5063: clipping.
# - Loshchilov, Hutter, *SGDR*, arXiv:1608.03983: the cosine.
# - Holtzman et al., *The curious case of neural text degeneration*, arXiv:1904.09751: why greedy text is dull, and top-p.
# - Li et al., *Visualizing the loss landscape of neural nets*, arXiv:1712.09913.
# - Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011: the random numbers that both sides share.
#
# In this project: `numpy_ref/training/` and `numpy_ref/inference/`. **Next:** lesson 3 takes the model of 2017 to the models of today.
