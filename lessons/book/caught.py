"""Which property of the suite notices each planted bug: found by planting it, and remembered while the source stays.

The word is that of the first part of the result that leaves its budget: the value, the gradient of an argument, the shape.
"""

import hashlib
import inspect
import json
import sys

import numpy as np

from lessons.grader import property_of
from parity_tests.harness.compare import Mismatch
from parity_tests.harness.examples import uniform_cases
from parity_tests.harness.mutants import mutant
from parity_tests.harness.run import Reference, run_numpy, run_torch

COUNT = 8


def caught_by(components, store):
    """{(component, bug): words} for every planted bug. ``store``: a JSON file that keeps the answers between calls."""
    known = json.loads(store.read_text()) if store.exists() else {}
    found, kept = {}, {}
    for component in components:
        references = {}
        for bug in component.bugs:
            key = _key(component, bug)
            if key not in known:
                known[key] = _first_failure(component, bug, references)
            kept[key] = found[component.name, bug.name] = known[key]
    store.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(json.dumps({_key(c, b): found[c.name, b.name] for c in components for b in c.bugs}, indent=0))
    return found


def _key(component, bug):
    function = component.numpy if bug.side == "numpy" else component.torch
    source = inspect.getsource(sys.modules[function.__module__])
    return hashlib.blake2b(f"{component.name}\0{bug!r}\0{source}".encode(), digest_size=12).hexdigest()


def _first_failure(component, bug, references):
    """The property that fails on the first case that notices the bug; "" where none of a few does."""
    key = bug.dtype, bug.side, bug.needs
    if key not in references:
        cases = uniform_cases(component, bug.dtype, COUNT, bug.needs)
        references[key] = [(case, Reference(component, case, bug.dtype, bug.side)) for case in cases]
    function = mutant(component, bug)
    run = run_numpy if bug.side == "numpy" else run_torch
    for case, reference in references[key]:
        try:
            with np.errstate(all="ignore"):
                actual = run(component, case, bug.dtype, function=function)
        except Mismatch as error:
            return str(error).partition(":")[2].strip() or str(error)
        except Exception:  # a crash on one input: another may say more
            continue
        words = _judged(component, reference, actual)
        if words:
            return words
    return ""


def _judged(component, reference, actual):
    if set(actual) != set(reference.exact):
        return "the parts of the result"
    for path in reference.exact:
        try:
            if not reference.judge_part(path, actual[path]).ratio <= 1:
                return property_of(path)
        except Mismatch as error:
            kind = next((word for word in ("shape", "format", "NaN", "infinity") if f": {word}" in str(error)), None)
            return property_of(path) + (f": {kind}" if kind else "")
    return ""
