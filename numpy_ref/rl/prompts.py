"""Where prompts come from: built-in tasks, from easy to hard, or a file of conversations."""

import math
from dataclasses import dataclass

from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.errors import UserError
from numpy_ref.tasks.task import PATIENCE, Draws, Example, Task, example, score

DEFINITION = "text and ids: no arithmetic on arrays"


@dataclass(frozen=True)
class Prompt:
    """Ids to go on from. ``example`` and ``task`` know what is right, where something does."""

    ids: tuple
    example: Example | None = None
    task: Task | None = None


@dataclass(frozen=True)
class Speech:
    """How a model reads a prompt and ends an answer: in the chat format, or as a line of plain text.

    encode: text -> ids; decode: ids -> text, the tokenizer's own.
    """

    encode: object
    decode: object
    chat: ChatFormat | None = None

    @property
    def stop(self):
        """The ids that end an answer."""
        return (self.chat.end,) if self.chat else (int(self.encode("\n")[-1]),)

    def prompt(self, text, system=None):
        """The ids of a prompt, as a tuple. ``text`` may be the messages of a conversation, for a model with a chat format."""
        if not self.chat and isinstance(text, str):
            return tuple(map(int, self.encode(text)))
        if not self.chat:
            raise UserError("these prompts are conversations, and the model knows no chat format; fine-tune it by `sft` first")
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else list(text)
        messages = [{"role": "system", "content": system}] * (system is not None) + messages
        return tuple(map(int, self.chat.prompt(messages, self.encode)))

    def answer(self, ids):
        """The text of a completion without its end."""
        return self.chat.said(ids, self.decode) if self.chat else self.decode(ids)


class TaskPrompts:
    """Prompts of built-in tasks, easiest first. With a ``level`` the difficulty is chosen; else all tasks come alike.

    A level lies between the numbers of two tasks, 0 for the first: 1.25 draws task 1 three times out of four, else 2.
    """

    def __init__(self, tasks, speech, seed=0, split="train"):
        self.tasks, self.speech, self.seed, self.split = tuple(tasks), speech, seed, split
        if not self.tasks:
            raise UserError("there are no tasks to take prompts from; give at least one, as sort-6")

    def take(self, position, count, level=None):
        """``count`` Prompts from number ``position`` on: a function of its arguments."""
        return [self._prompt(number, level) for number in range(position, position + count)]

    def held_out(self, count):
        """The first ``count`` held-out Prompts, shared out evenly over the tasks; of an easy task, as many as it has."""
        found = []
        for place, task in enumerate(self.tasks):
            share = count // len(self.tasks) + (place < count % len(self.tasks))
            found += [self._as_prompt(one, task) for one in _different(task, share)]
        return found

    def _prompt(self, number, level):
        task = self.tasks[0]
        if len(self.tasks) > 1:
            draws = Draws("level", self.seed, number)
            if level is None:
                task = self.tasks[draws.below(len(self.tasks))]
            else:
                low = min(math.floor(level), len(self.tasks) - 1)
                harder = draws.below(1 << 32) < (level - low) * 2**32
                task = self.tasks[min(low + harder, len(self.tasks) - 1)]
        return self._as_prompt(example(task, self.split, self.seed, number), task)

    def _as_prompt(self, one, task):
        return Prompt(self.speech.prompt(one.prompt), one, task)


class FilePrompts:
    """Prompts of conversations (``data.instructions.Example``, or anything with a ``prompt`` text), in a shuffled order
    that is another one each time round; their answers, where they have some, are what is right."""

    tasks = ()

    def __init__(self, items, speech, seed=0, held=0.1):
        self.speech, self.seed = speech, seed
        cut = max(1, round(held * len(items)))
        if len(items) <= cut:
            raise UserError(f"{len(items)} prompts are too few to hold some out; give at least 2")
        self.items, self.kept = list(items[cut:]), list(items[:cut])

    def take(self, position, count, level=None):
        """``count`` Prompts from number ``position`` on."""
        return [self._prompt(number) for number in range(position, position + count)]

    def held_out(self, count):
        """The first held-out Prompts, at most ``count``."""
        return [self._as_prompt(one) for one in self.kept[:count]]

    def check(self, context, tokens):
        """Raises UserError, with its place, for the first prompt that leaves no room for ``tokens`` in a context."""
        for one in (*self.kept, *self.items):
            length = len(self._as_prompt(one).ids)
            if length + tokens > context:
                raise UserError(
                    f"{getattr(one, 'place', 'a prompt')}: the prompt has {length} tokens, which with {tokens} new ones do not fit "
                    f"the context of {context}; shorten it, or ask for fewer by --tokens"
                )

    def _prompt(self, number):
        epoch, place = divmod(number, len(self.items))
        order = sorted(range(len(self.items)), key=lambda item: Draws("order", self.seed, epoch, item).below(1 << 62))
        return self._as_prompt(self.items[order[place]])

    def _as_prompt(self, one):
        answer = getattr(one, "answer", None)
        known = None if answer is None else Example(str(one.prompt), answer, str(one.prompt))
        return Prompt(self.speech.prompt(one.prompt, getattr(one, "system", None)), known)


def _different(task, count):
    """At most ``count`` held-out Examples with different prompts; after many draws without a new one there are no more."""
    found, number, last = {}, 0, 0
    while len(found) < count and number - last < PATIENCE:
        one = example(task, "held_out", 0, number)
        if one.prompt not in found:
            found[one.prompt], last = one, number
        number += 1
    return list(found.values())


def adapted_level(level, pass_rate, speed, tasks):
    """The level after a rollout, so that about half of the completions come to be right (arXiv:2504.05520, eq. 2, made
    linear): level + speed (pass_rate - 1/2), between the easiest and the hardest of ``tasks``."""
    return min(max(level + speed * (pass_rate - 0.5), 0.0), max(0.0, tasks - 1.0))


def right(prompt, text, ended):
    """What the prompt's own task says of an answer, 0 to 1; without one, whether it is the known answer."""
    if prompt.task:
        return score(prompt.task, prompt.example, text, ended)
    if prompt.example is None:
        raise UserError("these prompts have no answers to check by; give a reward model, or prompts with answers")
    return float(ended and text == prompt.example.answer)
