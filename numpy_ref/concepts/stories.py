"""Stories whose grammar is known, so that what a model says can be judged exactly.

64 sentences: 8 people, each doing one of 8 things. What may follow a sentence depends on it and on whether the one
before had an even number: 4 sentences out of 64, all equally likely. So log 64 - log 4 = 2.77 nats are there to be known
about the next sentence; and the mean of the four, which regression goes for, is none of them.
"""

import math
from dataclasses import dataclass

import numpy as np

from numpy_ref.concepts.sentences import to_text
from numpy_ref.rng import STREAM_STORIES, permuted, uniform

DEFINITION = "a data set: sentences and the order they may come in"

PEOPLE = ("The fox", "A sailor", "My aunt", "The king", "A baker", "The owl", "Our cook", "A thief")
DEEDS = (
    "sings at dawn.", "hides a coin.", "bakes plum pie.", "reads a map.", "feeds the hens.", "climbs a wall.",
    "sweeps the yard.", "waits for rain.",
)  # fmt: skip
SENTENCES = tuple(f"{person} {deed}" for person in PEOPLE for deed in DEEDS)
CHOICES = 4  # sentences that may follow
HELD_OUT = 1 << 40  # number of the first held-out story: no training comes so far
DOUBT = 0.05  # the judge gives this much to all sentences alike, so that what can't follow is unlikely, not impossible


def successors(seed):
    """What may follow: ids (64, 2, 4), by the sentence and whether the number of the one before was even (0) or odd (1).

    Four different rotations of a random order of all sentences, for either case another one: so every sentence follows
    as many others as any.
    """
    count, found = len(SENTENCES), np.zeros((len(SENTENCES), 2, CHOICES), np.int64)
    for parity in range(2):
        order = permuted(np.arange(count), count, seed, STREAM_STORIES + parity)
        turns = permuted(np.arange(CHOICES), count, seed, STREAM_STORIES + 2 + parity)
        found[:, parity] = order[(np.arange(count)[:, None] + turns) % count]
    return found


def draw_stories(seed, first, count, length):
    """Stories ``first``, first + 1, ... of a world: ids (count, length). The first two sentences are any."""
    follow = successors(seed)
    u = uniform(seed, STREAM_STORIES + 4, (count, length), offset=first * length)
    ids = np.zeros((count, length), np.int64)
    ids[:, :2] = u[:, :2] * len(SENTENCES)
    rows = np.arange(count)
    for t in range(2, length):
        chosen = (u[:, t] * CHOICES).astype(np.int64)
        ids[:, t] = follow[ids[:, t - 1], ids[:, t - 2] % 2][rows, chosen]
    return ids


@dataclass(frozen=True)
class Grammar:
    """The stories of this file, as what the experiment learns from; `texts.py` has the same for a text of one's own."""

    seed: int
    length: int
    sentences = SENTENCES
    learnt = len(SENTENCES)

    def stories(self, first, count):
        """Stories to learn from: ids (count, length)."""
        return draw_stories(self.seed, first, count, self.length)

    def held_out(self, count):
        """Stories that nothing learns from: ids (count, length)."""
        return draw_stories(self.seed, HELD_OUT, count, self.length)

    def judged(self, said, stories):
        """Means of ``judged``."""
        found = judged(said, stories, self.seed)
        return {name: float(values.mean()) for name, values in found.items()}

def numbers_of(tokens, sentences=SENTENCES):
    """Ids of the sentences that rows of tokens spell, -1 for what is none of them."""
    number = {sentence: place for place, sentence in enumerate(sentences)}
    return np.array([number.get(text, -1) for text in to_text(tokens)], np.int64)


def judged(said, stories, seed):
    """What was said after each story, against the grammar.

        valid         it is one of the four sentences that may follow
        information   log p(said | story) - log p(said), p mixed with DOUBT of any sentence; nats

    Shapes: said (n,) from ``numbers_of``, stories (n, T) -> {"valid": (n,) bool, "information": (n,)}.
    """
    follow = successors(seed)[stories[:, -1], stories[:, -2] % 2]
    valid = (follow == said[:, None]).any(1)
    return {"valid": valid, "information": np.where(valid, math.log(len(SENTENCES) * (1 - DOUBT) / CHOICES + DOUBT), math.log(DOUBT))}
