"""Planted bugs: the proof that the suite would notice.

A mutant is the component's own source file with one text replaced, executed as a module of its own, so that closures
and helpers are mutated with it and nothing else in the process is touched.
"""

import ast
import inspect
import sys
import types
from dataclasses import dataclass

import numpy as np

from parity_tests.harness.compare import Mismatch
from parity_tests.harness.examples import uniform_cases
from parity_tests.harness.run import Reference, run_numpy, run_torch


class Stale(AssertionError):
    """The source has changed, so that the planted bug no longer fits."""


def mutant(component, bug):
    """The component's function with the bug in it."""
    original = component.numpy if bug.side == "numpy" else component.torch
    module = sys.modules[original.__module__]
    source = inspect.getsource(module)
    name = bug.function or original.__name__
    start, end = _span(source, name, module.__name__)
    found = source[start:end].count(bug.old)
    if found != bug.count:
        raise Stale(
            f"planted bug {bug.name!r} of {component}: {bug.old!r} occurs {found} times in "
            f"{module.__name__}.{name}, not {bug.count}; fit it to the source as it is now"
        )
    changed = source[:start] + source[start:end].replace(bug.old, bug.new) + source[end:]
    copy = types.ModuleType(module.__name__)
    copy.__file__ = module.__file__
    exec(compile(changed, f"{module.__file__} with {bug.name}", "exec"), copy.__dict__)
    return getattr(copy, original.__name__)


def _span(source, name, module):
    """Where the function (or method) of that name stands in the source, docstring left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            lines = source.splitlines(keepends=True)
            return sum(map(len, lines[: first.lineno - 1])), sum(map(len, lines[: node.end_lineno]))
    raise Stale(f"{module} has no function {name!r} any more")


@dataclass(frozen=True)
class Verdict:
    """What the suite made of a planted bug: the largest error in budgets, and the share of the draws that caught it."""

    bug: str
    margin: float
    share: float

    @property
    def caught(self):
        return self.margin > 1


def judge_bugs(component, count):
    """A Verdict on every planted bug of a component; references are computed once for all bugs of a format."""
    references = {}
    verdicts = []
    for bug in component.bugs:
        key = bug.dtype, bug.side, bug.needs
        if key not in references:
            cases = uniform_cases(component, bug.dtype, count if not bug.needs else 8, bug.needs)
            references[key] = [(case, Reference(component, case, bug.dtype, bug.side)) for case in cases]
        function = mutant(component, bug)
        margins = [_margin(component, bug, function, case, reference) for case, reference in references[key]]
        verdicts.append(Verdict(bug.name, max(margins), float(np.mean([margin > 1 for margin in margins]))))
    return verdicts


def _margin(component, bug, function, case, reference):
    """Error in budgets of the mutant on one case; infinite where it is wrong in kind."""
    run = run_numpy if bug.side == "numpy" else run_torch
    try:
        with np.errstate(all="ignore"):
            return reference.judge(run(component, case, bug.dtype, function=function)).ratio
    except Mismatch:
        return np.inf
    except Exception:  # a crash proves nothing: a mutant that cannot run at all must not count as caught
        return 0.0
