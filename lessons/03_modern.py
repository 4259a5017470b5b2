# %% [markdown]
# # Lesson 3: what modern models changed, and how they write fast
#
# Lessons 1 and 2 built the transformer of 2017 to 2019. This one walks to the models of
# today: RMS norm, RoPE, gates, shared keys, windows. And then to the question that decides what a model costs in use: how does
# it write its next word without reading everything again?
#
# ## The problem
#
# A trained model is read far more often than it is trained. Three things hurt: texts longer than those of training, the memory of
# everything said so far, and the time for each new token. Nearly every change since 2019 serves one of the three.

# %%
import math

import numpy as np

from lessons.draw.curves import curves
from lessons.probe import seconds

rng = np.random.default_rng(0)

# %% [markdown]
# ## RMS norm: half of layer norm is enough
#
#     layer norm:   c = x - mean(x)      r = sqrt(mean(c^2) + eps)      y = c / r * weight + bias
#     RMS norm:                          r = sqrt(mean(x^2) + eps)      y = x / r * weight
#
# The backward pass loses the term of the mean and keeps that of the length. With n = x / r and dn = dy * weight:
#
#     dr/dx = x / (d r) = n / d        dr = -sum(dn * n) / r
#     dx = dn / r + dr n / d = (dn - n mean(dn * n)) / r
#
# Geometry: y stays on a sphere, so only the part of dn along the sphere gets through. dx is orthogonal to x, always:

# %%
from numpy_ref.model.norms import layer_norm, rms_norm

x, weight, dy = rng.standard_normal(64), np.ones(64), rng.standard_normal(64)
dx = rms_norm(x, weight, eps=1e-12)[1](dy)[0]
print(f"cosine between dx and x: {dx @ x / np.linalg.norm(dx) / np.linalg.norm(x):.1e}")

large = rng.standard_normal((2048, 256)).astype(np.float32)
one, zero = np.ones(256, np.float32), np.zeros(256, np.float32)
times = {
    "layer norm": seconds(lambda: layer_norm(large, one, zero)[1](large)),
    "RMS norm": seconds(lambda: rms_norm(large, one)[1](large)),
}
print(
    "forward and backward in NumPy: "
    + ", ".join(f"{name} {1000 * time:.1f} ms" for name, time in times.items())
)

# %% [markdown]
# **Exercises:** `03_rms_norm`, `03_rms_norm_backward`.
#
# ## RoPE: places as rotations
#
# Lesson 1 *added* the position to the vector. RoPE *turns* queries and keys instead, pair of features by pair of features, by an
# angle that grows with the position:
#
#     y_a = x_a cos(p f) - x_b sin(p f)
#     y_b = x_a sin(p f) + x_b cos(p f)        p: position, f: the pair's own speed
#
# Turn a query by the angle m f and a key by n f, and their product contains only (m - n) f: attention sees *distances*. Nothing
# about that is learnt, and nothing has to be stored. The picture to remember:

# %%
from lessons.draw.rope import rope

rope(width=8, base=100.0)

# %% [markdown]
# Why? A rotation by angle a is multiplication by e^(ia), if a pair is read as a complex number q = q_a + i q_b. The product of two
# pairs is the real part of q times the conjugate of k, so
#
#     Re(q e^(i m f) conj(k e^(i n f))) = Re(q conj(k) e^(i (m - n) f))
#
# And backward? A rotation keeps lengths and angles; its transpose is the rotation back. The whole backward pass is the forward pass
# with -sin:
#
#     dx_a =  dy_a cos + dy_b sin
#     dx_b = -dy_a sin + dy_b cos

# %%
from numpy_ref.model.positions import rope_frequencies, rotary

f, _ = rope_frequencies(8)
x, dy = rng.standard_normal((2, 5, 8))
cos, sin = np.cos(np.arange(5)[:, None] * f), np.sin(np.arange(5)[:, None] * f)
y, vjp = rotary(x, cos, sin)
print("lengths kept:", np.allclose(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1)))
print("vjp is the rotation back:", np.allclose(vjp(y), x))

# %% [markdown]
# What goes wrong: two conventions. A pair is (i, i + d/2) in Llama and (2i, 2i + 1) in GPT-J and the paper. Load weights of one
# with code of the other and *nothing fails*: shapes fit, text comes out, only worse. And angles must be computed in float64 (or
# whole numbers of turns): in bfloat16 a position above 256 is rounded, so that neighbours stand on the same spot.

# %%
positions = np.arange(1000, 1004)
from numpy_ref.precision import round_to

print("positions 1000 ... 1003 in bfloat16:", round_to(positions.astype(np.float32), "bfloat16"))

# %% [markdown]
# **Longer texts.** A model that was trained on 2,000 tokens has never seen the angles of token 8,000. *Linear* scaling squeezes
# positions together until they fit; *NTK* changes the base so that fast pairs, which tell neighbours apart, keep their speed and
# only slow ones are stretched. Turns over the text, fastest and slowest pairs of a head of width 64:

