"""Running either side of a component on a case, and the reference result with its budget."""

import hashlib
from operator import methodcaller

import numpy as np
import torch

from parity_tests.harness import budget, kernels
from parity_tests.harness.compare import Leaf, Mismatch, Worst, compare, compare_exact, same_paths
from parity_tests.harness.declaration import DTYPE
from parity_tests.harness.strategies import fill, laid_out, tensor_laid_out
from parity_tests.harness.trees import tree_leaves, tree_map

TORCH_DTYPES = {name: getattr(torch, name) for name in budget.PRECISIONS}
NUMPY_DTYPES = {"float64": np.float64, "float32": np.float32}


# -- inputs -------------------------------------------------------------------------------------------------------


def representable(array, dtype):
    """float64 values that ``dtype`` holds exactly; anything but a float64 array is left alone."""
    if not (isinstance(array, np.ndarray) and array.dtype == np.float64) or dtype == "float64":
        return array
    largest = budget.PRECISIONS[dtype].largest
    array = np.where(np.isfinite(array), np.clip(array, -largest, largest), array)
    return torch.from_numpy(array).to(TORCH_DTYPES[dtype]).double().numpy()


def inputs_for(component, case, dtype):
    """The arrays of a case, rounded to the format of the run."""
    return {
        name: value if name in component.fixed else tree_map(lambda leaf: representable(leaf, dtype), value)
        for name, value in case.arrays.items()
    }


def cotangent(component, case, value, dtype):
    """A random dy for ``value``, exactly representable in the format in which the fast side takes it."""
    values = np.asarray(fill(np.random.default_rng(case.seed + 1), np.shape(value), case.cotangent, dtype))
    return representable(values, expected_format(component, "value", "float64", dtype))


# -- the NumPy side -----------------------------------------------------------------------------------------------


def numpy_arguments(component, case, arrays, kind=np.float64, convert=None, layouts=False):
    def make(name):
        def leaf(value):
            if not (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
                return value
            value = value.astype(np.float64 if name in component.fixed else kind)
            if layouts:
                value = laid_out(value, case.layouts.get(name, "contiguous"))
            return convert(value) if convert else value

        return leaf

    arguments = {name: tree_map(make(name), value) for name, value in arrays.items()}
    return arguments | {name: kind if value is DTYPE else value for name, value in case.static.items()}


def numpy_result(component, arguments, dy_of, function=None):
    """{path: array} of the value and every gradient; ``dy_of(value)`` gives the cotangent."""
    result = component.invoke(function or component.numpy, arguments)
    if not component.differentiable:
        return dict(tree_leaves(result, "value"))
    value, vjp = result
    gradients = vjp(dy_of(value))
    if len(component.differentiable) == 1:
        gradients = (gradients,)
    if not isinstance(gradients, tuple) or len(gradients) != len(component.differentiable):
        raise Mismatch(f"the vjp returns {type(gradients).__name__}, not gradients of {component.differentiable}")
    leaves = dict(tree_leaves(value, "value"))
    for name, gradient in zip(component.differentiable, gradients, strict=True):
        leaves |= dict(tree_leaves(gradient, f"d{name}"))
    return leaves


def run_numpy(component, case, dtype, function=None, layouts=True):
    """Leaves of the NumPy side computing in ``dtype``, on inputs laid out as the case says."""
    kind = NUMPY_DTYPES[dtype]
    arguments = numpy_arguments(component, case, inputs_for(component, case, dtype), kind, layouts=layouts)

    def dy_of(value):
        dy = cotangent(component, case, value, dtype).astype(np.asarray(value).dtype)
        return laid_out(dy, case.cotangent_layout) if layouts else dy

    return {path: leaf(value) for path, value in numpy_result(component, arguments, dy_of, function).items()}


# -- the Torch side -----------------------------------------------------------------------------------------------


def torch_arguments(component, case, dtype, device="cpu"):
    """(arguments, {path: tensor that needs a gradient})."""
    watched = {}

    def make(name):
        def leaf(value):
            if not isinstance(value, np.ndarray):
                return value
            tensor = torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape).clone()
            if tensor.is_floating_point() and name not in component.fixed:
                tensor = tensor.to(TORCH_DTYPES[dtype])
            tensor = tensor_laid_out(tensor.to(device), case.layouts.get(name, "contiguous"))
            if tensor.is_floating_point() and name in component.differentiable:
                tensor.requires_grad_()
            return tensor

        return leaf

    arguments = {}
    for name, value in inputs_for(component, case, dtype).items():
        arguments[name] = tree_map(make(name), value)
        if name in component.differentiable:
            watched |= dict(tree_leaves(arguments[name], f"d{name}"))
    for name, value in case.static.items():
        arguments[name] = TORCH_DTYPES[dtype] if value is DTYPE else value
    return arguments, watched


def run_torch(component, case, dtype, device="cpu", function=None):
    """Leaves of the Torch side, gradients by autograd."""
    arguments, watched = torch_arguments(component, case, dtype, device)
    before = fingerprint(arguments)
    value = component.invoke(function or component.torch, arguments)
    leaves = dict(tree_leaves(value, "value"))
    if watched:
        dy = torch.from_numpy(cotangent(component, case, np.empty(tuple(value.shape)), dtype)).to(
            value.device, value.dtype
        )
        dy = tensor_laid_out(dy, case.cotangent_layout)
        gradients = torch.autograd.grad(value, list(watched.values()), dy, allow_unused=True, materialize_grads=True)
        leaves |= dict(zip(watched, gradients, strict=True))
    if fingerprint(arguments) != before:
        raise Mismatch(f"{component}: the function wrote into its arguments")
    return {path: leaf(value) for path, value in leaves.items()}


