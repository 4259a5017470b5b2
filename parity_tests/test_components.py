"""What every component must do, from its declaration alone."""

import pytest

from parity_tests.components import COMPONENTS
from parity_tests.harness.derivative import complex_step, contract
from parity_tests.harness.examples import for_each_case
from parity_tests.harness.record import record
from parity_tests.harness.run import Reference, run_numpy, run_torch

DIFFERENTIABLE = [component for component in COMPONENTS if component.differentiable]
RUNS = [(component, dtype) for component in COMPONENTS for dtype in component.dtypes]


def within(component, column, worst):
    """Record the worst error and fail where it is more than the budget."""
    record(component=component.name, column=column, ratio=worst.ratio, where=worst.where)


def judged(worst, component, column):
    assert worst.ratio <= 1, f"{component} in {column}: an error of {worst.ratio:.3g} budgets, {worst.where}"
    return worst


@pytest.mark.parametrize("component", DIFFERENTIABLE, ids=str)
def test_vjp_is_the_derivative(component):
    def examine(case):
        return judged(complex_step(component, case), component, "complex step")

    within(component, "complex step", for_each_case(component, "float64", examine, "complex"))


@pytest.mark.parametrize("component", DIFFERENTIABLE, ids=str)
def test_vjp_keeps_its_contract(component):
    for_each_case(component, "float64", lambda case: contract(component, case), "contract", divide=2)


@pytest.mark.parametrize(("component", "dtype"), RUNS, ids=str)
def test_torch_agrees(component, dtype):
    def examine(case):
        return judged(Reference(component, case, dtype).judge(run_torch(component, case, dtype)), component, dtype)

    within(component, dtype, for_each_case(component, dtype, examine, "eager"))


@pytest.mark.parametrize("component", [c for c in COMPONENTS if not c.exact and "float32" in c.dtypes], ids=str)
def test_numpy_in_float32_stays_in_the_budget(component):
    def examine(case):
        reference = Reference(component, case, "float32", "numpy")
        return judged(reference.judge(run_numpy(component, case, "float32")), component, "NumPy float32")

    within(component, "numpy float32", for_each_case(component, "float32", examine, "numpy", divide=2))
