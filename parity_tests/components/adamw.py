"""Declarations of adamw, its batched form adamw_, init_state and decays. Optimiser states are float32 or finer."""

import numpy as np
import torch

import numpy_ref.training.adamw as numpy_adamw
import torch_impl.training.adamw as torch_adamw
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.trees import tree_map

REGIMES = ("ordinary", "gradients of the size of eps", "gradient 0", "first step")


def draw_tensors(source, name, shape, regime):
    """(parameter, gradient, first moment, second moment) in a regime."""
    normal = source.rng.standard_normal
    param, grad = source.weight(name, shape), source.array("grad", shape)
    size = 1.0
    if regime == "gradients of the size of eps":
        size = 1e-8
        grad = normal(shape) * size
    if regime == "gradient 0":
        grad = np.zeros(shape)
    if regime == "first step":
        return param, grad, np.zeros(shape), np.zeros(shape)
    return param, grad, normal(shape) * size, (normal(shape) * size) ** 2


def draw_settings(source):
    settings = {
        "lr": source.choice(1e-3, 0.1),
        "beta1": source.choice(0.9, 0.9, 0.5, 0.0),
        "beta2": source.choice(0.95, 0.999, 0.0),
        "eps": source.choice(1e-8, 1e-3),
        "weight_decay": source.choice(0.0, 0.1, 5.0),
    }
    source.event("large decay", settings["weight_decay"] == 5.0)
    return settings


def draw(source):
    regime, shape = source.choice(*REGIMES), (*source.leading(), source.size())
    source.event(regime)
    param, grad, m, v = draw_tensors(source, "param", shape, regime)
    step = 0 if regime == "first step" else source.choice(1, 2, 10, 1000)
    state = {"step": step, "m": m, "v": v}
    source.layouts["state"] = source.choice("contiguous", "transposed", "sliced")
    return source.case({"param": param, "grad": grad, "state": state}, **draw_settings(source))


def shape(*size):
    def build(rng):
        param, grad, m, v = rng.standard_normal((4, *size))
        arrays = {"param": param, "grad": grad, "state": {"step": 3, "m": m, "v": v * v}}
        return Case(arrays, {"lr": 1e-3, "weight_decay": 0.1})

    return build


def _size(case):
    return case.arrays["param"].size


ADAMW = Component(
    name="adamw",
    numpy=numpy_adamw.adamw,
    torch=torch_adamw.adamw,
    draw=draw,
    dtypes=("float64", "float32"),
    elementwise=True,
    events=(*REGIMES, "large decay", "tiny", "heavy", "strided"),
    shapes={"small": shape(3, 33), "showcase": shape(512, 128), "wide": shape(1536, 384)},
    flops=lambda case: 14 * _size(case),
    bytes=lambda case, size: 7 * size * _size(case),  # four arrays in, three out
    bugs=(
        Bug(
            "eps before the bias correction",
            "numpy",
            "np.sqrt(vhat) + eps",
            "(np.sqrt(v) + eps) / (1.0 - beta2**step) ** 0.5",
        ),
        Bug("eps inside the root", "numpy", "np.sqrt(vhat) + eps", "np.sqrt(vhat + eps)"),
        Bug("no eps", "numpy", "np.sqrt(vhat) + eps", "np.sqrt(vhat) + 1e-30"),
        Bug(
            "coupled decay",
            "numpy",
            "param * (1.0 - lr * weight_decay) - lr * mhat /",
            "param - lr * (mhat + weight_decay * param) /",
        ),
        Bug(
            "decay of the updated parameter",
            "numpy",
            "param * (1.0 - lr * weight_decay) - lr * mhat / (np.sqrt(vhat) + eps)",
            "(param - lr * mhat / (np.sqrt(vhat) + eps)) * (1.0 - lr * weight_decay)",
        ),
        Bug("decay without the learning rate", "numpy", "lr * weight_decay", "0.01 * weight_decay"),
        Bug("decay of the wrong sign", "numpy", "1.0 - lr * weight_decay", "1.0 + lr * weight_decay"),
        Bug("first moment not corrected", "numpy", "m / (1.0 - beta1**step)", "+m"),
        Bug("second moment not corrected", "numpy", "v / (1.0 - beta2**step)", "+v"),
        Bug("bias corrected as on the step before", "numpy", "beta1**step", "beta1 ** max(1, step - 1)"),
        Bug("step not counted", "numpy", 'state["step"] + 1', 'max(1, state["step"])'),
        Bug("betas exchanged", "torch", 'beta2 * state["v"] + (1 - beta2)', 'beta1 * state["v"] + (1 - beta1)'),
        Bug("second moment of the momentum", "torch", "* grad * grad", "* m * m"),
        Bug("eps inside the root in Torch", "torch", "vhat.sqrt() + eps", "(vhat + eps).sqrt()"),
        Bug("step along the raw moment", "torch", "lr * mhat", "lr * m"),
        Bug("writes into the old state", "torch", 'beta1 * state["m"] +', 'state["m"].mul_(beta1) +'),
    ),
)


def draw_dicts(source):
    """Several parameters at one step; each has a regime of its own, except that the first step is everybody's."""
    first = source.flag()
    names = ("token_embedding.weight", "final_norm.weight", "final_norm.bias", "output.weight")[: source.integer(1, 4)]
    params, grads, states = {}, {}, {}
    step = 0 if first else source.choice(1, 2, 10, 1000)
    for name in names:
        lead = (source.integer(1, 4),) if name.startswith(("token", "output")) else ()
        regime = "first step" if first else source.choice(*REGIMES[:3])
        source.event(regime)
        params[name], grads[name], m, v = draw_tensors(source, name, (*lead, source.size()), regime)
        states[name] = {"step": step, "m": m, "v": v}
    source.event("one parameter", len(names) == 1)
    return source.case({"params": params, "grads": grads, "states": states}, **draw_settings(source))