# %%
for name, options in {
    "as trained, 2,000 tokens": {},
    "linear, x 4": {"scaling": "linear", "factor": 4.0},
    "ntk, x 4": {"scaling": "ntk", "factor": 4.0},
}.items():
    f, _ = rope_frequencies(64, **options)
    length = 2000 if not options else 8000
    print(
        f"{name:26} rad a token: fastest {f[0]:.3f}, slowest {f[-1]:.2e}   turns over the text: fastest {length * f[0] / 2 / math.pi:7.1f}, slowest {length * f[-1] / 2 / math.pi:.3f}"
    )

# %% [markdown]
# **Exercises:** `03_rope_frequencies`, `03_rope`; and `03_alibi`, the other way to see distances: a penalty that grows with them.
#
# ## Gates: SwiGLU
#
# The feed-forward network of 2017 bends a vector. A gated one multiplies two views of it:
#
#     y = silu(a) * b,    [a, b] = x W^T,        silu(a) = a / (1 + exp(-a))
#
# Backward is the product rule, da = silu'(a) (dy * b) and db = dy * silu(a), with silu' = s + a s (1 - s). A product lets one
# part of the network switch another off, which no sum of bent features can do. For the same number of parameters the hidden
# width is 2/3 of the ungated one.

# %%
from numpy_ref.model.activations import gelu, relu, silu

grid = np.linspace(-5, 3, 161)
curves(
    {
        "ReLU": (grid, relu(grid)[0]),
        "GELU": (grid, gelu(grid)[0]),
        "SiLU": (grid, silu(grid)[0]),
        "slope of SiLU": (grid, silu(grid)[1](np.ones_like(grid))),
    },
    "Three ways to bend",
    xlabel="x",
    ylabel="y",
)

# %% [markdown]
# **Exercises:** `03_silu`, `03_swiglu`.
#
# ## The cache: never read twice
#
# To write token 1,001 a model needs the keys and values of the 1,000 tokens before. They do not change: nobody sees the future, so
# the past is what it was. Keep them, and every new token costs one row instead of the whole text.

# %%
from numpy_ref.inference.cached import cached_transformer
from numpy_ref.model.initialise import initialise
from numpy_ref.model.kv_cache import init_cache
from numpy_ref.model.transformer import transformer
from numpy_ref.presets import preset

config, _ = preset("llama-1m")
params = initialise(config, 0, np.float32)
text = rng.integers(0, 256, (1, 100))

whole, _ = transformer(text, params, config)
cache = init_cache(config, 1, 128, np.float32)
steps = []
for t in range(text.shape[1]):
    logits, cache = cached_transformer(text[:, t : t + 1], params, config, cache, last=True)
    steps.append(logits[0])
print(
    f"largest difference between one pass over 100 tokens and 100 cached steps: {np.abs(np.array(steps) - whole[0]).max():.1e}"
)

with_cache = seconds(lambda: cached_transformer(text[:, :1], params, config, cache, last=True))
without = seconds(lambda: transformer(text, params, config), 3)
print(
    f"token 101 in NumPy: {1000 * without:.1f} ms by reading all again, {1000 * with_cache:.1f} ms with the cache"
)

# %% [markdown]
# ## Memory: shared keys, windows, few bits
#
# The cache is what fills the memory of a server. Each token costs 2 (key and value) x layers x key heads x head width numbers.
# **Grouped queries**: several query heads read the same key head; 32 heads on 8 keys make the cache four times smaller. Backward, a
# key that four heads read collects the gradients of all four.
# **A window**: a layer that sees the last W tokens needs a ring of W slots, however long the text grows; through n layers
# information still travels n (W - 1) tokens.

# %%
from dataclasses import replace

from numpy_ref.inspect import cache_numbers

big, _ = preset("mistral-7b")
for name, changed in {
    "every head its own keys": replace(big, kv_heads=big.heads, window=0),
    "8 key heads for 32": replace(big, window=0),
    "and a window of 4,096": big,
}.items():
    print(
        f"{name:26} {2 * cache_numbers(changed) / 2**30:6.2f} GiB in 16 bits for one text of {changed.context:,} tokens"
    )

# %% [markdown]
# Who sees whom follows from positions alone, one rule for training, caches and padding. A window of 4 with one sink (the first
# token, on which trained models park attention that fits nowhere), and three documents that share a row:

# %%
from numpy_ref.model.masks import document_positions, document_runs, visible_keys

place = np.arange(10)[None]
documents = document_runs(np.array([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2]]))
own = document_positions(documents)
masks = {
    "causal": visible_keys(place, place),
    "window 4, 1 sink": visible_keys(place, place, window=4, sinks=1),
    "three documents": visible_keys(own, own, query_documents=documents, key_documents=documents),
}
for name, mask in masks.items():
    print(
        f"{name}\n" + "\n".join("  " + "".join("# " if seen else ". " for seen in row) for row in mask[0, 0])
    )

# %% [markdown]
# **Exercises:** `03_grouped_queries`, `03_visible_keys`, `03_ring_slot`.
#
# **Few bits.** Decoding one text reads every weight once a token and does little else, so it is as fast as memory is read. In 8 bits a
# row has one scale, in 4 bits every 32 inputs share a scale and a zero. What that does to a layer's result:

