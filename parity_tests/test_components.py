"""What every component must do, from its declaration alone."""

import numpy as np
import pytest
import torch
from hypothesis import settings

from parity_tests.components import COMPONENTS
from parity_tests.harness import compiled
from parity_tests.harness.derivative import complex_step, contract
from parity_tests.harness.examples import for_each_case, uniform_cases
from parity_tests.harness.record import record
from parity_tests.harness.run import Reference, run_numpy, run_torch

DIFFERENTIABLE = [component for component in COMPONENTS if component.differentiable]
INEXACT = [component for component in COMPONENTS if not component.exact and "float32" in component.dtypes]
RUNS = [(component, dtype) for component in COMPONENTS for dtype in component.dtypes]
COMPILABLE = compiled.compilable(COMPONENTS)


def judged(worst, component, column):
    assert worst.ratio <= 1, f"{component} in {column}: an error of {worst.ratio:.3g} budgets, {worst.where}"
    return worst


def check(component, dtype, column, examine, divide=1):
    """Examine drawn cases, fail where the error is above the budget, and record the worst one."""
    try:
        worst = for_each_case(component, dtype, lambda case: judged(examine(case), component, column), column, divide)
    except BaseException as error:
        record(component=component.name, column=column, failed=True, where=str(error))
        raise
    record(component=component.name, column=column, ratio=worst.ratio, where=worst.where)


@pytest.mark.parametrize("component", DIFFERENTIABLE, ids=str)
def test_vjp_is_the_derivative(component):
    check(component, "float64", "complex step", lambda case: complex_step(component, case))


@pytest.mark.parametrize("component", DIFFERENTIABLE, ids=str)
def test_vjp_keeps_its_contract(component):
    for_each_case(component, "float64", lambda case: contract(component, case), "contract", divide=2)


@pytest.mark.parametrize("component", INEXACT, ids=str)
def test_numpy_in_float32_stays_in_the_budget(component):
    def examine(case):
        return Reference(component, case, "float32", "numpy").judge(run_numpy(component, case, "float32"))

    check(component, "float32", "numpy float32", examine, divide=2)


@pytest.mark.parametrize(("component", "dtype"), RUNS, ids=str)
def test_torch_agrees(component, dtype):
    def examine(case):
        return Reference(component, case, dtype).judge(run_torch(component, case, dtype))

    check(component, dtype, dtype, examine)


@pytest.mark.parametrize(("component", "dtype"), RUNS if torch.cuda.is_available() else [], ids=str)
def test_torch_agrees_on_cuda(component, dtype):
    def examine(case):
        return Reference(component, case, dtype).judge(run_torch(component, case, dtype, "cuda"))

    check(component, dtype, f"cuda {dtype}", examine, divide=2)


def test_compiled_torch_agrees():
    """All components in one compilation; drawn values, fixed shapes."""
    compiled_agrees(COMPILABLE, "float32", "compiled", seeds=range(5))


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("component", COMPILABLE, ids=str)
def test_compiled_torch_agrees_one_by_one(component, dtype):
    if dtype in component.dtypes:
        compiled_agrees([component], dtype, f"compiled {dtype}", seeds=range(20))


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"] if torch.cuda.is_available() else [])
def test_compiled_torch_agrees_on_cuda(dtype):
    compiled_agrees(COMPILABLE, dtype, f"cuda compiled {dtype}", seeds=range(5), device="cuda")


def compiled_agrees(components, dtype, column, seeds, device="cpu"):
    worst = compiled.worst_errors(components, dtype, seeds, device)
    for component, found in worst.items():
        record(component=component.name, column=column, ratio=found.ratio, where=found.where)
    for component, found in worst.items():
        judged(found, component, column)


@pytest.mark.parametrize("component", COMPONENTS, ids=str)
def test_declared_events_occur(component):
    """Whatever a declaration claims to draw must come up among the cases that every run begins with."""
    count = max(100, settings.default.max_examples)
    seen = set().union(*(case.events for case in uniform_cases(component, component.dtypes[0], count)))
    assert set(component.events) <= seen, (
        f"{component} never drew {sorted(set(component.events) - seen)} in {count} cases"
    )


@pytest.mark.parametrize("component", [component for component in COMPONENTS if component.shapes], ids=str)
def test_fixed_shapes_are_counted(component):
    """The bench divides by these: operations and bytes of every fixed case are whole positive numbers."""
    case = next(iter(component.shapes.values()))(np.random.default_rng(0))
    if component.flops:
        assert component.flops(case) >= 0 and component.flops(case) == int(component.flops(case))
        assert component.bytes(case, 4) > 0 and component.bytes(case, 4) == int(component.bytes(case, 4))
