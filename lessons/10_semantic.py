# %% [markdown]
# # Lesson 10: units of meaning, and a space in which trees fit
#
# Everything so far was about tokens: pieces of spelling, fixed before the model has read a word. This lesson asks two questions that
# lie deeper. What should the unit be? And what shape should the space have, in which units lie near each other when their
# meanings do?
#
# ## The problem
#
# A tokenizer cuts "unbelievable" where some other text happened to be frequent; a number, a name or another script falls to pieces.
# And the vectors that stand for words lie in flat space, where there is room for 2 d directions and little more, while meanings form
# trees: an animal is a mammal, is a dog, is a terrier, and the number of kinds grows exponentially with the depth.
#
# ## The first idea: many ways to write a word
#
# BPE (lesson 4) has one way to write each word, found by replaying merges. The *unigram* tokenizer gives every token a probability, and
# a word the sum over all ways to write it:
#
#     Z(x) = sum over the ways to write x of the product of p(token)        L = sum over the words of weight ln Z
#
# There may be 2^(n-1) ways, but one walk from left to right is enough: Z of the first j bytes is the sum over the tokens that end there of
# Z(start) p(token). And the backward pass? Z is linear in each p that it contains, so
#
#     dL/d ln p_v = sum over the places of v of Z(before) p_v Z(behind) / Z(x)
#
# which is the *expected number of times* that v occurs. The gradient of a log-likelihood whose middle is hidden *is* the E step of
# expectation maximisation. The ways to write "abab", checked by counting:

# %%
import math

import numpy as np

from lessons.draw.curves import curves
from lessons.probe import seconds, slope
from numpy_ref.tokenizers.segmentation import best, log_likelihood

rng = np.random.default_rng(0)
tokens = {b"a": 0, b"b": 1, b"ab": 2, b"ba": 3, b"bab": 4}
scores = np.log(np.array([0.3, 0.3, 0.2, 0.1, 0.1]))


def ways(word):
    """All ways to write a word."""
    if not word:
        yield ()
    for token in tokens:
        if word.startswith(token):
            yield from ((token, *rest) for rest in ways(word[len(token) :]))


found = list(ways(b"abab"))
p = np.array([math.exp(sum(scores[tokens[token]] for token in way)) for way in found])
value, vjp = log_likelihood([b"abab"], np.ones(1), tokens, scores)
counted = [sum(share * way.count(token) for share, way in zip(p / p.sum(), found)) for token in tokens]
print(f"{len(found)} ways; ln Z by counting {math.log(p.sum()):.12f}, by one walk {value:.12f}")
print(
    "expected occurrences: counted ",
    np.round(counted, 6),
    "\n                      gradient",
    vjp(1.0).round(6),
)
print("the likeliest way:", [list(tokens)[i] for i in best(b"abab", tokens, scores)[1]])

# %% [markdown]
# **Exercise:** `10_log_likelihood`.
#
# ## The second idea: no tokens at all
#
# A model of bytes can write anything, but its texts are four times as long. Most bytes are easy: after "lighthous" comes "e". So put
# bytes together to *patches*, and let the large model work once a patch. Where should a patch begin? Where the next byte is
# hard to predict (arXiv:2412.09871). A small byte model, trained here for a minute's share of text, knows:

# %%
from dataclasses import replace
from pathlib import Path

import numpy_ref
from numpy_ref.data.batches import batch
from numpy_ref.model.initialise import initialise
from numpy_ref.model.transformer import transformer
from numpy_ref.presets import preset
from numpy_ref.tokenizers.byte import encode
from numpy_ref.tokenizers.patches import (
    complete_ids,
    entropy_starts,
    next_byte_entropies,
    patch_ids,
    space_starts,
)
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step

samples = Path(numpy_ref.__file__).parent / "data" / "samples"
data = encode("\n\n".join(path.read_text() for path in sorted(samples.glob("*.txt"))))
config, settings = preset("tiny")
config = replace(config, context=64)
settings = replace(settings, steps=600, batch=16, lr=1e-2, warmup=30, optimizer="muon", dtype="float32")
params = initialise(config, 0, np.float32)
states = init_states(params, settings)
for step in range(settings.steps):
    inputs, targets = batch(data, step * settings.batch, settings.batch, config.context, 0)
    metrics, params, states = train_step(params, states, inputs, targets, config, settings, step)

