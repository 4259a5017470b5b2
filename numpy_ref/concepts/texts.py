"""Stories from a text of one's own: sentences that stand one after the other in it."""

from dataclasses import dataclass

import numpy as np

from numpy_ref.concepts.sentences import sentences_of
from numpy_ref.data.corpus import documents
from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_STORIES, uniform

DEFINITION = "reading text: sentences to ids"

LEAST = 30  # stories to learn from that a text must have
HELD_OUT = 10  # one story in so many is held out: the last ones of the text


@dataclass(frozen=True, eq=False)
class Text:
    """``sentences``: all different ones, of which the first ``learnt`` are for training; ``stories_`` and ``held``: ids
    (n, length) to learn from and held out; ``long``: how many sentences were left out since they do not fit."""

    sentences: tuple
    learnt: int
    stories_: np.ndarray
    held: np.ndarray
    long: int
    seed: int = 0

    def stories(self, first, count):
        """Stories to learn from, any of them as often as chance has it: ids (count, length)."""
        u = uniform(self.seed, STREAM_STORIES + 14, (count,), offset=first)
        return self.stories_[(u * len(self.stories_)).astype(np.int64)]

    def held_out(self, count):
        """At most ``count`` held-out stories, evenly spaced: ids (n, length)."""
        return self.held[np.linspace(0, len(self.held) - 1, min(count, len(self.held))).astype(np.int64)]

    def judged(self, said, stories):
        """Nothing: what may follow in a text nobody knows."""
        return {}


def read_text(source, most, length):
    """The Text of a source (see `data/corpus.py`): ``length`` sentences in a row, each of at most ``most`` bytes of UTF-8.

    A longer sentence ends a row, as the end of a document does. The last tenth of the rows is held out; rows that would
    share a sentence's place with it are left out. Raises UserError for a text with too few rows.
    """
    rows, long = [], 0
    for document in documents(source):
        run = []
        for sentence in sentences_of(document.text):
            fits = len(sentence.encode()) <= most
            run, long = [*run[1 - length :], sentence] if fits else [], long + (not fits)
            if len(run) == length:
                rows.append(run)
    border = len(rows) - len(rows) // HELD_OUT
    if border - length < LEAST:
        raise UserError(
            f"{source} has {len(rows)} rows of {length} sentences of at most {most} bytes ({long} are longer), and it takes {LEAST + length + 5}; "
            "give a longer text, a larger --length or fewer --sentences"
        )
    learnt, held = rows[: border - length + 1], rows[border:]
    known = {sentence: None for row in learnt for sentence in row}  # different ones, in their order
    sentences = tuple(known | {sentence: None for row in held for sentence in row})
    number = {sentence: place for place, sentence in enumerate(sentences)}
    ids = (np.array([[number[sentence] for sentence in row] for row in part], np.int64) for part in (learnt, held))
    return Text(sentences, len(known), *ids, long)
