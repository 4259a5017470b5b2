"""The NumPy side alone: is the vjp the derivative of the forward pass, and does it keep its promises?

Complex step: for analytic f, Im f(x + i h t) / h is the derivative along t, without the cancellation of a difference
quotient, so h can be 1e-40 and the answer is right to the last digits.
"""

import numpy as np

from parity_tests.harness import budget
from parity_tests.harness.compare import Mismatch, Worst
from parity_tests.harness.run import cotangent, expected_format, fingerprint, inputs_for, numpy_arguments, numpy_result
from parity_tests.harness.trees import tree_leaves, tree_map

STEP = 1e-40
STEPS = (STEP, 0.9 * STEP, 0.7 * STEP, 0.6 * STEP)  # nothing but rounding depends on the step


def complex_step(component, case):
    """Worst disagreement, in budgets, between the vjp and the forward pass, one argument at a time."""
    arrays = inputs_for(component, case, "float64")
    arguments = numpy_arguments(component, case, arrays)
    rng = np.random.default_rng(case.seed + 2)

    def dy_of(value):
        return cotangent(component, case, value, "float64")

    with np.errstate(all="ignore"):
        noisy = [_gradients(component, case, arrays, dy_of, rng) for _ in range(budget.RUNS)]
    gradients = numpy_result(component, arguments, dy_of)
    worst = Worst()
    for name in component.differentiable:
        primals = dict(tree_leaves(arguments[name], f"d{name}"))
        paths = list(primals)
        directions = {path: rng.standard_normal(gradients[path].shape) * np.isfinite(primals[path]) for path in paths}
        if not directions:
            continue
        terms = [_slopes(component, arguments, name, directions, step, dy_of) for step in STEPS]
        along = {path: gradients[path] * directions[path] for path in paths}
        derivative, product = np.sum(terms[0]), sum(np.sum(part) for part in along.values())
        spread = max(
            abs(sum(np.sum((run[path] - gradients[path]) * directions[path]) for path in paths)) for run in noisy
        )
        spread += max(abs(np.sum(other - terms[0])) for other in terms)  # slopes that cancel in the forward pass
        size = np.sum(np.abs(terms[0])) + sum(np.sum(np.abs(part)) for part in along.values())
        unit = budget.PRECISIONS["float64"]
        # The complex forward pass rounds in ways that the noisy vjps have not sampled: four times the budget.
        # Where all first derivatives are 0, what is left of the higher ones is of the order of h^2.
        tolerance = 4 * budget.SAFETY * (spread + unit.store * size) + unit.tiny / STEP + 1e10 * STEP**2
        error = abs(derivative - product)
        found = Worst(float(error / tolerance), f"d{name}: {product:.17g}, complex step {derivative:.17g}")
        worst = max(worst, found, key=lambda one: one.ratio)
        if not error <= tolerance:
            return Worst(max(found.ratio, 1.01) if np.isfinite(found.ratio) else np.inf, found.where)
    return worst


def _slopes(component, arguments, name, directions, step, dy_of):
    """dy times the derivative of every element of y along ``directions``."""
    value = component.invoke(component.numpy, arguments | {name: _stepped(arguments[name], name, directions, step)})[0]
    slope = np.imag(value) / step
    return dy_of(value) * np.where(np.isfinite(slope), slope, 0.0)  # infinite inputs are not moved


def _gradients(component, case, arrays, dy_of, rng):
    kind = budget.noisy(budget.PRECISIONS["float64"], rng)
    arguments = numpy_arguments(component, case, arrays, convert=lambda array: array.view(kind))
    result = numpy_result(component, arguments, lambda value: dy_of(value).view(kind))
    return {path: budget.plain(value) for path, value in result.items()}


def _stepped(tree, name, directions, size):
    """The argument moved by i h t; -inf stays where it is."""
    paths = iter([path for path, _ in tree_leaves(tree, f"d{name}")])

    def step(value):
        return None if value is None else value + 1j * size * directions[next(paths)]

    return tree_map(step, tree)


def contract(component, case):
    """Raises Mismatch unless the vjp is linear, pure, zero at zero, and shaped and typed like its arguments."""
    promises(component, case)
    _linear(component, case, np.random.default_rng(case.seed + 3))


