"""Comparisons as a model reads them: the ids of every answer's whole conversation."""

from dataclasses import dataclass

import numpy as np

from numpy_ref.errors import UserError

DEFINITION = "text to ids, by the wings' tokenizers: no arithmetic"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Texts (n,) of ids, best first, each a prompt with an answer and its end. ``answers``: where each answer begins."""

    texts: tuple
    answers: tuple
    margin: float = 0.0
    tie: bool = False


@dataclass(frozen=True)
class Comparisons:
    """What a run learns from, and what it is judged by."""

    train: list
    validation: list


def encoded(preferences, chat, encode, context, pairs=True):
    """The Comparisons of Preferences (`preferences.py`), in the ids of a ``ChatFormat`` and a tokenizer's ``encode``.

    ``context``: tokens that the model sees; ``pairs``: refuse rankings of more than two, which only Plackett and Luce's
    loss learns from. Raises UserError, with the place, for what can't be learnt from; nothing is cut off or left out.
    """
    found = []
    for one in preferences:
        place = f"{one.place}: " if one.place else ""
        if pairs and len(one.answers) > 2:
            raise UserError(f"{place}{len(one.answers)} answers are ranked, and this loss compares two; take "
                            "--loss plackett_luce, or pairs")  # fmt: skip
        texts, answers = [], []
        for number, messages in enumerate(one.conversations):
            ids, weights = chat.encode(messages, encode)
            if len(ids) > context:
                name = f"answer {number + 1}" if len(one.answers) > 2 else ("chosen", "rejected")[number]
                raise UserError(f"{place}prompt and {name} make {len(ids)} tokens, more than the model's context of "
                                f"{context}; shorten them, or take a model with a larger context")  # fmt: skip
            texts.append(ids)
            answers.append(int(np.flatnonzero(weights)[0]))
        found.append(Comparison(tuple(texts), tuple(answers), one.margin or 0.0, one.tie))
    return found


def flat(comparisons):
    """(texts, counts, margins, ties) of a batch: all its texts in order, answers of each, and what is known of pairs."""
    texts = [text for one in comparisons for text in one.texts]
    counts = np.array([len(one.texts) for one in comparisons], np.int64)
    margins = np.array([one.margin for one in comparisons])
    return texts, counts, margins, np.array([one.tie for one in comparisons])
