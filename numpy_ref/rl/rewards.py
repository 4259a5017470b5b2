"""What a completion is worth: the sum of some functions of it, any of which may fail."""

import importlib
import math
import warnings
from dataclasses import dataclass, field

import numpy as np

from numpy_ref.errors import RunWarning, UserError, shown
from numpy_ref.rl.prompts import Prompt, right
from numpy_ref.tasks.task import closeness

DEFINITION = "functions of text, and their sum: the wings compute what a model is asked for"


@dataclass(frozen=True)
class Completion:
    """A prompt, and what was written after it. ``ids`` (n,) ends with the stop token if ``ended``."""

    prompt: Prompt
    ids: tuple
    text: str
    ended: bool


@dataclass(frozen=True)
class Each:
    """A reward for one completion at a time: ``function(completion)`` -> number."""

    name: str
    function: object
    weight: float = 1.0

    def scores(self, completions, errors):
        """A number for each; NaN where the function raised, whose error is added to ``errors``."""
        return [self._score(completion, errors) for completion in completions]

    def _score(self, completion, errors):
        try:
            return float(self.function(completion))
        except Exception as error:  # whatever it is: a reward function is not ours
            errors.append(f"{type(error).__name__}: {error}")
            return math.nan


@dataclass(frozen=True)
class Model:
    """A reward model: ``function`` takes the ids of whole texts, prompt and completion, and returns a reward for each."""

    name: str
    function: object
    weight: float = 1.0

    def scores(self, completions, errors):
        """A number for each; all NaN where the function raised."""
        try:
            return self.function([np.array([*one.prompt.ids, *one.ids], np.int64) for one in completions])
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
            return [math.nan] * len(completions)


def pass_rate(completions):
    """What the prompts' own tasks give the completions on average, whatever they are rewarded for."""
    return sum(float(right(one.prompt, one.text, one.ended)) for one in completions) / len(completions)


def checker(weight=1.0):
    """1 for what the prompt's task calls right."""
    return Each("right", lambda one: right(one.prompt, one.text, one.ended), weight)


def partial_credit(weight=1.0):
    """How near the text comes to the answer, 0 to 1 (see ``tasks.task.closeness``)."""
    return Each("closeness", lambda one: closeness(one.prompt.example, one.text, one.ended), weight)


def named(text, weight=1.0):
    """The reward of "right", "closeness", or of a function "module:name" that takes (prompt's Example, text, ended).

    Raises UserError where there is none.
    """
    if text in BUILT_IN:
        return BUILT_IN[text](weight)
    module, colon, name = text.partition(":")
    if not colon:
        raise UserError(f"there is no reward {text!r}; choose {', '.join(BUILT_IN)}, the run folder of a reward model, or a function module:name")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"the reward function {text} can't be imported: {error}") from None
    return Each(name, lambda one: function(one.prompt.example, one.text, one.ended), weight)


BUILT_IN = {"right": checker, "closeness": partial_credit}


@dataclass
class Judge:
    """Several rewards as one: their weighted sum. A completion of which one of them is not finite has none.

    on_error: "skip" goes on without such completions, "stop" raises UserError. Either way failures are counted under
    the name of the function, and the first of each is told as a RunWarning.
    """

    rewards: tuple
    on_error: str = "skip"
    told: set = field(default_factory=set)

    def __call__(self, completions):
        """-> (totals, valid, parts, failures): lists over completions, {name: scores}, {name: how many failed}."""
        parts, failures = {}, {}
        for reward in self.rewards:
            errors = []
            scores = [float(score) for score in reward.scores(completions, errors)]
            bad = [place for place, score in enumerate(scores) if not math.isfinite(score)]
            parts[reward.name] = scores
            if bad:
                failures[reward.name] = len(bad)
                self._tell(reward.name, errors, scores[bad[0]], completions[bad[0]], len(bad))
        totals = [
            sum(reward.weight * parts[reward.name][place] for reward in self.rewards) for place in range(len(completions))
        ]
        valid = [math.isfinite(total) for total in totals]
        return [total if fine else 0.0 for total, fine in zip(totals, valid)], valid, parts, failures

    def _tell(self, name, errors, score, completion, count):
        said = f"raised {errors[0]}" if errors else f"returned {score}"
        words = f"the reward {name!r} {said} on {shown(completion.text)} ({count} of this rollout)"
        if self.on_error == "stop":
            raise UserError(f"{words}; mend it, or leave such completions out with --reward-errors skip")
        if name not in self.told:
            self.told.add(name)
            warnings.warn(f"{words}; such completions are not learnt from", RunWarning, stacklevel=2)
