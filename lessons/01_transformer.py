# %% [markdown]
# # Lesson 1: the transformer, from one matrix product
#
# You need Python, NumPy and the chain rule. At the end you have seen every number of a
# language model on its way forward and every gradient on its way back, and you can write both by heart.
#
# ## The problem
#
# Given the beginning of a text, say what comes next: a probability for each possible next token. A model that does this well
# has to know spelling, grammar, and a good deal about the world; and because every text carries its own answers, there is no
# lack of exercises for it. What kind of function can learn that?
#
# ## The idea
#
# 1. Every token is a vector. All positions of the text are worked on side by side.
# 2. **Attention** lets a position fetch what it needs from positions before it.
# 3. A **feed-forward network** then works on each position alone.
# 4. Both *add* what they found to the vector instead of replacing it: the vector is a stream that flows through all layers.
#
# All of this is made of a handful of functions. In this project each of them has one form: it returns its value, and the
# function that brings gradients back.
#
#     y, vjp = f(x, w)          value
#     dx, dw = vjp(dy)          from dL/dy to dL/d(each argument)
#
# `vjp` stands for *vector-Jacobian product*. That is the whole machinery of backpropagation: no tape, no graph, no state.

# %%
import math

import numpy as np

from lessons.probe import seconds, slope
from numpy_ref.model.linear import linear

rng = np.random.default_rng(0)
x, weight, bias = rng.standard_normal((3, 4)), rng.standard_normal((2, 4)), rng.standard_normal(2)
y, vjp = linear(x, weight, bias)
dy = rng.standard_normal(y.shape)
dx, dweight, dbias = vjp(dy)
print("y", y.shape, " dx", dx.shape, " dweight", dweight.shape, " dbias", dbias.shape)

# %% [markdown]
# ## One backward pass, step by step
#
# `linear` is nearly all of a model's arithmetic. With indices, for row n and output o:
#
#     y[n, o] = sum over i of x[n, i] W[o, i] + b[o]
#
# Some loss L depends on y. Its gradient dy[n, o] = dL/dy[n, o] arrives from above. How does L change with x[n, i]? x[n, i] occurs
# in y[n, o] for every o, with the factor W[o, i]. The chain rule adds up all ways:
#
#     dx[n, i] = sum over o of dy[n, o] W[o, i]            dx = dy W
#     dW[o, i] = sum over n of dy[n, o] x[n, i]            dW = dy^T x
#     db[o]    = sum over n of dy[n, o]
#
# The shapes leave no other choice: that is a good check while you derive, and the reason why a square matrix is the most
# dangerous test input (a forgotten transpose goes unnoticed).
#
# How do we know that it is right? A difference quotient (f(x + h) - f(x)) / h is off by rounding when h is small and by
# curvature when h is large. The **complex step** has neither problem:
#
#     f(x + i h t) = f(x) + i h f'(x) t - ...      so      f'(x) t = Im f(x + i h t) / h,   with h = 1e-40
#
# Nothing is subtracted, so nothing cancels. This is why every function of the reference takes complex numbers.

# %%
t = rng.standard_normal(x.shape)  # a direction
exact = np.sum(dy * slope(lambda x: linear(x, weight, bias)[0], x, t))
ours = np.sum(dx * t)
quotient = np.sum(dy * (linear(x + 1e-6 * t, weight, bias)[0] - y)) / 1e-6
print(f"vjp                 {ours:.17g}")
print(f"complex step        {exact:.17g}")
print(f"difference quotient {quotient:.17g}")

# %% [markdown]
# **Exercise:** `python -m lessons check 01_linear`. It writes `answers/01_linear.py` for you; fill the gap and run it again. The
# grader draws inputs, compares with the reference inside computed rounding budgets, and tells you in words what is wrong.
#
# ## Tokens and places
#
# A token is a whole number. `embedding` looks its vector up in a table; backward, each row of the table *collects* the gradients
# of all places where the token occurs. NumPy's `dweight[tokens] += dy` writes a repeated index once only, which loses
# gradients without a word; the reference uses `np.add.at`.

