"""What an exercise is: a file with a gap, the declaration that grades it, hints, and the mistakes that people make."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from parity_tests.harness.declaration import Bug, Component
from parity_tests.harness.mutants import mutant

GAPS = Path(__file__).parent / "exercises"


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise. Its task is the text of ``exercises/<name>.py``, its solution the reference of the component.

    ``value_only``: the learner writes the forward pass alone, although the reference has a backward pass too.
    ``mistakes``: what to tell whoever made one. A key is the name of a planted bug of the component or a Bug of its own;
    an answer that computes what the reference with that bug computes has made this mistake.
    """

    name: str  # "03_rope": the lesson, and what it is about
    title: str
    component: Component
    minutes: int
    hints: tuple
    mistakes: dict
    value_only: bool = False
    cases: int = 40  # inputs that an answer is judged on
    keep: Callable | None = field(default=None)  # Case -> bool: inputs beyond the lesson are left out

    @property
    def lesson(self):
        return int(self.name[:2])

    @property
    def gap(self):
        """The file with the gap."""
        return GAPS / f"{self.name}.py"

    @property
    def function(self):
        """The name of the function that the learner writes."""
        return self.component.numpy.__name__.lstrip("_")

    @cached_property
    def graded(self):
        """The declaration as the grader uses it: of the value alone, where that is the task."""
        if not self.value_only:
            return self.component
        return replace(self.component, numpy=value_of(self.component.numpy), differentiable=())

    def solution(self):
        """The reference: as it is, or its value alone."""
        return self.graded.numpy

    def mistaken(self, mistake):
        """The reference with a mistake in it."""
        function = mutant(self.component, self.bug(mistake))
        return value_of(function) if self.value_only else function

    def bug(self, mistake):
        """The Bug behind a key of ``mistakes``."""
        if isinstance(mistake, Bug):
            return mistake
        return next(bug for bug in self.component.bugs if bug.name == mistake and bug.side == "numpy")

    def source(self):
        """(file of the solution, its text)."""
        function = inspect.unwrap(self.component.numpy)
        return Path(inspect.getsourcefile(function)), inspect.getsource(function)


def value_of(function):
    """The forward pass of a component alone."""

    def forward(**arguments):
        return function(**arguments)[0]

    forward.__name__ = function.__name__
    return forward


def as_array(function, arguments):
    """How to call what returns a list or a tuple of ids: any sequence of them will do."""
    return np.array(function(**arguments), np.int64).reshape(-1)
