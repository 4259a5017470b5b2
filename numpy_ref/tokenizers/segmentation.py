"""The ways to write a word with tokens that have probabilities: how likely all are together, the best, one at random.

The unigram tokenizer (arXiv:1804.10959) in its equations; `unigram.py` trains and uses it.
"""

import math

import numpy as np

NUMPY_ONLY = {"best", "drawn"}


def log_likelihood(words, weights, tokens, scores):
    """Log-likelihood of pieces whose segmentation is hidden; its backward pass is the E step.

        L = sum over words x of weight_x ln Z(x),    Z(x) = sum over segmentations of x of prod p(token)

    Forward: with a_0 = 0, a_j = ln sum over tokens x[i:j] of exp(a_i + score) is ln Z of the first j bytes, and so
    ln Z(x) = a_n. b_i is the same for the bytes from i on.

    words: a list of bytes; tokens: {bytes: index}, with a token for each of their bytes.
    Shapes: weights (W,), scores ln p (V,) -> ();  vjp: dy () -> dscores (V,).

    Backward. Z is a sum of products, each linear in every p that it has; those with the token v = x[i:j] there add up to
    exp(a_i + score_v + b_j), so

        dL/dscore_v = sum_x weight_x sum over x[i:j] = v of exp(a_i + score_v + b_j - ln Z(x))

    which is how often v is expected to occur: the posterior probability of each place, times the word's weight.
    """
    extended = np.concatenate([scores, np.full_like(scores, -np.inf, shape=1)])
    groups, total = [], []
    for size in sorted(set(map(len, words))):  # words of equal length go side by side
        rows = [row for row, word in enumerate(words) if len(word) == size]
        ids = _endings([words[row] for row in rows], tokens)
        forward = _sums(ids, extended)
        groups.append((weights[rows, None], ids, forward))
        total.append(np.sum(forward[:, -1:] * weights[rows, None]))

    def vjp(dy):
        dscores = np.zeros_like(extended)
        for weight, ids, forward in groups:
            back = _sums(_mirrored(ids), extended)[:, ::-1]
            for length in range(1, ids.shape[2] + 1):
                token = ids[:, length:, length - 1]
                exponent = forward[:, : token.shape[1]] + extended[token] + back[:, length:] - forward[:, -1:]
                np.add.at(dscores, token, np.exp(exponent) * weight * dy)
        return dscores[:-1]

    return sum(total, np.zeros_like(scores, shape=())), vjp


def _endings(words, tokens):
    """ids[w, j, l - 1]: the token of l bytes that ends at byte j of word w, len(tokens) for none; words of one length."""
    size, longest = len(words[0]), max(map(len, tokens), default=1)
    ids = np.full((len(words), size + 1, min(size, longest)), len(tokens))
    for row, word in enumerate(words):
        for end in range(1, size + 1):
            for length in range(1, min(end, longest) + 1):
                ids[row, end, length - 1] = tokens.get(word[end - length : end], len(tokens))
    return ids


def _mirrored(ids):
    """The same for words read backwards: a token that ended at j begins there, at n - j from the other end."""
    mirrored = ids.copy()
    for length in range(1, ids.shape[2] + 1):
        mirrored[:, length:, length - 1] = ids[:, length:, length - 1][:, ::-1]
    return mirrored


def _sums(ids, scores):
    """a_0 = 0, a_j = ln sum over the tokens that end at j of exp(a_start + score): (W, n + 1)."""
    sums = [np.zeros_like(scores, shape=(len(ids), 1))]
    for end in range(1, ids.shape[1]):
        lengths = range(1, min(end, ids.shape[2]) + 1)
        terms = np.concatenate([sums[end - length] for length in lengths], axis=1) + scores[ids[:, end, : len(lengths)]]
        peak = np.max(terms.real, axis=1, keepdims=True)
        sums.append(peak + np.log(np.sum(np.exp(terms - peak), axis=1, keepdims=True)))
    return np.concatenate(sums, axis=1)


def maximise(counts):
    """The M step: log probabilities from expected counts, for a Dirichlet prior that prefers few tokens.

        score_v = psi(c_v) - psi(sum c),    psi the digamma function

    exp(psi(c)) is about c - 1/2: against the plain share c_v / sum c, rare tokens lose. It is the mean-field M step with
    a prior whose weight goes to 0, as in SentencePiece.

    Shapes: counts (V,), above 0 -> (V,).
    """
    return _digamma(counts) - _digamma(np.sum(counts, keepdims=True))


def _digamma(x):
    """psi(x) = psi(x + 1) - 1 / x up to x >= 10; from there ln x - 1 / (2 x) - sum of B_2k / (2k x^2k)."""
    shift = np.zeros_like(x)
    for _ in range(10):
        shift = shift - np.where(x < 10, 1.0 / x, 0.0)
        x = np.where(x < 10, x + 1.0, x)
    y = 1.0 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132 - y * (691 / 32760))))))
    return shift + np.log(x) - 0.5 / x - series


def best(word, tokens, scores, tie=0.0, whole=True):
    """The likeliest segmentation of a word (Viterbi): (its log probability, its tokens).

    Of the last tokens that are equally good, up to ``tie``, the longest. whole: the word may be a single token.
    """
    longest = max(map(len, tokens))
    best, last = [0.0], [None]
    for end in range(1, len(word) + 1):
        score, found = -math.inf, None
        for start in range(max(0, end - longest), end):
            token = tokens.get(word[start:end])
            if token is None or not whole and end - start == len(word):
                continue
            if found is None or best[start] + scores[token] > score + tie:
                score, found = best[start] + scores[token], (start, token)
        best.append(score)
        last.append(found)
    ids, place = [], len(word)
    while place:
        place, token = last[place]
        ids.append(token)
    return best[-1], ids[::-1]


def drawn(word, tokens, scores, draws):
    """A segmentation of a word at random, as likely as the product of its tokens' probabilities says.

    From the end to the beginning: a token ends at byte j with the probability exp(a_start + score - a_j), a as in
    ``log_likelihood``. draws[j - 1], a number in [0, 1), chooses among them, longer tokens first.
    """
    ids, scores = _endings([word], tokens), np.append(scores, -np.inf)
    sums, found, place = _sums(ids, scores)[0], [], len(word)
    while place:
        ending = ids[0, place, : min(place, ids.shape[2])][::-1]
        starts = np.arange(place - len(ending), place)
        shares = np.cumsum(np.exp(sums[starts] + scores[ending] - sums[place]))
        chosen = min(np.sum(shares <= draws[place - 1]), len(ending) - 1)
        found.append(int(ending[chosen]))
        place = starts[chosen]
    return found[::-1]
