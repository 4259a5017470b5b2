"""Declarations of orthogonalise, muon, its batched form muon_, init_state and matrices."""

import numpy as np
import torch

import numpy_ref.training.muon as numpy_muon
import torch_impl.training.muon as torch_muon
from parity_tests.components.adamw import lerp_terms
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.strategies import MAGNITUDES
from parity_tests.harness.trees import tree_map

ASPECTS = ("tall", "wide", "square", "row", "column")
# Beside 1e4 ("heavy") the float32 norm of either wing may lose every 1; so 16 is as far as it goes.
GRADIENTS = tuple(name for name in MAGNITUDES if name != "heavy")


def draw_matrix(source):
    """(..., rows, columns): a stack of matrices of one aspect."""
    aspect, size = source.choice(*ASPECTS), source.size(17)
    other = source.integer(size, 21)
    sizes = {
        "tall": (other, size),
        "wide": (size, other),
        "square": (size, size),
        "row": (1, size),
        "column": (size, 1),
    }
    lead = source.leading()
    source.event(aspect)
    source.event("stack", bool(lead))
    return (*lead, *sizes[aspect])


def draw_orthogonalise(source):
    shape = draw_matrix(source)
    matrix = _matrix(source, shape)
    eps = source.choice(1e-7, 1e-7, 1e-2)
    norm = np.sqrt((matrix * matrix).sum((-2, -1)))
    source.event("norm below eps", bool((norm < eps).any()))
    if len(shape) > 2 and source.flag():  # matrices of one stack whose lengths differ by far
        matrix = matrix * 10.0 ** source.rng.integers(-2, 3, (*shape[:-2], 1, 1))
    return source.case({"matrix": matrix}, steps=source.choice(5, 5, 1, 2), eps=eps)


def _matrix(source, shape):
    matrix = source.array("matrix", shape, GRADIENTS)
    one_large = source.flag() and source.flag()
    source.event("one large entry", one_large)
    if one_large:
        matrix = source.rng.standard_normal(shape)
        matrix[..., -1, 0] = 16.0
        source.layouts["matrix"] = "transposed"
    return matrix


def length_error(matrix, unit, steps=5, eps=1e-7):
    """torch.linalg.matrix_norm adds n squares one after another where strides forbid vectors: up to n / 8 roundings.

    (Measured: 96 for 768 equal entries.) A start that is too long by h then ends off by h times this derivative.
    """
    start, h = numpy_muon.orthogonalise(matrix, 0, eps), 1e-6
    slope = np.abs(numpy_muon.orthogonalise(start, steps, 1.0) - numpy_muon.orthogonalise(start, steps, 1.0 + h)) / h
    single = 2.0**-24  # bfloat16 is summed in float32
    return slope * (matrix.shape[-2] * matrix.shape[-1] / 16) * min(1.0, single / unit)


def products(shape, steps=5):
    """Multiplications and additions of the Newton-Schulz steps: X X^T, A A and (b A + c A^2) X."""
    *lead, rows, columns = shape
    small, large = min(rows, columns), max(rows, columns)
    return int(np.prod(lead)) * steps * (4 * small * small * large + 2 * small**3)


def matrix_shape(*size):
    return lambda rng: Case({"matrix": rng.standard_normal(size)})


