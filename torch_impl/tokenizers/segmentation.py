"""The segmentations of many words at once (arXiv:1804.10959): sums over all of them, and the best ones.

A ``Lattice`` holds every place of every token in every word as a table, so that one step of the forward pass, the
backward pass or Viterbi is one operation on all words that are long enough.
"""

import math

import numpy as np
import torch

TORCH_ONLY = {"Lattice"}

_ROWS = 1 << 16  # places whose tokens are looked at together


def log_likelihood(words, weights, tokens, scores):
    """Sum of weight * ln Z over words, where Z sums the probabilities of all segmentations of a word.

    Its gradient by the scores is how often each token is expected to occur, which is the E step: made in one backward
    pass over the same lattice, not by autograd.
    words: bytes; tokens: {bytes: index}. Shapes: weights (W,), scores (V,) ln p -> ().
    """
    return _LogLikelihood.apply(scores, Lattice(words, tokens), weights.to(scores.dtype))


class _LogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, lattice, weights):
        forward = lattice.totals(scores)
        ctx.lattice = lattice
        ctx.save_for_backward(scores, weights, forward)
        return (forward[lattice.ends] * weights[lattice.order]).sum()

    @staticmethod
    def backward(ctx, dy):
        scores, weights, forward = ctx.saved_tensors
        return ctx.lattice.expected_counts(scores, weights, forward) * dy, None, None


def maximise(counts):
    """Log probabilities digamma(counts) - digamma(sum of counts): SentencePiece's M step. Shapes: (V,) -> (V,)."""
    return torch.digamma(counts) - torch.digamma(counts.sum())


class Lattice:
    """``into[slot, l - 1]``: the token of l bytes that ends at a slot, V where there is none.

    A word of n bytes has n + 1 slots, one after the other; the longest words come first, so that the words which reach
    byte j are the first ``reach[j]``. ``order``: the place of each of them among the words given.
    """

    def __init__(self, words, tokens):
        self.count = len(tokens)
        sizes = np.array([len(word) for word in words], np.int64)
        order = np.argsort(-sizes, kind="stable")
        sizes = sizes[order]
        starts = np.concatenate([[0], np.cumsum(sizes + 1)[:-1]]) if len(sizes) else sizes
        self.order, self.starts, self.ends = (torch.from_numpy(x) for x in (order, starts, starts + sizes))
        longest = int(sizes[0]) if len(sizes) else 0
        self.reach = np.searchsorted(-sizes, -np.arange(longest + 1), side="right")
        self.into = torch.from_numpy(_matches([words[i] for i in order], tokens))
        self.word = torch.repeat_interleave(torch.arange(len(sizes)), torch.from_numpy(sizes) + 1)

    def renamed(self, stays):
        """Keep the tokens (V,) that stay, under new indices."""
        names = torch.full((self.count + 1,), int(stays.sum()), dtype=self.into.dtype)
        names[:-1][stays] = torch.arange(int(stays.sum()), dtype=self.into.dtype)
        self.into, self.count = names[self.into.long()], int(stays.sum())

    def totals(self, scores, backwards=False):
        """ln of the summed probability of all segmentations from a word's beginning to each slot, or to its end."""
        scores = torch.cat((scores, scores.new_full((1,), -math.inf)))
        total = scores.new_zeros(len(self.into))
        for step in range(1, len(self.reach)):
            rows = (self.ends if backwards else self.starts)[: self.reach[step]] + (-step if backwards else step)
            total[rows] = torch.logsumexp(self._terms(rows, total, scores, backwards), 1)
        return total

    def _terms(self, rows, total, scores, backwards=False):
        """What each token contributes that ends (or begins) at these slots: (rows, lengths)."""
        lengths = torch.arange(1, self.into.shape[1] + 1)
        other = rows[:, None] + (lengths if backwards else -lengths)
        if not backwards:
            return total[other.clamp(min=0)] + scores[self.into[rows].long()]
        # A token of l bytes never ends before byte l: what lies behind a word's end is no token of it.
        return total[other] + scores[self.into[other, lengths - 1].long()]

    def expected_counts(self, scores, weights, forward):
        """How often each token is expected to occur: (V,)."""
        back = self.totals(scores, backwards=True)
        extended = torch.cat((scores, scores.new_full((1,), -math.inf)))
        rest = back[: len(self.word)] - forward[self.ends][self.word]
        weight, counts = weights[self.order][self.word], scores.new_zeros(self.count + 1)
        for rows in torch.arange(len(self.word)).split(_ROWS):
            shares = torch.exp(self._terms(rows, forward, extended) + rest[rows][:, None]) * weight[rows][:, None]
            counts.index_add_(0, self.into[rows].flatten().long(), shares.flatten())
        return counts[:-1]

    def best(self, scores, tie):
        """Viterbi for all words: the length of the last token at each slot; of equals, up to ``tie``, the longest."""
        scores = torch.cat((scores, scores.new_full((1,), -math.inf)))
        total, last = scores.new_zeros(len(self.into)), torch.zeros(len(self.into), dtype=torch.long)
        lengths = torch.arange(1, self.into.shape[1] + 1)
        for step in range(1, len(self.reach)):
            rows = self.starts[: self.reach[step]] + step
            terms = self._terms(rows, total, scores)
            best = terms.max(1, keepdim=True).values
            longest = torch.where(terms >= best - tie, lengths, 0).max(1).values
            last[rows] = longest
            total[rows] = terms.gather(1, longest[:, None] - 1)[:, 0]
        return last

    def walk(self, last):
        """The segmentations of ``best``, all words at once from their ends: yields (words (n,), tokens (n,))."""
        at, word = self.ends.clone(), torch.arange(len(self.ends))
        while True:
            inside = at > self.starts[word]
            at, word = at[inside], word[inside]
            if not len(at):
                return
            yield word, self.into[at, last[at] - 1].long()
            at = at - last[at]


