"""The parity harness on a learner's function: what is wrong, on the smallest input that shows it, and why that happens.

The answer is compared with the reference inside the same computed budgets as the PyTorch side (see
``parity_tests/harness/budget.py``), one property after the other: it runs, it returns what was asked for, it leaves its
arguments alone, its value is right, each gradient is right, and the backward pass keeps its promises.
"""

import functools
import traceback
import types
from dataclasses import dataclass, field, replace

import numpy as np

from numpy_ref.errors import UserError
from parity_tests.harness.compare import Mismatch, same_paths
from parity_tests.harness.derivative import promises
from parity_tests.harness.examples import uniform_cases
from parity_tests.harness.run import Reference, cotangent, fingerprint, inputs_for, leaf, numpy_arguments
from parity_tests.harness.trees import tree_leaves, tree_map

GAP = "the gap is filled"
RUNS = "it runs"
FORM = "it returns what was asked for"
PURE = "it leaves its arguments alone"
FORMAT = "shape and number format"
PROMISES = "the promises of a backward pass"
UNUSUAL = {"tiny", "small", "sixteen", "offset", "heavy", "above exp", "huge", "strided"}


@dataclass(frozen=True)
class Finding:
    """What is wrong with an answer: the property that failed, in words, and the input that shows it."""

    property: str
    words: str
    arguments: dict = field(default_factory=dict)
    dy: np.ndarray | None = None
    expected: np.ndarray | None = None
    got: np.ndarray | None = None
    mistake: object = None  # key of Exercise.mistakes that the answer matches
    path: str = ""


class Wrong(Exception):
    """A property that failed on one input."""

    def __init__(self, property, words, **details):
        super().__init__(words)
        self.finding = Finding(property, words, **details)


def load(exercise, path):
    """The learner's function from a file. Raises UserError for a file that has none, or that can't be read as Python."""
    try:
        source = path.read_text(encoding="utf-8")
        code = compile(source, str(path), "exec")
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: Python can't read it ({error.msg}); mend the line and check again") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path} is no text file ({error}); delete it to begin anew") from None
    module = types.ModuleType("answer")
    module.__file__ = str(path)
    try:
        exec(code, module.__dict__)
    except Exception as error:
        raise UserError(f"{path}: {_raised(error, path)}; mend it and check again") from None
    function = getattr(module, exercise.function, None)
    if not callable(function):
        raise UserError(f"{path} has no function {exercise.function}; keep the name that the exercise gave it")
    return function


def grade(exercise, function, smallest=True):
    """A Finding, or None for an answer that passes. ``smallest``: look on for the smallest input that shows it."""
    component = exercise.graded
    for case, reference in prepared(exercise, "float64"):
        finding = examine(component, function, case, reference, "float64")
        if finding is not None:
            if finding.property == GAP:
                return finding
            mistake = recognise(exercise, function, finding)
            return replace(_smaller(exercise, function, case, finding) if smallest else finding, mistake=mistake)
    if "float32" in component.dtypes and not component.exact:
        for case, reference in prepared(exercise, "float32"):
            finding = examine(component, function, case, reference, "float32")
            if finding is not None:
                return finding
    if component.differentiable:
        for case, _ in prepared(exercise, "float64")[:3]:
            try:
                with np.errstate(all="ignore"):
                    promises(replace(component, numpy=_arrays(function)), case)
            except Mismatch as error:
                arguments = numpy_arguments(component, case, inputs_for(component, case, "float64"))
                return Finding(PROMISES, f"{error}", arguments)
    return None


def _arrays(function):
    """The function with gradients that are NumPy numbers as arrays: nobody has to know the difference."""

    def as_array(value):
        return np.asarray(value) if isinstance(value, np.generic) else value

    def wrapped(**arguments):
        value, vjp = function(**arguments)
        return value, lambda dy: tree_map(as_array, vjp(dy))

    return wrapped


@functools.cache
def prepared(exercise, dtype):
    """[(case, Reference)] that an answer is judged on, smallest first. Computed once: planted mistakes share them."""
    count = exercise.cases if dtype == "float64" else 6
    cases = [case for case in uniform_cases(exercise.graded, dtype, 3 * count) if exercise.keep is None or exercise.keep(case)]
    return [(case, Reference(exercise.graded, case, dtype, "numpy")) for case in sorted(cases[:count], key=trouble)]


def trouble(case):
    """How hard an input is to look at: how many numbers it has, and whether they are of an unusual size."""
    numbers = sum(np.size(value) for _, value in tree_leaves(case.arrays, ""))
    return numbers + 4 * len(UNUSUAL & case.events) + 4 * (case.cotangent != "one")


def examine(component, function, case, reference, dtype):
    """The first property that fails on this input, as a Finding; None if all hold."""
    kind = {"float64": np.float64, "float32": np.float32}[dtype]
    arguments = numpy_arguments(component, case, inputs_for(component, case, dtype), kind, layouts=True)
    shown = numpy_arguments(component, case, inputs_for(component, case, dtype), kind)
    before = fingerprint(arguments)
    dy = None
    try:
        with np.errstate(all="ignore"):
            result = _called(component.invoke, function, arguments)
            if component.differentiable:
                value, vjp = _value_and_vjp(result)
                leaves = {"value": leaf(value)}
                _judge(reference, leaves, "value")
                dy = cotangent(component, case, value, dtype).astype(np.asarray(value).dtype)
                leaves |= _gradients(component, _called(vjp, dy.copy()))
            else:
                leaves = {path: leaf(part) for path, part in tree_leaves(result, "value")}
            if fingerprint(arguments) != before:
                raise Wrong(PURE, "it wrote into its arguments; work on a copy, as others still need them")
            _same_parts(reference, leaves)
            for path in reference.exact:
                _judge(reference, leaves, path)
    except Wrong as wrong:
        return wrong.finding if wrong.finding.property == GAP else replace(wrong.finding, arguments=shown, dy=dy)
    return None