def promises(component, case):
    """``contract`` but for linearity, which takes a function that the budget has rounding models for."""
    for kind in (np.float64, np.float32):
        dtype = np.dtype(kind).name
        arguments = numpy_arguments(component, case, inputs_for(component, case, dtype), kind, layouts=True)
        before = fingerprint(arguments)
        value, vjp = component.invoke(component.numpy, arguments)
        dy = cotangent(component, case, value, dtype).astype(value.dtype)
        first, dy_before = _named(component, vjp(dy)), dy.copy()
        second = _named(component, vjp(dy))
        _require(fingerprint(arguments) == before, "the function or its vjp wrote into an argument")
        _require(np.array_equal(dy, dy_before), "the vjp wrote into dy")
        _require(_equal(first, second), "the vjp gives something else when called twice")
        wanted = expected_format(component, "value", "float64", dtype)
        _require(str(value.dtype) == wanted, f"y is {value.dtype}, not {wanted}, in {dtype}")
        _shaped_like_primals(component, arguments, first)
        _own_memory(arguments, first, value, dy)
        for path, gradient in _named(component, vjp(np.zeros_like(dy))).items():
            _require(bool((gradient == 0).all()), f"{path} is not 0 for dy = 0")


def _linear(component, case, rng):
    """vjp(a d1 + b d2) = a vjp(d1) + b vjp(d2), within the budgets of the three."""
    arrays = inputs_for(component, case, "float64")
    a, b = rng.standard_normal(2)

    def three(convert=lambda array: array):
        arguments = numpy_arguments(component, case, arrays, convert=convert)
        value, vjp = component.invoke(component.numpy, arguments)
        one = cotangent(component, case, value, "float64")
        two = np.random.default_rng(case.seed + 4).standard_normal(one.shape)
        return [_named(component, vjp(convert(dy))) for dy in (one, two, a * one + b * two)]

    exact = three()
    spread = [dict.fromkeys(gradients, 0.0) for gradients in exact]
    unit = budget.PRECISIONS["float64"]
    for _ in range(budget.RUNS):
        kind = budget.noisy(unit, rng)
        with np.errstate(all="ignore"):
            run = three(lambda array: array.view(kind))  # noqa: B023
        for seen, noisy, right in zip(spread, run, exact, strict=True):
            for path in seen:
                seen[path] = np.maximum(seen[path], budget.distance(budget.plain(noisy[path]), right[path]))
    for path, whole in exact[2].items():
        left, right = a * exact[0][path], b * exact[1][path]
        size = np.abs(left) + np.abs(right) + np.abs(whole)
        noise = abs(a) * spread[0][path] + abs(b) * spread[1][path] + spread[2][path]
        allowed = budget.SAFETY * budget.row_max(noise + unit.store * size) + unit.tiny
        _require(bool((np.abs(whole - (left + right)) <= allowed).all()), f"{path} is not linear in dy")


def _named(component, gradients):
    gradients = gradients if len(component.differentiable) > 1 else (gradients,)
    _require(isinstance(gradients, tuple) and len(gradients) == len(component.differentiable), "gradients are missing")
    named = {}
    for name, gradient in zip(component.differentiable, gradients, strict=True):
        named |= dict(tree_leaves(gradient, f"d{name}"))
    return named


def _shaped_like_primals(component, arguments, gradients):
    primals = {}
    for name in component.differentiable:
        primals |= dict(tree_leaves(arguments[name], f"d{name}"))
    _require(set(primals) == set(gradients), f"gradients of {sorted(gradients)}, arguments are {sorted(primals)}")
    for path, primal in primals.items():
        got, wanted = gradients[path], primal
        _require(type(got) is np.ndarray, f"{path} is a {type(got).__name__}, not an array")
        _require(got.shape == wanted.shape and got.dtype == wanted.dtype, f"{path} is {got.dtype} {got.shape}")


def _own_memory(arguments, gradients, value, dy):
    """Whoever adds to a gradient in place must not change an argument, dy or another gradient."""
    held = {"dy": dy, "y": value} | {name: array for name, array in tree_leaves(arguments, "arguments")}
    held = {name: array for name, array in held.items() if isinstance(array, np.ndarray)}
    for path, gradient in gradients.items():
        for name, array in held.items():
            _require(not np.shares_memory(gradient, array), f"{path} shares memory with {name}")
        held[path] = gradient


def _equal(first, second):
    return all(np.array_equal(first[path], second[path]) for path in first) and set(first) == set(second)


def _require(passes, message):
    if not passes:
        raise Mismatch(message)
