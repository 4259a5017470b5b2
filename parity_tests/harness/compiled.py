"""The Torch side under torch.compile: many components in one compilation, as compiling is slower than anything else.

Shapes are fixed (a new shape would compile again), values are drawn. Without a C++ compiler the code generator can't
run on CPUs; then the graphs are captured, differentiated and run as they are ("aot_eager").
"""

import shutil
import warnings

import numpy as np
import torch

from parity_tests.harness.run import Reference, cotangent, leaf, torch_arguments
from parity_tests.harness.trees import tree_leaves


def backend(device="cpu"):
    found = device != "cpu" or any(shutil.which(name) for name in ("g++", "c++", "clang++"))
    return "inductor" if found else "aot_eager"


def compilable(components):
    """Components that a compiler can take as they are, with a small fixed shape."""
    return [
        component
        for component in components
        if component.compiles and "small" in component.shapes and not component.call
    ]


def together(components):
    """One compiled function of many components: list of arguments -> list of values."""

    def run_all(arguments):
        return [component.torch(**given) for component, given in zip(components, arguments, strict=True)]

    return torch.compile(run_all, fullgraph=True, dynamic=False, backend=backend())


def worst_errors(components, dtype, seeds, device="cpu"):
    """{component: worst error in budgets} of the compiled components over values drawn from each seed."""
    components = [component for component in components if dtype in component.dtypes]
    function, worst = together(components), {}
    torch._dynamo.reset()
    for seed in seeds:
        cases = [component.shapes["small"](np.random.default_rng(seed)) for component in components]
        results = _run(function, components, cases, dtype, device)
        for component, case, result in zip(components, cases, results, strict=True):
            found = Reference(component, case, dtype).judge(result)
            worst[component] = max(worst.get(component, found), found, key=lambda one: one.ratio)
    return worst


def _run(function, components, cases, dtype, device):
    """Leaves of every component: values and gradients, all from one call."""
    given = [torch_arguments(component, case, dtype, device) for component, case in zip(components, cases, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = function([arguments for arguments, _ in given])
        inputs = [tensor for _, watched in given for tensor in watched.values()]
        outputs, cotangents = [], []
        for component, case, value, (_, watched) in zip(components, cases, values, given, strict=True):
            if watched:
                dy = torch.from_numpy(cotangent(component, case, np.empty(tuple(value.shape)), dtype))
                outputs.append(value)
                cotangents.append(dy.to(value.device, value.dtype))
        gradients = iter(())
        if inputs:  # some components have nothing to differentiate
            gradients = iter(torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True, materialize_grads=True))
    results = []
    for value, (_, watched) in zip(values, given, strict=True):
        leaves = dict(tree_leaves(value, "value")) | {path: next(gradients) for path in watched}
        results.append({path: leaf(tensor) for path, tensor in leaves.items()})
    return results