def _called(function, *arguments):
    try:
        return function(*arguments)
    except NotImplementedError:
        raise Wrong(GAP, "the gap is still empty: put your code in the place of `raise NotImplementedError`") from None
    except Exception as error:
        raise Wrong(RUNS, f"it stopped with {_raised(error)}") from None


def _value_and_vjp(result):
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise Wrong(FORM, f"it must return two things, the value and the function vjp; it returned {_kind(result)}")
    if not isinstance(result[0], (np.ndarray, np.generic, float)):
        raise Wrong(FORM, f"the value must be an array; it is {_kind(result[0])}")
    return result


def _gradients(component, result):
    """{path: Leaf} of what a vjp returned."""
    names = component.differentiable
    found = (result,) if len(names) == 1 else result
    if not isinstance(found, tuple) or len(found) != len(names):
        wanted = ", ".join(f"d{name}" for name in names)
        raise Wrong(FORM, f"vjp(dy) must return {wanted}, in this order; it returned {_kind(result)}")
    leaves = {}
    for name, gradient in zip(names, found):
        leaves |= {path: leaf(part) for path, part in tree_leaves(gradient, f"d{name}")}
    return leaves


def _same_parts(reference, leaves):
    try:
        same_paths(leaves, reference.exact)
    except Mismatch as error:
        raise Wrong(FORM, f"{error}") from None


def _judge(reference, leaves, path):
    """Raises Wrong where a part of the result is not what the reference gives, within its budget."""
    details = {"expected": reference.exact[path].values, "got": leaves[path].values, "path": path}
    try:
        worst = reference.judge_part(path, leaves[path])
    except Mismatch as error:
        kind = FORMAT if ": shape" in str(error) or ": format" in str(error) else property_of(path)
        raise Wrong(kind, _format_words(str(error)), **details) from None
    if not worst.ratio <= 1:
        raise Wrong(property_of(path), worst.where, **details)


def property_of(path):
    """A part of a result in words: "value" or "dparams[up.weight]"."""
    if path.startswith("value"):
        return "the value" + (f" {path[5:]}" if path != "value" else "")
    name, _, inner = path[1:].partition("[")
    return f"the gradient of {name}" + (f"[{inner}" if inner else "")


def _format_words(error):
    if "format float64 instead of float32" in error:
        error += ". A float64 number widens float32 arrays, and np.sqrt(2.0) is one: take math.sqrt, or .astype(x.dtype)"
    return error


def _kind(result):
    if isinstance(result, tuple):
        return f"{len(result)} things"
    if isinstance(result, np.ndarray):
        return f"one array of shape {result.shape}"
    return "nothing (is a return missing?)" if result is None else f"a {type(result).__name__}"


def _raised(error, path=None):
    """An exception in one line, with the line of the answer where it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.name != "_called" and not frame.filename.endswith(("grader.py", "exercise.py"))]
    where = f" in line {own[-1].lineno}, `{own[-1].line}`" if own and own[-1].line else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def _smaller(exercise, function, case, finding):
    """The same failure on the smallest of many further inputs."""
    component = exercise.graded
    for other in sorted(uniform_cases(component, "float64", 10 * exercise.cases), key=trouble):
        if trouble(other) >= trouble(case):
            break
        if exercise.keep is not None and not exercise.keep(other):
            continue
        found = examine(component, function, other, Reference(component, other, "float64", "numpy"), "float64")
        if found is not None and found.property == finding.property:
            return found
    return finding


# -- typical mistakes ---------------------------------------------------------------------------------------------


def recognise(exercise, function, finding):
    """The typical mistake that computes what the answer computes, on every input; None if there is none."""
    paths = {"value", finding.path}
    cases = [case for case, _ in prepared(exercise, "float64")]
    results = [_parts(exercise, function, case, paths) for case in cases]
    rights = [reference.exact.get(finding.path) for _, reference in prepared(exercise, "float64")]
    for mistake in exercise.mistakes:
        made = exercise.mistaken(mistake)
        wrong = [_parts(exercise, made, case, paths) for case in cases]
        informative = any(not _alike(one.get(finding.path), right) for one, right in zip(wrong, rights))
        if informative and all(_alike(a.get(path), b.get(path)) for a, b in zip(results, wrong) for path in paths):
            return mistake
    return None


def _parts(exercise, function, case, paths):
    """{path: Leaf} of what a function returns for a case; or the name of the exception that it raised."""
    component = exercise.graded
    arguments = numpy_arguments(component, case, inputs_for(component, case, "float64"), layouts=True)
    try:
        with np.errstate(all="ignore"):
            result = component.invoke(function, arguments)
            if not component.differentiable:
                leaves = {path: leaf(part) for path, part in tree_leaves(result, "value")}
            else:
                leaves = {"value": leaf(result[0])}
                if paths != {"value"}:
                    dy = cotangent(component, case, result[0], "float64").astype(np.asarray(result[0]).dtype)
                    leaves |= _gradients(component, result[1](dy))
            return {path: one for path, one in leaves.items() if path in paths}
    except Exception as error:
        return dict.fromkeys(paths, type(error).__name__)


def _alike(one, other):
    """Whether two parts are the same up to rounding."""
    if one is None or other is None or isinstance(one, str) or isinstance(other, str):
        return one is other or one == other
    a, b = one.values, other.values
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    largest = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-11 * largest, equal_nan=True))
