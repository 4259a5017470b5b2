"""Lesson 4: byte pair encoding: learn the merges (arXiv:1508.07909, on bytes).

A word begins as its bytes. Until the vocabulary is full: count every pair of neighbours inside the words (in "aaa" the pair
aa occurs twice), join the most frequent pair everywhere, write it down. Of pairs with the same count the one with the
smallest ids comes first. It ends early when no pair occurs ``min_frequency`` times.

The cutting into words and the table at the end are given.
"""

from collections import Counter

from numpy_ref.tokenizers.bpe import merged
from numpy_ref.tokenizers.pretokenize import pattern as split_pattern
from numpy_ref.tokenizers.vocabulary import PLACES, trained


def train(texts, vocab_size, min_frequency=2):
    pieces = Counter()
    for text in texts:
        pieces.update(split_pattern("gpt4").findall(text))
    # {word as a tuple of ids: how often it occurs}; the ids of single bytes are 0 ... 255
    words = {tuple(PLACES[byte] for byte in piece.encode()): count for piece, count in pieces.items()}

    merges = []  # pairs (left id, right id), in order; merge number n makes the id 256 + n
    raise NotImplementedError  # merged(word, pair, new) is the exercise before this one

    return trained(merges, "gpt4", ())