ORTHOGONALISE = Component(
    name="orthogonalise",
    numpy=numpy_muon.orthogonalise,
    torch=torch_muon.orthogonalise,
    draw=draw_orthogonalise,
    cancellation=lambda a, dy, unit: {"value": length_error(a["matrix"], unit, a["steps"], a["eps"])},
    dtypes=("float64", "float32", "bfloat16"),  # training runs it in bfloat16, never in float16
    events=(*ASPECTS, "stack", "norm below eps", "zero", "constant", "one large entry", "strided"),
    shapes={
        "small": matrix_shape(2, 5, 11),
        "showcase": matrix_shape(16, 128, 128),
        "wide": matrix_shape(6, 1536, 384),
    },
    flops=lambda case: products(case.arrays["matrix"].shape, case.static.get("steps", 5)),
    bytes=lambda case, size: 2 * size * case.arrays["matrix"].size,
    bugs=(
        Bug("one norm for the whole stack", "numpy", "np.sum(x * x, axis=(-2, -1), keepdims=True)", "np.sum(x * x)"),
        Bug("rows normalised", "numpy", "axis=(-2, -1)", "axis=-1"),
        Bug("eps added to the norm", "numpy", "np.maximum(norm, eps)", "(norm + eps)"),
        Bug("one step too few", "numpy", "range(steps)", "range(steps - 1)"),
        Bug("coefficients b and c exchanged", "numpy", "b * product + c *", "c * product + b *"),
        Bug("cubic instead of quintic", "numpy", "c * (product @ product)", "c * product"),
        Bug("coefficient off by a thousandth", "numpy", "a * x +", "(a + 1e-3) * x +"),
        Bug("tall matrices not turned back", "torch", "(x.mT if tall else x).reshape", "x.reshape"),
        Bug("tall matrices not turned", "torch", "(matrix.mT if tall else matrix).reshape", "matrix.reshape"),
        Bug("0/0 for a zero matrix", "torch", ".clamp(min=eps)", ""),
        Bug("spectral norm", "torch", "matrix_norm(x, keepdim=True)", "matrix_norm(x, 2, keepdim=True)"),
        Bug("addition of A forgotten", "torch", "beta=_B, alpha=_C", "beta=0, alpha=_C"),
    ),
)


def draw_settings(source):
    settings = {
        "lr": source.choice(1e-3, 0.1),
        "momentum": source.choice(0.95, 0.95, 0.5, 0.0),
        "weight_decay": source.choice(0.0, 0.1, 5.0),
    }
    source.event("large decay", settings["weight_decay"] == 5.0)
    source.event("no momentum", settings["momentum"] == 0)
    return settings


def draw_muon(source):
    shape = draw_matrix(source)
    first = source.flag()
    source.event("first step", first)
    arrays = {
        "param": source.weight("param", shape),
        "grad": source.array("grad", shape, GRADIENTS),
        "state": {"momentum": np.zeros(shape) if first else source.array("state", shape, ("one", "small"))},
    }
    return source.case(arrays, **draw_settings(source))


def muon_length_error(arguments, dy, unit):
    """The same, times the step."""
    momentum, grad = arguments["momentum"], arguments["grad"]
    buffer = momentum * arguments["state"]["momentum"] + (1 - momentum) * grad
    step = arguments["lr"] * 0.2 * np.sqrt(max(grad.shape[-2:]))
    return {"value[0]": step * length_error(momentum * buffer + (1 - momentum) * grad, unit)}


def muon_shape(*size):
    def build(rng):
        param, grad, momentum = rng.standard_normal((3, *size))
        return Case({"param": param, "grad": grad, "state": {"momentum": momentum}}, {"lr": 1e-3, "weight_decay": 0.1})

    return build


MUON = Component(
    name="muon",
    numpy=numpy_muon.muon,
    torch=torch_muon.muon,
    draw=draw_muon,
    cancellation=muon_length_error,
    dtypes=("float64", "float32"),
    events=(*ASPECTS, "stack", "first step", "large decay", "no momentum", "zero"),
    shapes={"small": muon_shape(2, 5, 11), "showcase": muon_shape(16, 128, 128), "wide": muon_shape(6, 1536, 384)},
    flops=lambda case: products(case.arrays["param"].shape) + 10 * case.arrays["param"].size,
    bytes=lambda case, size: 5 * size * case.arrays["param"].size,  # three arrays in, two out
    bugs=(
        Bug(
            "no Nesterov",
            "numpy",
            "orthogonalise(momentum * buffer + (1.0 - momentum) * grad)",
            "orthogonalise(buffer)",
        ),
        Bug(
            "momentum not averaged",
            "numpy",
            'state["momentum"] + (1.0 - momentum) * grad',
            'state["momentum"] + grad',
        ),
        Bug("whole gradient added to the momentum", "numpy", "buffer + (1.0 - momentum) * grad)", "buffer + grad)"),
        Bug("scale by the shorter side", "numpy", "max(param.shape[-2:])", "min(param.shape[-2:])"),
        Bug(
            "scale of the original post",
            "numpy",
            "0.2 * math.sqrt(max(param.shape[-2:]))",
            "math.sqrt(max(1, param.shape[-2] / param.shape[-1]))",
        ),
        Bug("scale by the stack", "numpy", "max(param.shape[-2:])", "max(param.shape)"),
        Bug("decay without the learning rate", "numpy", "1.0 - lr * weight_decay", "1.0 - 0.01 * weight_decay"),
        Bug(
            "decay of the updated parameter",
            "numpy",
            "- (lr * scale) * update",
            "- (lr * scale) * update * (1 - lr * weight_decay)",
        ),
        Bug(
            "scale forgotten",
            "torch",
            "return 0.2 * math.sqrt(max(matrix.shape[-2:]))",
            "return 0.2",
            function="_step_size",
        ),
        Bug("no Nesterov in Torch", "torch", "(1 - momentum) * grad + momentum * buffer", "buffer"),
        Bug("old momentum ahead", "torch", "+ momentum * buffer", '+ momentum * state["momentum"]'),
        Bug("uphill", "torch", "- lr * _step_size", "+ lr * _step_size"),
    ),
)


