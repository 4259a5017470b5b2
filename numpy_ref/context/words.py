"""Pseudo-words: two words of a text under one id, so that which of them stood where is known without anybody's labels.

The test of word sense disambiguation that needs no annotators (Gale, Church and Yarowsky 1992; Schütze 1992).
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from numpy_ref.data.corpus import documents
from numpy_ref.errors import UserError

DEFINITION = "reading text: words to ids"

WORD = re.compile(r"[^\W\d_]+")
NOTHING, UNKNOWN = 0, 1  # before the beginning of a text; a word that is too rare for an id
FREQUENT = 30  # so many of the commonest words are never merged: they are grammar
HELD_OUT = 5  # every so many documents one is held out
LEAST = 500  # occurrences of pseudo-words that an experiment needs


@dataclass(frozen=True)
class Examples:
    """Occurrences of pseudo-words: ``tokens`` (n, span + 1) end in one, ``pairs`` (n,) say which, ``senses`` (n,) which of its
    two words stood there."""

    tokens: np.ndarray
    pairs: np.ndarray
    senses: np.ndarray

    def __len__(self):
        return len(self.pairs)


def pseudo_words(source, config):
    """(training Examples, held-out Examples, [(word, word) of each pair]) of a text, for a ContextConfig.

    The commonest words are left alone; of the next, words of about equal frequency are merged, so that frequency says
    little. Held out are whole documents, whose words count for nothing here: with equal frequencies in the whole, a word that
    is rarer in what one learns from would be the commoner one elsewhere. Raises UserError for a text with too few words.
    """
    texts = [WORD.findall(document.text.lower()) for document in documents(source)]
    counts = Counter(word for number, text in enumerate(texts) if number % HELD_OUT for word in text)
    ranked = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    merged = ranked[FREQUENT : FREQUENT + 2 * config.pairs]
    if len(merged) < 2 * config.pairs or counts[merged[-1]] < 5 or len(texts) < HELD_OUT:
        raise UserError(
            f"{source} has too few words for pairs={config.pairs}; give a longer text of several documents, or fewer --pairs"
        )
    pairs = list(zip(merged[0::2], merged[1::2]))
    ids = {word: 2 + number // 2 for number, word in enumerate(merged)}
    others = [word for word in ranked if word not in ids][: max(0, config.vocab_size - 2 - config.pairs)]
    ids |= {word: 2 + config.pairs + number for number, word in enumerate(others)}
    sense = {word: number % 2 for number, word in enumerate(merged)}
    sides = [
        _examples([text for number, text in enumerate(texts) if (number % HELD_OUT == 0) == held], ids, sense, config.span)
        for held in (False, True)
    ]
    if len(sides[0]) < LEAST or not len(sides[1]):
        raise UserError(f"{source} has {len(sides[0])} places to learn from, fewer than {LEAST}; give a longer text")
    return *sides, pairs


def _examples(texts, ids, sense, span):
    rows, senses = [], []
    for text in texts:
        row = [NOTHING] * span + [ids.get(word, UNKNOWN) for word in text]
        for place, word in enumerate(text):
            if word in sense:
                rows.append(row[place : place + span + 1])
                senses.append(sense[word])
    tokens = np.array(rows, np.int64).reshape(-1, span + 1)
    return Examples(tokens, tokens[:, -1] - 2, np.array(senses, np.int64))