# %%
from numpy_ref.model.embedding import embedding

tokens = np.array([5, 2, 5, 5])
table = rng.standard_normal((8, 3))
vectors, vjp = embedding(tokens, table)
ones = np.ones_like(vectors)
right = vjp(ones)
wrong = np.zeros_like(table)
wrong[tokens] += ones
print("gradient of token 5, three occurrences:", right[5], "   with += :", wrong[5])

# %% [markdown]
# Attention, which comes below, does not see the order of what it attends to. So each vector also gets its place: sines and cosines
# of the position at wavelengths from 2 pi to 20,000 pi ("Attention is all you need", section 3.5). Fast waves tell neighbours
# apart, slow ones say where in the text we are.

# %%
from lessons.draw.curves import curves
from numpy_ref.model.positions import sinusoidal_positions

waves = sinusoidal_positions(np.arange(60), 32, np.float64)
curves(
    {f"feature {i}": waves[:, i] for i in (0, 8, 14, 20)},
    "A position, as waves of many lengths",
    xlabel="position",
    ylabel="value",
)

# %% [markdown]
# **Exercises:** `01_embedding`, `01_sinusoidal_positions`.
#
# ## Softmax: scores become shares
#
#     y_i = exp(x_i) / sum_j exp(x_j)
#
# Backward: raising one score raises its own share and lowers all others, dy_i/dx_j = y_i ([i = j] - y_j), so
#
#     dx_j = sum_i dy_i y_i ([i = j] - y_j) = y_j (dy_j - sum_i dy_i y_i)
#
# The gradient of a softmax sums to zero: shares can only be moved about.
#
# What goes wrong without care: exp(800) is infinite, and inf / inf is no number. Subtracting the largest score from all of
# them changes no share, and nothing overflows any more.

# %%
from numpy_ref.model.softmax import softmax

scores = np.array([2.0, 1.0, -1.0])
shares, vjp = softmax(scores)
print("shares  ", shares)
print("gradient", vjp(np.array([1.0, 0.0, 0.0])), " sum", vjp(np.array([1.0, 0.0, 0.0])).sum())
with np.errstate(all="ignore"):
    plain = np.exp(scores + 800) / np.exp(scores + 800).sum()
print("scores + 800:  naive", plain, "  reference", softmax(scores + 800)[0])

# %% [markdown]
# ## Attention
#
# Every position asks a question (its *query*), offers a label (its *key*) and has something to give (its *value*). Query times key
# says how well an offer fits a question; the softmax turns the scores of one query into shares; the result is the mean of the
# values with these shares.
#
#     S = Q K^T / sqrt(d)        P = softmax(S)        Y = P V
#
# Why the root? For random vectors of d features the product q · k has a deviation of sqrt(d). Without the division the scores grow
# with the width, the softmax picks one key and ignores the rest, and its gradient vanishes:

# %%
for d in (16, 256, 4096):
    q, k = rng.standard_normal((2, 200, d))
    raw = q @ k.T
    largest = [softmax(s)[0].max(-1).mean() for s in (raw, raw / math.sqrt(d))]
    print(
        f"d = {d:5}   deviation of the scores {raw.std():6.1f}   largest share: unscaled {largest[0]:.2f}, scaled {largest[1]:.2f}"
    )

# %% [markdown]
# A text is predicted from left to right, so no position may look at what comes after it: those scores become -inf before the
# softmax, and their shares exactly 0. One forward pass then trains *every* position at once, each on its own past.
#
# Taken apart on three tokens:

# %%
from numpy_ref.model.attention import attention_weights, causal_mask, scaled_dot_product_attention

