"""Hypothesis examples of a declared component."""

import math

from hypothesis import Phase, given, settings, target
from hypothesis import strategies as st

from parity_tests.harness.strategies import Source


@st.composite
def cases(draw, component, dtype):
    return component.draw(Source(draw, dtype))


def for_each_case(component, dtype, examine, name, divide=1):
    """Run ``examine(case) -> Worst or None`` on drawn cases; returns the worst it saw. The profile says how many."""
    profile = settings.default
    count = max(3, profile.max_examples // (component.weight * divide))
    worst = []

    def run(case):
        found = examine(case)
        if found is not None:
            worst.append(found)
            if profile.max_examples >= 1000 and math.isfinite(found.ratio):
                target(math.log(found.ratio + 1e-9))

    run.__name__ = run.__qualname__ = f"{component.name}_{dtype}_{name}"  # the key of the examples in the database
    settings(profile, max_examples=count)(given(cases(component, dtype))(run))()
    return max(worst, key=lambda one: one.ratio, default=None)


def collect(component, dtype, count):
    """The same ``count`` cases every time."""
    found = []
    quiet = settings(
        settings.get_profile("mutate"), max_examples=count, derandomize=True, database=None, phases=[Phase.generate]
    )

    def run(case):
        found.append(case)

    run.__name__ = run.__qualname__ = f"{component.name}_{dtype}_collect"
    quiet(given(cases(component, dtype))(run))()
    return found
