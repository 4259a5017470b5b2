"""How well pseudo-words are told apart."""

import numpy as np

from numpy_ref.context.senses import sense_model
from numpy_ref.training.losses import cross_entropy


def mutual_information(pairs, senses, guesses, count):
    """How much a guess says about the word, in nats, on average over occurrences.

        I = sum over pairs of n_p / n  sum_{s,g} p(s,g) ln(p(s,g) / (p(s) p(g))),    p the shares within the pair

    At most ln 2. Accuracy flatters a model where one of the two words is much the commoner; always guessing that one says
    nothing, and I = 0. Shares counted in few places overestimate it, by about 1 / (2 n_p) nats in a pair of n_p places
    (Miller 1955).

    Shapes: pairs, senses, guesses (n,) of whole numbers, pairs below ``count``, the others 0 or 1 -> ().
    """
    table = np.zeros((count, 2, 2))
    np.add.at(table.reshape(-1), 4 * pairs + 2 * senses + guesses, 1.0)
    expected = np.sum(table, axis=2, keepdims=True) * np.sum(table, axis=1, keepdims=True)
    expected = expected / np.maximum(np.sum(table, axis=(1, 2), keepdims=True), 1.0)
    ratio = np.where(table > 0, table, 1.0) / np.where(table > 0, expected, 1.0)
    return np.sum(table * np.log(ratio)) / max(1, len(pairs))


def measure(params, config, tokens, pairs, senses, batch=1000):
    """Measures on examples: {"loss": nats, "accuracy", "information": ``mutual_information`` of the likelier word, in nats;
    "by_pair": share of right guesses of each pair, a list, NaN for pairs that do not occur}."""
    total, guesses = 0.0, []
    for start in range(0, len(pairs), batch):
        part = slice(start, start + batch)
        logits, _ = sense_model(tokens[part], pairs[part], params, config)
        total += float(cross_entropy(logits, senses[part], reduction="sum")[0])
        guesses.append(np.argmax(logits, axis=-1))
    guesses = np.concatenate(guesses)
    right, number = np.zeros(config.pairs), np.bincount(pairs, minlength=config.pairs)
    np.add.at(right, pairs, guesses == senses)
    by_pair = np.where(number > 0, right / np.maximum(number, 1), np.nan)
    information = float(mutual_information(pairs, senses, guesses, config.pairs))
    accuracy = float(np.mean(guesses == senses))
    return {"loss": total / len(pairs), "accuracy": accuracy, "information": information, "by_pair": by_pair.tolist()}