def _matches(words, tokens):
    """The table of a lattice: the words go down the trie of the tokens from every byte, one level at a time."""
    longest = max(map(len, tokens), default=1)
    text = np.frombuffer(b"\0".join([*words, b""]), np.uint8)  # a slot a byte, and one at the end of each word
    into = np.full((len(text) + longest, longest), len(tokens), np.int32)  # behind the last word nothing ends
    if not words:
        return into
    left = np.concatenate([np.arange(len(word), -1, -1) for word in words])  # bytes from here to the word's end
    at, state = np.flatnonzero(left > 0), np.zeros(np.count_nonzero(left), np.int64)
    for length, (keys, ends) in enumerate(_trie(tokens, longest), 1):
        inside = left[at] >= length
        at, state = at[inside], state[inside]
        wanted = state * 256 + text[at + length - 1]
        state = np.searchsorted(keys, wanted)
        found = keys[np.minimum(state, len(keys) - 1)] == wanted
        at, state = at[found], state[found]
        into[at + length, length - 1] = ends[state]
    return into


def _trie(tokens, longest):
    """Level by level: (sorted keys 256 * parent + byte of its nodes, the token that ends in each, or their number)."""
    names, indices = list(tokens), np.fromiter(tokens.values(), np.int64, len(tokens))
    sizes = np.array([len(name) for name in names])
    text = np.frombuffer(b"".join(name.ljust(longest, b"\0") for name in names), np.uint8).reshape(-1, longest)
    node = np.zeros(len(names), np.int64)
    for length in range(1, longest + 1):
        reach = np.flatnonzero(sizes >= length)
        keys, node[reach] = np.unique(node[reach] * 256 + text[reach, length - 1], return_inverse=True)
        ends = np.full(len(keys), len(tokens), np.int32)
        whole = reach[sizes[reach] == length]
        ends[node[whole]] = indices[whole]
        yield keys, ends
