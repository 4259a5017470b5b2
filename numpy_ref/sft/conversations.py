"""Instructions as tokens: one long row of ids, where each conversation begins, and what each token counts in the loss."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from numpy_ref.data import instructions
from numpy_ref.errors import UserError
from numpy_ref.tasks import builtin, task

DEFINITION = "ids are gathered and counted; the wings' tokenizers make them"

HELD_OUT = 0.1  # share of the prompts of a file that are held out, where no file of its own is given


@dataclass(frozen=True)
class Conversations:
    """Piece c is ids[borders[c] : borders[c + 1]], with ``weights`` of the same places; all of them, in the order read.

    ids (N,) int64, weights (N,) float64, borders (C + 1,). A piece is a conversation, or a part of one that was cut.
    sources: how many pieces each source has, one after the other. difficulty (C,): what the examples say, else their
    lengths. places: where each piece comes from, for error messages.
    """

    ids: np.ndarray
    weights: np.ndarray
    borders: np.ndarray
    sources: tuple
    difficulty: np.ndarray
    places: tuple

    def __len__(self):
        return len(self.places)

    @property
    def lengths(self):
        """Inputs of each piece: its tokens but the last, (C,)."""
        return np.diff(self.borders) - 1


def examples(source, count=None, seed=0, side="train"):
    """The Examples of a source: a JSONL file, or ``count`` of a built-in task, "sort-6", from one ``side`` of its prompts.

    Raises UserError for a source that is neither, and where a task has not that many prompts.
    """
    if instructions.is_file(source):
        return instructions.read(source)
    try:
        kind = builtin.find(str(source))
    except UserError as error:
        raise UserError(f"there is no file {str(source)!r}, and {error}") from None
    found = task.examples(kind, side, count, seed) if count else _usual(kind, side, seed)
    place = "example {} of " + kind.name
    return [instructions.of(one.prompt, one.answer, place.format(number)) for number, one in enumerate(found, 1)]


def _usual(kind, side, seed):
    """A thousand examples to learn from, or two hundred to be judged by; fewer where the task has no more prompts."""
    count = {"train": 1000, "held_out": 200}[side]
    while True:
        try:
            return task.examples(kind, side, count, seed)
        except UserError:
            if count < 4:
                raise
            count //= 2


def split(found):
    """(training, held-out) Examples: a tenth of the prompts is held out, by their hash, so that none is on both sides.

    Raises UserError where one side would be empty.
    """
    sides = [], []
    for one in found:
        text = json.dumps(one.prompt)
        sides[int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) < HELD_OUT * 2**32].append(one)
    if not all(sides):
        number = len({json.dumps(one.prompt) for one in found})
        raise UserError(
            f"{number} different prompts are too few to hold a tenth of them out; give more, or --held-out FILE"
        )
    return sides


def tokenized(groups, chat, encode, context, prompt_weight=0.0, long="refuse"):
    """The Conversations of lists of Examples, one list a source.

    chat: ChatFormat; encode: the tokenizer. A conversation takes its tokens but the last as inputs, so one of context + 1
    tokens just fits. ``long``: "refuse" those beyond, or "split" them into parts of the context: each part begins with
    the token that the one before ended with, so that every token is predicted once, from its own part; parts in which
    nothing is to be learnt are left out.
    Raises UserError, naming the example, for one that is too long or has no token to learn.
    """
    ids, weights, difficulty, places, sizes = [], [], [], [], []
    for group in groups:
        before = len(places)
        for one in group:
            pieces = _pieces(one, chat, encode, context, prompt_weight, long)
            for number, (own_ids, own_weights) in enumerate(pieces, 1):
                ids.append(own_ids)
                weights.append(own_weights)
                difficulty.append(one.difficulty)
                places.append(one.place if len(pieces) == 1 else f"{one.place}, part {number}")
        sizes.append(len(places) - before)
    borders = np.concatenate(([0], np.cumsum([len(own) for own in ids])))
    known = all(value is not None for value in difficulty)
    difficulty = np.array(difficulty, np.float64) if known else np.diff(borders).astype(np.float64)
    return Conversations(np.concatenate(ids), np.concatenate(weights), borders, tuple(sizes), difficulty, tuple(places))


def _pieces(example, chat, encode, context, prompt_weight, long):
    """[(ids, weights)] of one example."""
    try:
        ids, weights = chat.encode(example.messages, encode, prompt_weight)
    except UserError as error:
        raise UserError(f"{example.place}: {error}") from None
    if len(ids) <= context + 1:
        pieces = [(ids, weights)]
    elif long == "refuse":
        raise UserError(
            f"{example.place}: {len(ids)} tokens do not fit the context of {context} and one to predict; shorten it, "
            "cut such conversations by --long split, or take a model with a longer context"
        )
    else:
        pieces = [
            (ids[at : at + context + 1], weights[at : at + context + 1]) for at in range(0, len(ids) - 1, context)
        ]
    pieces = [(own_ids, own_weights) for own_ids, own_weights in pieces if own_weights[1:].any()]
    if not pieces:
        raise UserError(
            f"{example.place}: no token of it counts in the loss, so there is nothing to learn; give an answer"
        )
    return pieces


def fingerprint(conversations):
    """sha256 over ids, weights and borders: the same conversations in the same order have the same one."""
    digest = hashlib.sha256()
    for array in (conversations.ids, conversations.weights, conversations.borders, conversations.difficulty):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
