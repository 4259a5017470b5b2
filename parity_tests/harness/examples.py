"""Examples of a declared component: some drawn uniformly, the same every time, and the rest by Hypothesis."""

import math
import re
import zlib

import numpy as np
from hypothesis import example, given, settings, target
from hypothesis import strategies as st

from parity_tests.harness.strategies import Drawn, Source, Uniform


@st.composite
def cases(draw, component, dtype):
    return component.draw(Source(Drawn(draw), dtype))


def uniform_cases(component, dtype, count, needs=()):
    """``count`` cases drawn evenly from all options, of those with the events ``needs``: for planted bugs and coverage."""
    rng = np.random.default_rng(zlib.crc32(component.name.encode()))
    found = []
    for _ in range(count if not needs else 400 * count):
        case = component.draw(Source(Uniform(rng), dtype))
        if case.events.issuperset(needs):
            found.append(case)
        if len(found) == count:
            return found
    raise AssertionError(f"{component}: of {400 * count} draws only {len(found)} have the events {needs}")


def for_each_case(component, dtype, examine, name, divide=1):
    """Run ``examine(case) -> Worst or None`` on cases; returns the worst it saw. The profile says how many."""
    profile = settings.default
    count = max(4, profile.max_examples // (component.weight * divide))
    even = min(count // 2, 50)
    worst = []

    def run(case):
        found = examine(case)
        if found is not None:
            worst.append(found)
            if profile.max_examples >= 1000 and 0 < found.ratio < math.inf:
                target(math.log(found.ratio))

    key = re.sub(r"\W", "_", f"{component.name}_{dtype}_{name}")  # of the examples in Hypothesis' database
    run.__name__ = run.__qualname__ = key
    test = given(cases(component, dtype))(run)
    for case in uniform_cases(component, dtype, even):
        test = example(case)(test)
    settings(profile, max_examples=count - even)(test)()
    return max(worst, key=lambda one: one.ratio, default=None)