line = "the keeper of the lighthouse had seen the water rise before"
ids = encode(line)[None].astype(np.int64)
entropies = next_byte_entropies(transformer(ids, params, config)[0])[0]
threshold = np.quantile(entropies[:-1], 0.75)  # so that a patch has about four bytes
cuts = {
    "behind spaces": space_starts(ids)[0],
    f"entropy above {threshold:.1f} nats": entropy_starts(entropies[None], threshold)[0],
}
for name, starts in cuts.items():
    places = [*np.flatnonzero(starts[:-1]), len(line)]
    print(
        f"{name:21} {len(places) - 1:2} patches: " + "|".join(line[a:b] for a, b in zip(places, places[1:]))
    )

# %%
from lessons.draw.patches import patches

patches(line, entropies[:-1], cuts)

# %% [markdown]
# What goes wrong: the border itself can tell. If a patch *ends* at a space, then knowing that it has ended is knowing that a space
# comes, while the space is still to be predicted. In training such a model knows more than when it writes. So whether a patch begins before
# byte t may depend on the bytes before t alone, and a byte's prediction may use only patches that are complete:

# %%
starts = cuts["behind spaces"]
print("byte           ", " ".join(line[:12].replace(" ", "_")))
print("patch of it    ", " ".join(map(str, patch_ids(starts[None])[0][:12])))
print("known complete ", " ".join(map(str, complete_ids(starts[None])[0][:12])))
changed = ids.copy()
changed[0, 9] = ord("!")
print(
    "change byte 9: starts before it unchanged:", np.array_equal(space_starts(changed)[0, :10], starts[:10])
)

# %% [markdown]
# **Exercises:** `10_space_starts`, `10_entropies`, `10_complete_ids`.
#
# **Learning where to cut.** H-Net (arXiv:2507.07955) lets the model itself say how likely a border is. A choice has no derivative (lesson
# 5), so the chunks are smoothed: a doubtful chunk keeps much of the one before,
#
#     y_k = p_k z_k + (1 - p_k) y_(k-1)
#
# and through p the gradient reaches the cutter. The backward pass of a recurrence is a recurrence from the end. What reaches y_k comes
# from above and from y_(k+1):
#
#     a_k = dy_k + (1 - p_(k+1)) a_(k+1)        dz_k = p_k a_k        dp_k = sum a_k (z_k - y_(k-1))

# %%
from numpy_ref.patching.chunking import ema_scan

z, p = rng.standard_normal((1, 6, 3)), rng.random((1, 6))
y, vjp = ema_scan(z, p)
dy, t = rng.standard_normal(y.shape), rng.standard_normal(p.shape)
dz, dp = vjp(dy)
print(
    f"slope along p: vjp {np.sum(dp * t):.14f}, complex step {np.sum(dy * slope(lambda p: ema_scan(z, p)[0], p, t)):.14f}"
)

# %% [markdown]
# **Exercise:** `10_ema_scan`.
#
# ## The third idea: a space with more room
#
# In flat space the circle of radius r has the length 2 pi r. A tree with three children a node has 3^r nodes at depth r: there is no
# room for them at equal distances. In *hyperbolic* space a circle's length grows like e^r. Trees fit.
#
# The Poincare ball is such a space, drawn inside a ball: lengths at x are 2 / (1 - c ||x||^2) times what they look like, so the border is
# infinitely far away.
#
#     d(x, y) = 2 asinh(sqrt(h)) / sqrt(c),    h = c ||x - y||^2 / ((1 - c ||x||^2) (1 - c ||y||^2))
#
# All edges in this picture are equally long:

# %%
from lessons.draw.poincare import poincare

poincare(title="A tree of 121 nodes; every edge is as long as the others")

# %% [markdown]
# Backward, with Bx = 1 - c ||x||^2 and e = x - y: x stands in e and in its own Bx, so
#
#     de = 2 c dh e / (Bx By)        dBx = -dh h / Bx        dx = de - 2 c dBx x        dy = -de - 2 c dBy y
#
# What goes wrong: d = acosh(1 + 2h) is the same on paper. For near points h is tiny, 1 + 2h rounds to 1, and the distance to 0:

# %%
from numpy_ref.hyperbolic.poincare import distance, haversine

c = np.asarray(1.0)
x = np.array([[0.5, 0.0]])
for gap in (1e-3, 1e-6, 1e-9):
    y = x + np.array([[0.0, gap]])
    h = haversine(x, y, c)[0][0]
    print(
        f"points {gap:.0e} apart: distance {distance(x, y, c)[0][0]:.12e}, by acosh {math.acosh(1 + 2 * h):.12e}"
    )