query, key, value = rng.standard_normal((3, 1, 3, 2))  # one head, three tokens, two features
print("scores\n", (query @ np.swapaxes(key, -1, -2) / math.sqrt(2))[0].round(2))
print("who may see whom\n", causal_mask(3, 3).astype(int))
print("shares\n", attention_weights(query, key, causal=True)[0].round(2))
y, vjp = scaled_dot_product_attention(query, key, value, causal=True)
print("result\n", y[0].round(2))
print("the first token sees itself alone, so it gets its own value:", np.allclose(y[0, 0], value[0, 0]))

# %% [markdown]
# The backward pass needs one rule, C = A B has dA = dC B^T and dB = A^T dC, three times, from the end to the beginning:
#
#     Y = P V                     dP = dY V^T              dV = P^T dY
#     P = softmax(S)              dS = P * (dP - rowsum(dP * P))
#     S = (Q / sqrt(d)) K^T       dQ = dS K / sqrt(d)      dK = dS^T Q / sqrt(d)
#
# A hidden score has share 0, so dS is 0 there: the mask needs no backward pass of its own. Let us do it by hand and compare.

# %%
dy = rng.standard_normal(y.shape)
dquery, dkey, dvalue = vjp(dy)

P = attention_weights(query, key, causal=True)
dP = dy @ np.swapaxes(value, -1, -2)
dS = P * (dP - np.sum(dP * P, axis=-1, keepdims=True))
print(
    "by hand:",
    np.allclose(dS @ key / math.sqrt(2), dquery),
    np.allclose(np.swapaxes(dS, -1, -2) @ query / math.sqrt(2), dkey),
)

t = rng.standard_normal(query.shape)
exact = np.sum(dy * slope(lambda q: scaled_dot_product_attention(q, key, value, causal=True)[0], query, t))
print(f"complex step {exact:.15f}   vjp {np.sum(dquery * t):.15f}")

# %% [markdown]
# **Exercises:** `01_softmax`, `01_causal_mask`, and when you feel strong, `01_attention`.
#
# ## Norms, and three ways by which x enters
#
# Layers work best when their inputs have a steady size. Layer norm gives every vector mean 0 and variance 1, then lets the model
# scale and shift:
#
#     c = x - mean(x)      r = sqrt(mean(c^2) + eps)      n = c / r      y = n * weight + bias
#
# Backward, with dn = dy * weight. If r and the mean were constants, dx would be dn / r. They are not:
#
#     r depends on c:       dr/dc = c / (d r) = n / d,  and  dr = -sum(dn * n) / r
#                           dc = dn / r + dr * n / d = (dn - n * mean(dn * n)) / r
#     the mean depends on x, and centring is its own transpose:
#                           dx = dc - mean(dc) = (dn - mean(dn) - n * mean(dn * n)) / r
#
# Two terms are subtracted: what changes the mean and what changes the length can't come out of the norm, so no gradient goes
# there. Here is what each of them is worth on an example:

# %%
from numpy_ref.model.norms import layer_norm

x, weight, bias = rng.standard_normal(6), np.ones(6), np.zeros(6)
y, vjp = layer_norm(x, weight, bias)
dy = rng.standard_normal(6)
n, r = y, np.sqrt(x.var() + 1e-5)
terms = {
    "dn alone": dy,
    "and the mean": dy - dy.mean(),
    "and the length": dy - dy.mean() - n * (dy * n).mean(),
}
t = rng.standard_normal(6)
exact = np.sum(dy * slope(lambda x: layer_norm(x, weight, bias)[0], x, t))
for name, term in terms.items():
    print(f"{name:15} slope {np.sum(term / r * t):+.6f}   complex step {exact:+.6f}")

# %% [markdown]
# And what goes wrong when the variance is computed in one pass, as mean(x^2) - mean(x)^2? On paper nothing. In float32, when the mean
# is large, two nearly equal numbers are subtracted and hardly a digit is left:

# %%
shifted = (rng.standard_normal(1000) + 3000).astype(np.float32)
two_passes = np.mean((shifted - shifted.mean()) ** 2)
one_pass = np.mean(shifted * shifted) - shifted.mean() ** 2
print(f"variance: two passes {two_passes:.4f}, one pass {one_pass:.4f}")

# %% [markdown]
# **Exercises:** `01_layer_norm`, `01_layer_norm_backward`.
#
# ## The stream
#
# A block is two branches that *add* to the stream:
#
#     x = x + attention(norm(x))
#     x = x + feed_forward(norm(x))
#
# Backward, a sum hands dy to both sides untouched. So the gradient of the first layer contains the gradient of the last one
# itself, plus what went through the branches. Take the stream away, y = branch(x), and every layer multiplies the gradient by
# its own slope: a little less than one, and after 48 layers nothing is left; a little more, and it explodes. The original
# transformer normed the stream itself, after each sum ("post"); modern ones norm inside the branch ("pre"), so that nothing
# at all stands between the loss and the first layer. Stacks of 48 freshly drawn feed-forward networks:

# %%
from numpy_ref.model.feed_forward import feed_forward
from numpy_ref.model.residual import residual

LAYERS, WIDTH = 48, 64


def gradient_by_layer(kind, gain):
    """The size of the gradient that reaches each layer from above, first layer first."""
    rng = np.random.default_rng(1)
    one, zero = np.ones(WIDTH), np.zeros(WIDTH)

    def layer(x):
        params = {"up.weight": rng.standard_normal((4 * WIDTH, WIDTH)) * gain / math.sqrt(WIDTH)}
        params["down.weight"] = rng.standard_normal((WIDTH, 4 * WIDTH)) * gain / math.sqrt(4 * WIDTH)
        if kind == "no stream":
            y, vjp = feed_forward(x, params)
            return y, lambda dy: vjp(dy)[0]
        if kind == "post":
            y, branch = feed_forward(x, params)
            y, after = layer_norm(x + y, one, zero)
            return y, lambda dy: after(dy)[0] + branch(after(dy)[0])[0]
        n, before = layer_norm(x, one, zero)
        y, branch = feed_forward(n, params)
        y, both = residual(x, y)
        return y, lambda dy: both(dy)[0] + before(branch(both(dy)[1])[0])[0]

    x, vjps = rng.standard_normal((16, WIDTH)), []
    for _ in range(LAYERS):
        x, vjp = layer(x)
        vjps.append(vjp)
    dx, sizes = rng.standard_normal(x.shape), []
    for vjp in reversed(vjps):
        dx = vjp(dx)
        sizes.append(np.sqrt(np.mean(dx**2)))
    return np.array(sizes[::-1])


sizes = {
    "no stream, weights a bit small": gradient_by_layer("no stream", 1.0),
    "no stream, weights a bit large": gradient_by_layer("no stream", 1.5),
    "post-norm": gradient_by_layer("post", 1.0),
    "pre-norm": gradient_by_layer("pre", 1.0),
}
print(
    "\n".join(f"{name:32} first layer / last layer: {size[0] / size[-1]:.2g}" for name, size in sizes.items())
)

# %% [markdown]
# The picture to remember of this lesson:

# %%
curves(
    sizes,
    "How much gradient reaches each layer",
    xlabel="layer, counted from the input",
    ylabel="root mean square of the gradient",
    logarithmic=True,
)

# %% [markdown]
# **Exercises:** `01_feed_forward`, `01_block`.
#
# ## All of it
#
# `transformer` looks tokens up, adds places, runs the blocks, norms once more and multiplies by the output head. A freshly drawn
# model knows nothing: it gives every byte about the same chance, so its loss is ln 256.

# %%
from numpy_ref.config import parameter_count
from numpy_ref.inspect import describe, tree
from numpy_ref.model.initialise import initialise
from numpy_ref.model.transformer import transformer
from numpy_ref.presets import preset
from numpy_ref.training.losses import cross_entropy