# -- results ------------------------------------------------------------------------------------------------------


def leaf(value):
    """Any part of a result as a Leaf."""
    if torch.is_tensor(value):
        name = str(value.dtype).removeprefix("torch.")
        value = value.detach().cpu()
        return Leaf((value.double() if value.is_floating_point() else value).numpy().copy(), name)
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.array(value)
        return Leaf(array.astype(np.float64) if array.dtype.kind == "f" else array, array.dtype.name)
    kind = type(value).__name__
    return Leaf(np.array(value, dtype=float) if kind == "float" else np.array(value, dtype=object), kind)


def expected_format(component, path, kind, dtype):
    """The format that a result must have in a run in ``dtype``, given the one (``kind``) of the float64 reference."""
    output = component.outputs.get(path)
    if output is not None:
        return output.get(dtype, dtype) if isinstance(output, dict) else output
    argument = path[1:].partition("[")[0]
    if path.startswith("d") and argument in component.fixed:
        return kind
    return dtype if kind == "float64" else kind


def fingerprint(arguments):
    """A hash of every array among the arguments."""
    digest = hashlib.blake2b()
    for _, value in tree_leaves(arguments, ""):
        if torch.is_tensor(value):
            fresh = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            digest.update(fresh.view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.digest()


class Reference:
    """The exact result of a case for runs in ``dtype``, with the budget of every part.

    side: whose budget. NumPy's plain algorithms have none of the cancellations of fused Torch kernels.
    """

    def __init__(self, component, case, dtype, side="torch"):
        self.component, self.dtype, self.side = component, dtype, side
        self.tolerance = {}
        arrays = inputs_for(component, case, dtype)
        arguments = numpy_arguments(component, case, arrays)
        with np.errstate(all="ignore"):
            raw = numpy_result(component, arguments, self._dy_of(case))
        self.exact = {path: leaf(value) for path, value in raw.items()}
        if not component.exact:
            dy = self._dy_of(case)(raw["value"]) if component.differentiable else None
            lost = kernels.lost_terms(component, arguments, dy, dtype, side)
            self._set_budgets(self._spread(case, arrays), lost)

    def _dy_of(self, case):
        return lambda value: cotangent(self.component, case, value, self.dtype)

    def _spread(self, case, arrays):
        """How far the noisy runs land from the exact result, element by element."""
        rng = np.random.default_rng(case.seed)
        spread = {path: 0.0 for path in self.exact}
        fused = self.component.kernels if self.side == "torch" else ()
        for _ in range(self._runs()):
            kind = budget.noisy(kernels.precision_of(self.component, self.dtype), rng)
            arguments = numpy_arguments(self.component, case, arrays, convert=methodcaller("view", kind))

            def dy_of(value, kind=kind):
                return self._dy_of(case)(value).view(kind)

            with np.errstate(all="ignore"), kernels.injected(fused, self.dtype, rng):
                result = numpy_result(self.component, arguments, dy_of)
            for path, value in result.items():
                spread[path] = np.maximum(spread[path], budget.distance(leaf(value).values, self.exact[path].values))
        return spread

    def _runs(self):
        rows = [1 if self._alone(path) else one.values.shape[-1] for path, one in self.exact.items() if one.values.size]
        return budget.RUNS_ALONE if min(rows, default=1) < 4 else budget.RUNS

    def _alone(self, path):
        """Whether every element has a budget of its own."""
        elementwise = self.component.elementwise
        return elementwise is True or path in (elementwise or ()) or self.exact[path].values.ndim == 0

    def _set_budgets(self, spread, lost):
        component, inside = self.component, kernels.precision_of(self.component, self.dtype)
        for path, exact in self.exact.items():
            if exact.values.dtype.kind != "f":
                continue
            stored = budget.PRECISIONS[expected_format(component, path, "float64", self.dtype)]
            extra = np.broadcast_to(lost.get(path, 0.0), exact.values.shape)
            self.tolerance[path] = budget.tolerance(
                spread[path], exact.values, inside, stored, extra, self._alone(path)
            )

    def judge(self, actual):
        """Worst error of a result in budgets; Mismatch where it is wrong in kind."""
        same_paths(actual, self.exact)
        parts = (self.judge_part(path, actual[path]) for path in self.exact)
        return max(parts, key=lambda one: one.ratio, default=Worst())

    def judge_part(self, path, part):
        """The same for one part of a result, a Leaf."""
        exact = self.exact[path]
        dtype = expected_format(self.component, path, exact.dtype, self.dtype)
        if self.side == "numpy" and exact.values.dtype.kind != "f":
            dtype = exact.dtype
        wanted = Leaf(exact.values, dtype)
        if path not in self.tolerance:
            return compare_exact(path, part, wanted)
        largest = budget.PRECISIONS[dtype].largest if dtype in budget.PRECISIONS else np.inf
        return compare(path, part, wanted, self.tolerance[path], largest)
