"""A task: prompts drawn from a seed, their answers, and a judge of any completion.

    sort = find("sort-6")                                the name, and after the dash the difficulty
    example(sort, "train", seed=0, number=7)             prompt "sort 394012=", answer "012349"; the same at any time
    examples(sort, "held_out", 1000, seed=0)             that many different prompts
    score(sort, example, completion, ended)              1.0 for a right answer that also ended, else less

Prompts and answers are text, to be read as bytes; how an answer ends (a control token, a line end) is up to the caller,
who says whether it did. Which prompts are held out is a matter of the prompt alone, so that no seed, no difficulty and
no number of examples can bring a held-out one into training.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from numpy_ref.errors import UserError

DEFINITION = "prompts, answers and their judges: text"

SPLITS = ("train", "held_out")
HELD_OUT = 0.1  # share of the prompts
PATIENCE = 1000  # draws in a row without a new prompt before ``examples`` gives up


@dataclass(frozen=True)
class Example:
    """A prompt and its right answer; ``key`` is what two prompts share that ask the same (12+34 and 34+12)."""

    prompt: str
    answer: str
    key: str


@dataclass(frozen=True)
class Task:
    """A task at one difficulty. ``draw(draws, difficulty)`` makes an Example; ``judge(example, completion, difficulty)``
    gives a completion 0 to 1. ``alphabet`` has the characters of which answers, right and wrong, are made."""

    kind: str
    difficulty: int  # what it counts, ``unit`` says
    unit: str
    alphabet: str
    draw: Callable
    judge: Callable
    needs_end: bool = True  # an answer that runs on is wrong; only rewards by share do without

    @property
    def name(self):
        """Kind and difficulty, as ``find`` takes them: "sort-6"."""
        return f"{self.kind}-{self.difficulty}"


class Draws:
    """Random choices that are a function of their name: the words of sha512(name, 0), sha512(name, 1), ...

    No generator of a library: a data set must stay the same in ten years.
    """

    def __init__(self, *name):
        self._name, self._block, self._words = repr(name), 0, []

    def below(self, size):
        """A whole number in range(size)."""
        if not self._words:
            digest = hashlib.sha512(f"{self._name} {self._block}".encode()).digest()
            self._block += 1
            self._words = [int.from_bytes(digest[i : i + 8], "little") for i in range(0, 64, 8)]
        return self._words.pop() * size >> 64  # each number comes up 2^64 / size times, give or take one

    def choice(self, options):
        """One of the options."""
        return options[self.below(len(options))]

    def text(self, alphabet, length):
        """A string of so many characters."""
        return "".join(self.choice(alphabet) for _ in range(length))


def is_held_out(key):
    """Whether the prompts with this key are held out: a tenth of all keys, by their hash."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < HELD_OUT * 2**64


def example(task, split, seed, number):
    """Example ``number`` of a split: a function of its arguments, so that a run needs to remember only how far it is.

    Two numbers may give the same prompt where few exist. Raises UserError for a split that does not exist, and where
    no prompt of the difficulty falls on its side.
    """
    if split not in SPLITS:
        raise UserError(f"split={split!r} is unknown; choose train or held_out")
    draws = Draws(task.name, split, seed, number)
    for _ in range(PATIENCE):
        found = task.draw(draws, task.difficulty)
        if is_held_out(f"{task.kind} {found.key}") == (split == "held_out"):
            return found
    raise UserError(f"{task.name} has no prompt in {split} after {PATIENCE} draws; take a larger difficulty")


def examples(task, split, count, seed=0, start=0):
    """The first ``count`` examples with different prompts, from ``number`` start on, in the order of their numbers.

    Raises UserError where the task has not that many prompts.
    """
    found, number, last = {}, start, start
    while len(found) < count:
        one = example(task, split, seed, number)
        number += 1
        if one.prompt not in found:
            found[one.prompt], last = one, number
        elif number - last > PATIENCE:
            raise UserError(
                f"{task.name} has only about {len(found)} different prompts in {split}, not {count}; "
                "take fewer examples or a larger difficulty"
            )
    return list(found.values())


def score(task, example, completion, ended):
    """The reward of a completion, 0 to 1: what the judge gives it, and 0 if it should have ended and did not.

    ended: whether the text stopped by itself; a completion that was cut off has not, however right it looks.
    """
    if task.needs_end and not ended:
        return 0.0
    return float(task.judge(example, completion, task.difficulty))


def closeness(example, completion, ended):
    """How near a completion comes to the answer, 0 to 1: partial credit, and a graded truth to test reward models by.

        1 - edits / longer,    edits: Levenshtein distance of answer + end and completion + end

    The end counts as a symbol like any other, so exactly the right answer that ended has 1.
    """
    right, given = [*example.answer, None], [*completion, *[None] * bool(ended)]
    return 1.0 - edits(right, given) / max(len(right), len(given))


def normalised(text):
    """Lower case, no punctuation, no articles, single spaces (Rajpurkar et al. 2016, the SQuAD evaluation)."""
    words = re.sub(r"[^\w\s]", "", text.lower()).split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def exact(example, completion, difficulty):
    """1 for the answer itself, character by character."""
    return completion == example.answer


def same_words(example, completion, difficulty):
    """1 for the words of the answer, whatever their case, punctuation and articles."""
    return normalised(completion) == normalised(example.answer)


def edits(one, other):
    """Fewest insertions, deletions and substitutions that turn one sequence into the other (Wagner and Fischer 1974)."""
    before = list(range(len(other) + 1))
    for i, symbol in enumerate(one, 1):
        row = [i]
        for j, against in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (symbol != against)))
        before = row
    return before[-1]