def each_or_all(function, arguments):
    """The reference takes one parameter after the other; the batched form takes copies of all, which it overwrites."""
    arguments = tree_map(lambda leaf: leaf.clone() if torch.is_tensor(leaf) else leaf, arguments)
    params, grads, states = (arguments.pop(name) for name in ("params", "grads", "states"))
    if function.__name__ == "adamw_":
        function(params, grads, states, **arguments)
        return params, states
    decay = arguments.pop("weight_decay")
    for name, param in params.items():
        own = decay if param.ndim >= 2 and not name.endswith(".bias") else 0.0
        params[name], states[name] = function(param, grads[name], states[name], weight_decay=own, **arguments)
    return params, states


def lerp_terms(old, new, weight):
    """What torch.lerp adds up: old + weight (new - old), where the reference takes (1 - weight) old + weight new."""
    return np.abs(old) + weight * np.abs(new - old)


def lerp_error(grads, states, lr, beta1, beta2, eps):
    """Those terms in the first moments, and what becomes of them in the parameters."""
    terms = {}
    for name, state in states.items():
        grad, step = grads[name], state["step"] + 1
        vhat = (beta2 * state["v"] + (1 - beta2) * grad * grad) / (1 - beta2**step)
        moment = lerp_terms(state["m"], grad, 1 - beta1)
        terms[f"value[1][{name}][m]"] = moment
        terms[f"value[0][{name}]"] = lr * moment / (1 - beta1**step) / (np.sqrt(vhat) + eps)
    return terms


def lerp_error_of_all(arguments, dy, unit):
    names = ("grads", "states", "lr", "beta1", "beta2", "eps")
    return lerp_error(*(arguments[name] for name in names))


ADAMW_IN_PLACE = Component(
    name="adamw_",
    numpy=numpy_adamw.adamw,
    torch=torch_adamw.adamw_,
    draw=draw_dicts,
    call=each_or_all,
    cancellation=lerp_error_of_all,
    dtypes=("float64", "float32"),
    elementwise=True,
    events=(*REGIMES, "one parameter", "large decay", "tiny"),
    compiles=False,  # one call of a fused kernel for each line: there is nothing left to fuse
    bugs=(
        Bug("norms decay", "torch", " if decays(name, param.shape)", ""),
        Bug("matrices do not decay", "torch", "if decayed and weight_decay:", "if decayed and weight_decay > 10:"),
        Bug("momentum the wrong way round", "torch", "lerp_(m, g, 1 - beta1)", "lerp_(m, g, beta1)"),
        Bug(
            "eps before the bias correction",
            "torch",
            "add_(denominator, eps)",
            "add_(denominator, eps / math.sqrt(1 - beta2**step))",
        ),
        Bug("bias correction not under the root", "torch", "math.sqrt(1 - beta2**step)", "(1 - beta2**step)"),
        Bug("first moment not corrected", "torch", "-lr / (1 - beta1**step)", "-lr"),
        Bug(
            "every parameter counts as a step",
            "torch",
            "step = states[next(iter(params))]",
            "step = len(params) - 1 + states[next(iter(params))]",
        ),
        Bug("second moment not decayed", "torch", "torch._foreach_mul_(v, beta2)", "pass"),
    ),
)


def draw_one(source):
    return source.case({"param": source.array("param", (*source.leading(), source.size()))})


INIT_STATE = Component(
    name="adamw_init_state",
    numpy=numpy_adamw.init_state,
    torch=torch_adamw.init_state,
    draw=draw_one,
    dtypes=("float64", "float32"),
    exact=True,
    compiles=False,
    bugs=(
        Bug("begins at step 1", "numpy", '"step": 0', '"step": 1'),
        Bug("second moment begins at 1", "numpy", '"v": np.zeros_like', '"v": np.ones_like'),
        Bug("first moment begins at the parameter", "torch", '"m": torch.zeros_like(param)', '"m": param * 1'),
        Bug("one moment for each row", "torch", '"v": torch.zeros_like(param)', '"v": torch.zeros_like(param[:1])'),
        Bug(
            "moments in float32",
            "torch",
            '"m": torch.zeros_like(param)',
            '"m": torch.zeros_like(param).float()',
            dtype="float64",
        ),
    ),
)


def draw_name(source):
    name = source.choice("output.weight", "final_norm.weight", "blocks.0.feed_forward.up.bias")
    shape = tuple(source.integer(1, 9) for _ in range(source.integer(0, 3)))
    source.event(f"{len(shape)} axes")
    return source.case({}, name=name, shape=shape)


DECAYS = Component(
    name="decays",
    numpy=numpy_adamw.decays,
    torch=torch_adamw.decays,
    draw=draw_name,
    dtypes=("float64",),
    exact=True,
    events=("1 axes", "2 axes", "3 axes"),
    compiles=False,
    bugs=(
        Bug("norms decay", "numpy", ">= 2", ">= 1", dtype="float64"),
        Bug("matrices do not decay", "numpy", ">= 2", "> 2", dtype="float64"),
        Bug("stacks of matrices do not decay", "torch", ">= 2", "== 2", dtype="float64"),
        Bug("stacked biases decay", "numpy", ' and not name.endswith(".bias")', "", dtype="float64"),
        Bug("weights decay, by name", "torch", "len(shape) >= 2", 'name.endswith("weight")', dtype="float64"),
    ),
)

COMPONENTS = (ADAMW, ADAMW_IN_PLACE, INIT_STATE, DECAYS)
