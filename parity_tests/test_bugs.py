"""Every planted bug must be caught, by name."""

import math

import pytest
from hypothesis import settings

from parity_tests.components import COMPONENTS
from parity_tests.harness.mutants import judge_bugs
from parity_tests.harness.record import record


@pytest.mark.parametrize("component", [component for component in COMPONENTS if component.bugs], ids=str)
def test_planted_bugs_are_caught(component):
    count = max(24, settings.default.max_examples // component.weight)
    verdicts = judge_bugs(component, count)
    for verdict in verdicts:
        margin = verdict.margin if math.isfinite(verdict.margin) else None
        record(component=component.name, bug=verdict.bug, margin=margin, share=verdict.share, caught=verdict.caught)
    escaped = [f"{verdict.bug} (at most {verdict.margin:.2g} budgets)" for verdict in verdicts if not verdict.caught]
    assert not escaped, f"{component}: the suite did not notice {', '.join(escaped)}"


def test_every_component_has_planted_bugs():
    for component in COMPONENTS:
        least = 12 if component.name == "scaled_dot_product_attention" else 4
        assert len(component.bugs) >= least, f"{component} has {len(component.bugs)} planted bugs, not {least}"
        names = [bug.name for bug in component.bugs]
        assert len(set(names)) == len(names), f"{component} names two bugs alike"