config, train_config = preset("tiny")
params = initialise(config, 0, np.float64)
text = np.frombuffer(b"The model reads bytes, and guesses the next", np.uint8)[None, :33].astype(np.int64)
logits, vjp = transformer(text[:, :-1], params, config)
loss, loss_vjp = cross_entropy(logits, text[:, 1:])
grads = vjp(loss_vjp(1.0))
print("\n".join(tree(describe(config, train_config)["shapes"])))
print(
    f"\n{parameter_count(config):,} parameters, logits {logits.shape}, loss {loss:.3f}, ln 256 = {math.log(256):.3f}"
)
print("a gradient for every parameter:", all(grads[name].shape == params[name].shape for name in params))

# %% [markdown]
# Does the future really stay hidden? Change the last byte: no earlier logit may move by a single bit.

# %%
changed = text[:, :-1].copy()
changed[0, -1] = 33
other, _ = transformer(changed, params, config)
print(
    "earlier positions unchanged:",
    np.array_equal(other[0, :-1], logits[0, :-1]),
    "  last one changed:",
    not np.array_equal(other[0, -1], logits[0, -1]),
)

# %% [markdown]
# ## The other side: PyTorch
#
# `torch_impl` has the same files, names and arguments, written for speed: fused kernels, and autograd in the place of our
# vjps. The proof that both are the same runs over every component; here it is on this model, and what the speed is worth on
# the machine that built this page:

# %%
import torch

from torch_impl.model.transformer import transformer as torch_transformer
from torch_impl.training.losses import cross_entropy as torch_cross_entropy

torch_params = {name: torch.from_numpy(value).requires_grad_() for name, value in params.items()}
torch_loss = torch_cross_entropy(
    torch_transformer(torch.from_numpy(text[:, :-1]), torch_params, config), torch.from_numpy(text[:, 1:])
)
torch_loss.backward()
worst = max(np.abs(torch_params[name].grad.numpy() - grads[name]).max() for name in params)
print(f"loss: {loss:.15f} and {torch_loss.item():.15f};  largest difference of any gradient: {worst:.1e}")

# %%
config, _ = preset("showcase")
params = initialise(config, 0, np.float32)
batch = rng.integers(0, 256, (8, 129))


def numpy_step():
    logits, vjp = transformer(batch[:, :-1], params, config)
    _, loss_vjp = cross_entropy(logits, batch[:, 1:])
    return vjp(loss_vjp(np.float32(1.0)))


torch_params = {name: torch.from_numpy(value).requires_grad_() for name, value in params.items()}
inputs, targets = torch.from_numpy(batch[:, :-1].copy()), torch.from_numpy(batch[:, 1:].copy())


def torch_step():
    torch_cross_entropy(torch_transformer(inputs, torch_params, config), targets).backward()


times = {"NumPy": seconds(numpy_step, 3), "PyTorch": seconds(torch_step, 3)}
print(
    f"forward and backward of {8 * 128} tokens, float32: "
    + ", ".join(f"{name} {1000 * time:.0f} ms" for name, time in times.items())
)

# %% [markdown]
# ## Further reading
#
# - Vaswani et al., *Attention is all you need*, 2017, arXiv:1706.03762: sections 3.1 to 3.5 are this lesson.
# - Xiong et al., *On layer normalization in the transformer architecture*, 2020, arXiv:2002.04745: pre and post.
# - Ba, Kiros, Hinton, *Layer normalization*, 2016, arXiv:1607.06450.
# - Radford et al., *Language models are unsupervised multitask learners*, 2019 (GPT-2): the initialisation used here.
# - Martins, Sturdza, Alonso, *The complex-step derivative approximation*, ACM TOMS 29 (2003) 245.
#
# In this project: `numpy_ref/model/` in the order linear, embedding, positions, norms, softmax, attention, multi_head_attention,
# feed_forward, block, transformer. **Next:** lesson 2 trains it.
