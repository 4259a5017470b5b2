"""What fused kernels lose inside a larger component.

A component declares the terms that its Torch kernel cancels or rounds where the plain reference does not
(``cancellation``, ``allowances``). Inside a block or a whole model these errors travel on through everything after
them. So the noisy runs of a larger component add them where they arise: the reference's inner function is wrapped, and
its results and gradients get one random error more.
"""

import inspect
import sys
from contextlib import ExitStack, contextmanager
from functools import cache
from unittest.mock import patch

import numpy as np

from parity_tests.harness import budget


def lost_terms(component, arguments, dy, dtype, side="torch"):
    """{result path: absolute error that the Torch kernel may make there in a run in ``dtype``}, as float64 arrays."""
    if side != "torch" or not (component.cancellation or component.allowances):
        return {}
    parameters = inspect.signature(component.numpy).parameters.values()
    arguments = {p.name: p.default for p in parameters if p.default is not p.empty} | arguments
    with np.errstate(all="ignore"):
        unit = precision_of(component, dtype).store
        terms = component.cancellation(arguments, dy, unit) if component.cancellation else {}
        lost = {path: unit * np.asarray(value, float) for path, value in terms.items()}
        for allowance in component.allowances:
            if dtype in allowance.dtypes and (dy is not None or allowance.result == "value"):
                unit = budget.PRECISIONS[finer(dtype, allowance.unit)].store
                lost[allowance.result] = lost.get(allowance.result, 0.0) + unit * allowance.terms(arguments, dy)
    return lost


def precision_of(component, dtype):
    """Of the computation: the run's own, or the finer one that the component promises."""
    return budget.PRECISIONS[finer(dtype, component.inside)]


def finer(dtype, other):
    return min((dtype, other or dtype), key=lambda name: budget.PRECISIONS[name].store)


@contextmanager
def injected(components, dtype, rng):
    """Within this context the reference functions of these components add their kernels' errors."""
    with ExitStack() as stack:
        for component in components:
            wrapped = _wrapped(component, dtype, rng)
            for module, name in _places(component.numpy):
                stack.enter_context(patch.object(sys.modules[module], name, wrapped))
        yield


@cache
def _places(function):
    """Every module of the function's own package in which it has a name."""
    package = function.__module__.partition(".")[0]
    return [
        (path, name)
        for path, module in sorted(sys.modules.items())
        if path.partition(".")[0] == package and module
        for name, value in vars(module).items()
        if value is function
    ]


def _wrapped(component, dtype, rng):
    function, signature = component.numpy, inspect.signature(component.numpy)

    def noisy_function(*args, **kwargs):
        arguments = budget.plain(signature.bind(*args, **kwargs).arguments)
        value, vjp = function(*args, **kwargs)
        value = _disturbed(
            value, lost_terms(component, arguments, np.zeros_like(budget.plain(value)), dtype).get("value"), rng
        )

        def noisy_vjp(dy):
            gradients, lost = vjp(dy), lost_terms(component, arguments, budget.plain(dy), dtype)
            if len(component.differentiable) == 1:
                return _disturbed(gradients, lost.get(f"d{component.differentiable[0]}"), rng)
            named = zip(component.differentiable, gradients, strict=True)
            return tuple(_disturbed(gradient, lost.get(f"d{name}"), rng) for name, gradient in named)

        return value, noisy_vjp

    return noisy_function


def _disturbed(value, error, rng):
    if value is None or error is None:
        return value
    signs = rng.choice((-1.0, 1.0), value.shape)  # the whole error: eight draws must not miss it
    return value + (error * signs).view(type(value))