def draw_heads(source):
    """(rows of the queries, rows of the keys and of the values), (width): grouped queries, heads of any width."""
    shared, group, features = source.integer(1, 3), source.choice(1, 1, 2, 3), source.integer(1, 4)
    width = source.choice(shared * group * features, source.integer(1, 9))
    source.event("grouped queries", group > 1)
    source.event("heads wider than the stream", shared * group * features > width)
    return shared * group * features, shared * features, width


def draw_dicts(source):
    """Parameters whose matrices fall into groups of one shape, with the three stacked projections among them."""
    queries, keys, width = draw_heads(source)
    hidden = source.choice(width, 3 * width, source.integer(1, 13))
    shapes = {
        "blocks.0.attention.query_key_value.weight": (queries + 2 * keys, width),
        "blocks.0.attention.output.weight": (width, queries),
        "blocks.0.feed_forward.gate_up.weight": (2 * hidden, width),
        "blocks.1.feed_forward.up.weight": (hidden, width),
        "blocks.0.feed_forward.down.weight": (width, hidden),
    }
    kept = list(shapes)[source.integer(0, 2) :]
    first = source.flag()
    source.event("first step", first)
    source.event("all square", hidden == width)
    source.event("three projections", len(kept) == len(shapes))
    arrays = {"params": {}, "grads": {}, "states": {}}
    for name in kept:
        arrays["params"][name] = source.weight(name, shapes[name])
        arrays["grads"][name] = source.array(name, shapes[name], GRADIENTS)
        momentum = source.rng.standard_normal(shapes[name])
        arrays["states"][name] = {"momentum": 0 * momentum if first else momentum}
    source.layouts.clear()  # optimisers own their tensors: these are contiguous
    return source.case(arrays, **draw_settings(source))


def each_or_all(function, arguments):
    """The reference takes one matrix after the other; the batched form takes copies of all parameters."""
    arguments = tree_map(lambda leaf: leaf.clone() if torch.is_tensor(leaf) else leaf, arguments)
    params, grads, states = (arguments.pop(name) for name in ("params", "grads", "states"))
    if function.__name__ == "muon_":
        function(params, grads, states, **arguments)
        return params, states
    moved = {}
    for name, param in params.items():
        parts = [numpy_muon.matrices(name, x, params) for x in (param, grads[name], states[name]["momentum"])]
        steps = [function(matrix, grad, {"momentum": buffer}, **arguments) for matrix, grad, buffer in zip(*parts)]
        moved[name] = np.concatenate([matrix for matrix, _ in steps])
        states[name] = {"momentum": np.concatenate([state["momentum"] for _, state in steps])}
    return moved, states


def lerp_error(grads, states, momentum):
    """The momentum by torch.lerp; see adamw.py."""
    return {
        f"value[1][{name}][momentum]": lerp_terms(state["momentum"], grads[name], 1 - momentum)
        for name, state in states.items()
    }