# %%
from numpy_ref.model.quantization import dequantize, quantize

weight = rng.standard_normal((256, 256)) / 16
x = rng.standard_normal((100, 256))
exact = x @ weight.T
for bits, group in ((8, 0), (4, 32), (4, 128)):
    small = dequantize(quantize(weight, bits, group or 32), np.float64)
    error = np.sqrt(np.mean((x @ small.T - exact) ** 2) / np.mean(exact**2))
    print(f"{bits} bits{f', groups of {group}' if group else '':15} relative error of the result {error:.4f}")

# %% [markdown]
# ## Speculation: guess cheaply, check in one pass
#
# One pass over five tokens costs hardly more than over one: the weights are read once either way. So let something cheap guess four
# tokens (a small model, or just "what followed the last time?"), and let the model check all four at once. With p the model's and q
# the guesser's distribution,
#
#     keep the guess x with probability min(1, p(x) / q(x));    else draw from max(p - q, 0)
#
# Why is that exactly the model's distribution? x is guessed and kept with probability min(p, q). What is missing to p is
# max(p - q, 0), and that is where refusals draw from: min(p, q) + max(p - q, 0) = p. A bad guesser makes it slow, never wrong.

# %%
from numpy_ref.inference.sampling import sample
from numpy_ref.inference.speculative import accept

p, q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])  # a poor guesser
counts, kept = np.zeros(4), 0
for _ in range(20_000):
    guess = int(sample(q, rng.random()))
    number, following = accept(np.array([p, p]), q[None], [guess], rng.random(2))
    counts[guess if number else following] += 1
    kept += number
print(
    "wanted",
    p,
    "  got",
    (counts / counts.sum()).round(3),
    f"  kept {kept / 20_000:.2f}, theory {np.minimum(p, q).sum():.2f}",
)

# %% [markdown]
# **Exercises:** `03_ngram_proposal`, `03_accept`.
#
# ## What each change is worth
#
# Parameters and training memory of the model of 2019 and the one of 2023, about equally large:

# %%
from lessons.draw.model_size import model_size

model_size(
    {name: preset(name) for name in ("showcase", "llama-1m")},
    "The showcase (2019's architecture) and llama-1m",
)

# %% [markdown]
# ## The other side: PyTorch
#
# Decoding on the Torch side: the cache is written in place, a window reads only the band it can see, weights may be int8 or int4.
# The same 48 greedy tokens on both sides, after a prompt of 64, measured on the machine that built this page:

# %%

import torch

from numpy_ref.config import SampleConfig
from numpy_ref.inference.generate import generate
from torch_impl.inference.generate import generate as torch_generate

prompt = text[0, :64]
greedy = SampleConfig(tokens=48, greedy=True)
torch_params = {name: torch.from_numpy(value) for name, value in params.items()}
times, texts = {}, {}
for name, run in {
    "NumPy": lambda: generate(params, config, [prompt], greedy),
    "PyTorch": lambda: torch_generate(torch_params, config, [torch.from_numpy(prompt)], greedy),
}.items():
    texts[name] = np.asarray(run()[0])
    times[name] = seconds(run, 3)
print(
    "same tokens:",
    np.array_equal(*texts.values()),
    "  " + ", ".join(f"{name} {48 / time:.0f} tokens/s" for name, time in times.items()),
)

# %% [markdown]
# And attention over a window of 128 in a long text, where the reference computes all scores and hides most of them, while the
# fast side touches the band alone:

# %%
from numpy_ref.model.attention import sliding_window_attention
from torch_impl.model.attention import sliding_window_attention as torch_window

for length in (512, 2048):
    q, k, v = rng.standard_normal((3, 1, 2, length, 32)).astype(np.float32)
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    ours = seconds(lambda: sliding_window_attention(q, k, v, 128), 3)
    fast = seconds(lambda: torch_window(*tensors, 128), 3)
    print(f"{length:5} tokens: definition {1000 * ours:7.1f} ms, banded {1000 * fast:6.1f} ms")

# %% [markdown]
# ## Further reading
#
# - Zhang, Sennrich, *Root mean square layer normalization*, arXiv:1910.07467. Shazeer, *GLU variants*, arXiv:2002.05202.
# - Su et al., *RoFormer*, arXiv:2104.09864; Chen et al., *Positional interpolation*, arXiv:2306.15595; Peng et al., *YaRN*,
#   arXiv:2309.00071; Press et al., *ALiBi*, arXiv:2108.12409.
# - Ainslie et al., *GQA*, arXiv:2305.13245. Jiang et al., *Mistral 7B*, arXiv:2310.06825. Xiao et al., *Attention sinks*,
#   arXiv:2309.17453.
# - Leviathan et al., *Fast inference from transformers via speculative decoding*, arXiv:2211.17192.
#
# In this project: `numpy_ref/model/` (positions, masks, kv_cache, quantization) and `numpy_ref/inference/`. **Next:** lesson 4
# makes training larger.