# %% [markdown]
# **Exercises:** `10_distance`, `10_haversine`, `10_mobius_add`, `10_exp_map_origin`, `10_lift`.
#
# ## Learning in it
#
# An ordinary gradient step would leave the ball, and near its border it would be far too long. Two remedies. Either the
# *Riemannian* gradient, which divides by the metric, and a step along a geodesic: x = exp_x(-lr grad / lambda^2). Or let each
# point be the end of an ordinary vector, exp_0(v), laid down at the origin: v may be any vector, so Adam can move it.
#
# The test: put the 40 nodes of a tree like that into two dimensions so that distances in space, times one learnt scale, are distances in
# the tree. Distortion is their mean relative error. The same steps of Adam, in the plane and in hyperbolic space:

# %%
from numpy_ref.hyperbolic.tangent import distance as tangent_distance
from numpy_ref.training.adamw import adamw, init_state

parents = [-1] + [(node - 1) // 3 for node in range(1, 40)]
chains = []
for node in range(40):
    chain = [node]
    while parents[chain[-1]] >= 0:
        chain.append(parents[chain[-1]])
    chains.append(chain)
hops = np.array([[len(set(one) ^ set(other)) for other in chains] for one in chains], float)
others = hops > 0


def plane_distance(v, w):
    """||v - w||;  vjp: dd -> dv, dw."""
    e = v - w
    d = np.sqrt(np.sum(e * e, axis=-1) + 1e-18)

    def vjp(dd):
        de = (dd / d)[..., None] * e
        return de.sum(1, keepdims=True), -de.sum(0, keepdims=True)

    return d, vjp


def embed(space, seed, steps=600, lr=0.1):
    """Vectors (40, 2) for the nodes, and the distortion at each step."""
    params = {"v": 0.1 * np.random.default_rng(seed).standard_normal((40, 2)), "log_scale": np.zeros(())}
    states, history = {name: init_state(value) for name, value in params.items()}, []
    for step in range(steps):
        v, scale = params["v"], np.exp(params["log_scale"])
        d, vjp = space(v[:, None], v[None])
        wanted = np.where(others, hops, 1.0)
        error = np.where(others, scale * d / wanted - 1.0, 0.0)
        history.append(np.abs(error).sum() / others.sum())
        dd = np.sign(error) / wanted / others.sum()
        dv, dw = vjp(scale * dd)[:2]
        grads = {"v": dv[:, 0] + dw[0], "log_scale": np.sum(dd * scale * d)}
        for name, grad in grads.items():
            rate = lr * (1 - step / steps)
            params[name], states[name] = adamw(params[name], grad, states[name], rate, beta1=0.9, beta2=0.999)
    return params["v"], history


runs = {
    "plane": [embed(plane_distance, seed) for seed in range(4)],
    "hyperbolic plane": [embed(lambda v, w: tangent_distance(v, w, c), seed) for seed in range(4)],
}
for name, found in runs.items():
    ends = ", ".join(f"{history[-1]:.3f}" for _, history in found)
    print(f"{name:17} distortion after 600 steps, from four beginnings: {ends}")
curves(
    {name: np.mean([history for _, history in found], axis=0) for name, found in runs.items()},
    "A tree of 40 nodes in two dimensions, mean of four runs",
    ylabel="mean relative error of a distance",
)

# %% [markdown]
# **Exercise:** `10_riemannian_gradient`. The picture to remember: the best of the four, learnt from distances alone, drawn in the ball.
# Nobody told it which node is the root. (Two leaves at the bottom hang far
# from their parent, a local minimum; the other runs ended in worse ones.)

# %%
from numpy_ref.hyperbolic.poincare import exp_map_origin

best_run = min(runs["hyperbolic plane"], key=lambda run: run[1][-1])
ball = exp_map_origin(best_run[0] / 2, c)[0]
edges = [(parents[node], node) for node in range(1, 40)]
depth = hops[0].astype(int)
poincare(ball, edges, depth, {0: "root"}, title="Learnt from distances alone")

# %% [markdown]
# ## The fourth idea: the next sentence, not the next token
#
# A *large concept model* (arXiv:2412.08821) reads and writes sentences: an encoder turns each into one vector, its concept, and the
# model predicts the next concept, which a decoder turns into words. But a vector is not a token: there is no table of all
# sentences for a softmax to choose from. The obvious loss is the distance to the right vector. What goes wrong: there is rarely one right
# next sentence. Say that three may follow, equally likely. What lies nearest to all three on average is their mean, which is none of them.
#
# A *diffusion* model need not take the mean. It learns to clean noisy concepts, y = sqrt(a) x + sqrt(1 - a) noise, where the level a is how
# much of the variance is signal; then noise alone is cleaned in small steps. What the best possible model says can be
# written down here, since the three concepts m_k are known: the mean of what the noisy vector may have been,
#
#     clean(y, a) = sum_k w_k m_k,    w = softmax(-||y - sqrt(a) m_k||^2 / (2 (1 - a)))
#
# At the first step, from noise alone, that *is* the mean: the same answer as regression. But a step goes only part of the way, and from
# there one concept is likelier than the others:

# %%
from lessons.draw.denoising import denoising
from numpy_ref.concepts.ddim import ddim_step
from numpy_ref.concepts.noise_schedule import cosine_levels, trailing_steps, zero_terminal_snr
from numpy_ref.model.softmax import softmax

angles = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
concepts = 1.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def cleaned(y, level):
    """What the clean vector was on average, seen with noise: (n, 2) -> (n, 2)."""
    apart = y[:, None] - math.sqrt(level) * concepts
    return softmax(-np.sum(apart**2, axis=-1) / (2 * (1 - level)))[0] @ concepts


levels = zero_terminal_snr(cosine_levels(100))
visited = levels[trailing_steps(100, 25)]
print(f"signal at the first steps of 25: {visited[:4].round(3)}, at the last: {visited[-1]:.3f}")
paths = [rng.standard_normal((60, 2))]
for level, following in zip(visited, [*visited[1:], 1.0]):
    paths.append(ddim_step(paths[-1], cleaned(paths[-1], level), level, following))
ends = paths[-1]
nearest = np.sqrt(((ends[:, None] - concepts) ** 2).sum(-1)).min(1)
mean = concepts.mean(0)
print(f"regression answers {mean.round(3)}, {np.sqrt(((mean - concepts) ** 2).sum(-1)).min():.2f} from the nearest concept")
print(f"sampling ends at most {nearest.max():.1e} from one; its squared error is twice that of the mean:")
wanted = concepts[rng.integers(0, 3, len(ends))]
for name, answer in (("regression", mean), ("sampling", ends)):
    print(f"  {name:10} {np.mean(np.sum((answer - wanted) ** 2, axis=-1)):.2f}")
denoising(np.stack(paths, axis=1), concepts, mean)

# %% [markdown]
# So the better guess by distance says nothing that anybody would say, and the worse one always speaks. That is the known signature of these
# models, and `python -m torch_impl concepts` measures it on a language with a known grammar. The other remedy is to
# make a concept a few *codes* again (residual vector quantisation): each codebook says what those before it have left, and a softmax can
# choose codes.

# %%
from numpy_ref.concepts.residual_quantiser import fit_codebooks, partial_sums, quantise

vectors = rng.standard_normal((400, 8))
codebooks = fit_codebooks(vectors, np.stack([rng.permutation(400)[:16] for _ in range(4)]))
sums, _ = partial_sums(quantise(vectors, codebooks), codebooks)
left = np.mean(np.sum((vectors[:, None] - sums) ** 2, axis=-1), axis=0)
print("squared error after 0 to 4 codes of 4 bits:", left.round(2))

# %% [markdown]
# **Exercise:** `10_ddim_step`.
#
# ## The fifth idea: thoughts that are not words
#
# A transformer of n layers does n things one after the other, then it must say a token. Writing a chain of thought lets it do more, at the
# price that every intermediate result must be a word. In Coconut (arXiv:2412.06769) it need not be: at the place of a thought the
# input is not an embedding but the model's own last hidden state,
#
#     x_p = h_(p-1)
#
# Backward. Each thought is made by a pass over what stands before it, and is an input of all later passes. So from the last pass to
# the first: when all later passes have added theirs, the gradient of the thought is complete, and goes through h_(p-1) into the
# pass that made it. Cut it there, and nothing in the question learns what would have been worth thinking:

# %%
from numpy_ref.thoughts.model import unit_transformer
from numpy_ref.thoughts.settings import ArmConfig, UnitConfig

units = UnitConfig(kind="thought", nodes=5, hops=3)
small = ArmConfig(layers=1, width=16, heads=2).model("thoughts", units)
weights = initialise(small, 0, np.float64)
question = rng.integers(0, 5, (2, units.question))
rows = np.concatenate([question, np.zeros((2, 2), np.int64)], axis=1)  # two places to think
places = (units.question, units.question + 1)
logits, vjp = unit_transformer(rows, weights, small, units, places)
dy = np.zeros_like(logits)
dy[:, -1] = rng.standard_normal(dy[:, -1].shape)  # only the answer behind the last thought counts
name = "blocks.0.attention.query_key_value.weight"
t = rng.standard_normal(weights[name].shape)


def answer_of(weight):
    return unit_transformer(rows, weights | {name: weight}, small, units, places)[0]


along = np.sum(dy * slope(answer_of, weights[name], t))
print(f"slope along {name}: vjp {np.sum(vjp(dy)[name] * t):.15f}, complex step {along:.15f}")
print("layers that a fact of the question can pass on its way to the answer:", small.layers * (len(places) + 1))

# %% [markdown]
# `python -m torch_impl thoughts` trains it on a task whose answer lies more steps away than the model has layers, beside the control that any
# such claim has to beat: as many places, but empty (pauses). Between token and thought lies a third way, to choose one of a few vectors: a
# quantised thought.
#
# **Context without a future.** A word's vector may depend on the words before it. Many "semantic" layers average over the whole text and
# so over the answer. The test is always the same: change what follows, and nothing before may move.

# %%
from numpy_ref.context.past import past_mean

text = rng.standard_normal((1, 6, 4))
later = text.copy()
later[0, 4] += 1.0
moved = np.abs(past_mean(later, 3)[0] - past_mean(text, 3)[0]).max(-1)[0]
print("word 4 changed; context vectors that moved:", np.flatnonzero(moved))

# %% [markdown]
# **Exercises:** `10_past_mean`, `10_film`.
#
# ## The other side: PyTorch

# %%
import torch

from torch_impl.hyperbolic.poincare import distance as torch_distance

x = 0.6 * rng.standard_normal((400, 8)) / np.sqrt(8)
ours, vjp = distance(x[:, None], x[None], c)
tensor = torch.from_numpy(x)
theirs = torch_distance(tensor[:, None], tensor[None], torch.tensor(1.0, dtype=torch.float64))
print(f"largest difference of {theirs.numel():,} distances: {np.abs(ours - theirs.numpy()).max():.1e}")
times = {
    "NumPy": seconds(lambda: distance(x[:, None], x[None], c)),
    "PyTorch": seconds(
        lambda: torch_distance(tensor[:, None], tensor[None], torch.tensor(1.0, dtype=torch.float64))
    ),
}
print(
    "all distances of 400 points: "
    + ", ".join(f"{name} {1000 * time:.1f} ms" for name, time in times.items())
)

# %% [markdown]
# ## Further reading
#
# - Kudo, *Subword regularization* (unigram), arXiv:1804.10959; Pagnoni et al., *Byte latent transformer*, arXiv:2412.09871.
# - Hwang, Wang, Gu, *Dynamic chunking* (H-Net), arXiv:2507.07955; Yu et al., *MEGABYTE*, arXiv:2305.07185.
# - Nickel, Kiela, *Poincare embeddings*, arXiv:1705.08039; Ganea, Becigneul, Hofmann, *Hyperbolic neural networks*,
#   arXiv:1805.09112, and *Hyperbolic entailment cones*, arXiv:1804.01882.
# - LCM team, *Large concept models*, arXiv:2412.08821; Lin et al., *Common diffusion noise schedules are flawed*, arXiv:2305.08891.
# - Hao et al., *Training large language models to reason in a continuous latent space* (Coconut), arXiv:2412.06769; Perez et al.,
#   *FiLM*, arXiv:1709.07871.
# - Bonnabel, *Stochastic gradient descent on Riemannian manifolds*, IEEE TAC 58 (2013) 2217.
#
# In this project: `numpy_ref/tokenizers/`, `numpy_ref/patching/`, `numpy_ref/hyperbolic/`, `numpy_ref/concepts/`,
# `numpy_ref/thoughts/`, `numpy_ref/context/`; `make semantic` runs all their experiments. That was the last lesson; what is left
# is to build something.