MUON_IN_PLACE = Component(
    name="muon_",
    numpy=numpy_muon.muon,
    torch=torch_muon.muon_,
    weight=3,
    draw=draw_dicts,
    call=each_or_all,
    cancellation=lambda a, dy, unit: lerp_error(a["grads"], a["states"], a["momentum"]),
    dtypes=("float64", "float32"),
    events=(
        "first step", "all square", "three projections", "large decay", "no momentum", "grouped queries",
        "heads wider than the stream",
    ),
    compiles=False,  # its groups depend on the names; orthogonalise, where the time goes, is compiled on its own
    bugs=(
        Bug("no Nesterov", "torch", "torch.lerp(grads[name], buffer, momentum)", "buffer"),
        Bug(
            "gradient and momentum exchanged",
            "torch",
            "torch.lerp(grads[name], buffer, momentum)",
            "torch.lerp(buffer, grads[name], momentum)",
        ),
        Bug("momentum too slow", "torch", "for name in params], 1 - momentum)", "for name in params], momentum)"),
        Bug("no decay", "torch", "torch._foreach_mul_(list(params.values()), 1 - lr * weight_decay)", "pass"),
        Bug("three projections as one", "torch", "matrices(name, update, params)", "[update]", "orthogonalise_"),
        Bug("steps handed out in the wrong order", "torch", ".unbind()", ".unbind()[::-1]", "orthogonalise_"),
        Bug("gates and values as one", "torch", 'name.endswith("gate_up.weight")', "False", "matrices"),
        Bug("scale of the stack", "torch", "_step_size(orthogonal)", "_step_size(orthogonal.flatten(0, 1))", "orthogonalise_"),
        Bug("Newton-Schulz in 16 bits", "torch", "dtype or group[0].dtype", "torch.bfloat16", "orthogonalise_"),
    ),
)


def draw_one(source):
    return source.case({"param": source.array("param", (*source.leading(), source.size(), source.size()))})


INIT_STATE = Component(
    name="muon_init_state",
    numpy=numpy_muon.init_state,
    torch=torch_muon.init_state,
    draw=draw_one,
    dtypes=("float64", "float32"),
    exact=True,
    compiles=False,
    bugs=(
        Bug("begins at 1", "numpy", "np.zeros_like", "np.ones_like"),
        Bug("one momentum for each row", "numpy", "np.zeros_like(param)", "np.zeros_like(param[..., :1])"),
        Bug("begins at the parameter", "torch", "torch.zeros_like(param)", "param * 1"),
        Bug("AdamW's state", "torch", '"momentum"', '"m"'),
        Bug("in float32", "torch", "torch.zeros_like(param)", "torch.zeros_like(param).float()", dtype="float64"),
    ),
)


def draw_named(source):
    """A parameter of a block whose attention is given by two shapes, and another array of its shape."""
    queries, keys, width = draw_heads(source)
    name = source.choice("query_key_value", "query_key_value", "output", "gate_up", "up", "down")
    attention = {"query_key_value": (queries + 2 * keys, width), "output": (width, queries)}
    shape = attention.get(name, (2 * source.size(9), source.size(17)))
    source.event(name)
    source.event("unequal parts", name == "query_key_value" and queries > keys)
    full = f"blocks.3.{'attention' if name in attention else 'feed_forward'}.{name}.weight"
    params = {f"blocks.3.attention.{part}.weight": source.rng.standard_normal(size) for part, size in attention.items()}
    arrays = {"array": source.array("array", shape, ("one",)), "params": params}
    return source.case(arrays, name=full)


MATRICES = Component(
    name="matrices",
    numpy=numpy_muon.matrices,
    torch=torch_muon.matrices,
    draw=draw_named,
    dtypes=("float64", "float32"),
    exact=True,
    events=("query_key_value", "output", "gate_up", "up", "down", "unequal parts", "heads wider than the stream"),
    compiles=False,
    bugs=(
        Bug("three projections as one", "numpy", 'name.endswith("query_key_value.weight")', "False"),
        Bug("keys and values as one", "numpy", "(queries, (queries + array.shape[0]) // 2)", "(queries,)"),
        Bug("three equal parts", "numpy", "(queries, (queries + array.shape[0]) // 2)", "(len(array) // 3, 2 * len(array) // 3)"),
        Bug("queries as wide as the stream", "numpy", ".shape[1]", ".shape[0]"),
        Bug("gates and values as one", "numpy", "np.split(array, 2, axis=-2)", "[array]"),
        Bug("every other row gates", "torch", "list(array.chunk(2, -2))", "[array[..., ::2, :], array[..., 1::2, :]]"),
        Bug("every up-projection halved", "torch", '"gate_up.weight"', '"up.weight"'),
        Bug("keys and queries exchanged", "torch", "(queries, shared, shared)", "(shared, queries, shared)"),
    ),
)

COMPONENTS = (ORTHOGONALISE, MUON, MUON_IN_PLACE, INIT_STATE, MATRICES)
