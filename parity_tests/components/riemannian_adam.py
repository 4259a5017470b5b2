"""Declarations of Riemannian gradient descent and Adam, and of their forms in place."""

import numpy as np
import torch

import numpy_ref.hyperbolic.riemannian_adam as numpy_adam
import numpy_ref.hyperbolic.riemannian_sgd as numpy_sgd
import torch_impl.hyperbolic.riemannian_adam as torch_adam
import torch_impl.hyperbolic.riemannian_sgd as torch_sgd
from parity_tests import curved
from parity_tests.components.adamw import lerp_terms
from parity_tests.components.poincare import tangent
from parity_tests.components.tangent import DTYPES
from parity_tests.harness.declaration import Bug, Component
from parity_tests.harness.trees import tree_map

REGIMES = "one", "one", "close to the origin", "origin among them"


def draw_point(source, c, manifold):
    """(points, Euclidean gradients) of a manifold; some gradients are 0."""
    v = curved.vectors(source, curved.shape(source), c, REGIMES)
    x = curved.on_hyperboloid(v, c) if manifold == "lorentz" else curved.in_ball(v, c)
    grad = source.rng.standard_normal(x.shape) * source.choice(1.0, 1.0, 30.0, 1e-3)
    grad *= source.rng.random((*x.shape[:-1], 1)) < 0.9
    source.event("no gradient", bool((grad == 0).all(-1).any()))
    return x, grad


def draw_manifold(source):
    manifold = source.choice("poincare", "lorentz")
    source.event(manifold)
    return manifold, curved.curvature(source)


def draw_sgd(source):
    manifold, c = draw_manifold(source)
    x, grad = draw_point(source, c, manifold)
    return source.case({"param": x, "grad": grad, "c": c}, lr=source.choice(0.01, 0.1) / float(c), manifold=manifold)


EVENTS = "poincare", "lorentz", "other curvature", "no gradient", "origin among them"
RIEMANNIAN_SGD = Component(
    name="riemannian_sgd",
    numpy=numpy_sgd.riemannian_sgd,
    torch=torch_sgd.riemannian_sgd,
    draw=draw_sgd,
    dtypes=DTYPES,
    events=EVENTS,
    compiles=False,
    weight=2,
    bugs=(
        Bug("uphill", "torch", ".mul(-lr)", ".mul(lr)"),
        Bug("Euclid's gradient", "torch", "named(manifold).riemannian_gradient(param, grad, c)", "grad"),
        Bug("Euclid's step", "numpy", "moved, _ = space.exp_map(param, step, c)", "moved = param + step", "retract"),
        Bug("always the ball", "numpy", "retract(param, step, c, manifold)", "retract(param, step, c)"),
        Bug("curvature doubled", "torch", "named(manifold).exp_map(param, step, c)", "named(manifold).exp_map(param, step, c * 2)", "retract"),
    ),
)  # fmt: skip


def draw_retract(source):
    manifold, c = draw_manifold(source)
    v = curved.vectors(source, curved.shape(source), c, REGIMES)
    if manifold == "lorentz":
        x = curved.on_hyperboloid(v, c)
        step = curved.tangent_at(source, x, c)
    else:
        x = curved.in_ball(v, c)
        step = tangent(source, x, c)
        if source.flag():  # beyond what the format can tell from the border
            step = 40 * v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9) / np.sqrt(c)
            source.event("to the border", bool((v != 0).any()))
    return source.case({"param": x, "step": step, "c": c}, manifold=manifold)


RETRACT = Component(
    name="retract",
    numpy=numpy_sgd.retract,
    torch=torch_sgd.retract,
    draw=draw_retract,
    dtypes=DTYPES,
    events=("poincare", "lorentz", "other curvature", "no step", "to the border"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("not projected", "torch", "poincare.project(named(manifold).exp_map(param, step, c), c)", "named(manifold).exp_map(param, step, c)"),
        Bug("sum", "torch", "lorentz.exp_map(param, step, c)", "lorentz.project(param + step, c)"),
        Bug("Moebius sum with the step itself", "torch", "named(manifold).exp_map(param, step, c)", "poincare.mobius_add(param, step, c)"),
        Bug("curvature 1 in the projection", "numpy", "space.project(moved, c)", "space.project(moved, c * 0 + 1)"),
    ),
)  # fmt: skip


def draw_adam(source, points=1):
    manifold, c = draw_manifold(source)
    first = source.flag()
    step = 0 if first else source.choice(1, 2, 10, 1000)
    source.event("first step", first)
    params, grads, states = {}, {}, {}
    for name in ("a.weight", "b.weight")[:points]:
        params[name], grads[name] = draw_point(source, c, manifold)
        x = params[name]
        m = curved.tangent_at(source, x, c) if manifold == "lorentz" else tangent(source, x, c)
        v = source.rng.random((*x.shape[:-1], 1)) + 0.1
        states[name] = {"step": step, "m": 0 * m if first else m, "v": 0 * v if first else v}
    settings = {
        "lr": source.choice(1e-3, 0.05) / float(np.sqrt(c)), "beta1": source.choice(0.9, 0.5), "beta2": source.choice(0.999, 0.9),
        "eps": source.choice(1e-8, 1e-3), "manifold": manifold,
    }  # fmt: skip
    return {"params": params, "grads": grads, "states": states, "c": c}, settings


def draw_one(source):
    arrays, settings = draw_adam(source)
    alone = {"param": arrays["params"]["a.weight"], "grad": arrays["grads"]["a.weight"], "state": arrays["states"]["a.weight"]}
    return source.case(alone | {"c": arrays["c"]}, **settings)


def lerp_error(arguments, dy, unit):
    """``lerp`` adds old + weight (new - old), where the reference takes (1 - weight) old + weight new."""
    c, manifold, x = arguments["c"], numpy_sgd.named(arguments["manifold"]), arguments["param"]
    gradient = manifold.riemannian_gradient(x, arguments["grad"], c)
    square = manifold.squared_length(x, gradient, c)
    state, beta1, beta2 = arguments["state"], arguments["beta1"], arguments["beta2"]
    m, v = lerp_terms(state["m"], gradient, 1 - beta1), lerp_terms(state["v"], square, 1 - beta2)
    return {"value[1][m]": m, "value[1][v]": v}


RIEMANNIAN_ADAM = Component(
    name="riemannian_adam",
    numpy=numpy_adam.riemannian_adam,
    torch=torch_adam.riemannian_adam,
    draw=draw_one,
    dtypes=DTYPES,
    cancellation=lerp_error,
    events=(*EVENTS, "first step"),
    compiles=False,
    weight=2,
    bugs=(
        Bug("momentum not carried", "torch", '"m": carried', '"m": m'),
        Bug("uphill", "torch", "-lr / pace", "lr / pace"),
        Bug("squares of coordinates", "torch", "space.squared_length(param, gradient, c)", "gradient.square()[..., :1]"),
        Bug("Euclid's length", "torch", "space.squared_length(param, gradient, c)", "gradient.square().sum(-1, keepdim=True)"),
        Bug("first moment not corrected", "torch", ".mul(1 - beta1**step)", ""),
        Bug("second moment not corrected", "numpy", "v / (1.0 - beta2**step)", "v"),
        Bug("Euclid's gradient", "numpy", "space.riemannian_gradient(param, grad, c)", "grad"),
        Bug("step not counted", "numpy", 'state["step"] + 1', 'max(1, state["step"])'),
        Bug("eps inside the root", "torch", ".sqrt().add(eps)", ".add(eps).sqrt()"),
    ),
)  # fmt: skip


def on_copies(function, arguments):
    """The forms in place take copies of all, which they overwrite; the reference takes one after the other."""
    arguments = tree_map(lambda leaf: leaf.clone() if torch.is_tensor(leaf) else leaf, arguments)
    if function.__name__.endswith("_"):
        function(**arguments)
        return arguments["params"], arguments.get("states")
    params, grads, states = (arguments.pop(name, {}) for name in ("params", "grads", "states"))
    found = {name: function(params[name], grads[name], *([states[name]] if states else []), **arguments) for name in params}
    if states:
        return {name: one[0] for name, one in found.items()}, {name: one[1] for name, one in found.items()}
    return found, None


def draw_sgd_dicts(source):
    arrays, settings = draw_adam(source, 2)
    del arrays["states"]
    return source.case(arrays, lr=0.01 / float(arrays["c"]), manifold=settings["manifold"])


def draw_adam_dicts(source):
    arrays, settings = draw_adam(source, 2)
    return source.case(arrays, **settings)


def lerp_error_of_all(arguments, dy, unit):
    terms = {}
    for name in arguments["params"]:
        own = {"param": arguments["params"][name], "grad": arguments["grads"][name], "state": arguments["states"][name]}
        for path, term in lerp_error(arguments | own, dy, unit).items():
            terms[path.replace("value[1]", f"value[1][{name}]")] = term
    return terms


RIEMANNIAN_SGD_IN_PLACE = Component(
    name="riemannian_sgd_",
    numpy=numpy_sgd.riemannian_sgd,
    torch=torch_sgd.riemannian_sgd_,
    draw=draw_sgd_dicts,
    call=on_copies,
    dtypes=DTYPES,
    events=("poincare", "lorentz", "other curvature"),
    compiles=False,
    weight=3,
    bugs=(
        Bug("not in place", "torch", "param.copy_(", "param.clone().copy_("),
        Bug("gradient of another", "torch", "grads[name]", 'grads["a.weight"].expand_as(param) if grads["a.weight"].shape == param.shape else 0 * param'),
        Bug("always the ball", "torch", "lr, c, manifold)", "lr, c)"),
        Bug("twice", "torch", "for name, param in params.items():", "for name, param in [*params.items()] * 2:"),
    ),
)  # fmt: skip
RIEMANNIAN_ADAM_IN_PLACE = Component(
    name="riemannian_adam_",
    numpy=numpy_adam.riemannian_adam,
    torch=torch_adam.riemannian_adam_,
    draw=draw_adam_dicts,
    call=on_copies,
    dtypes=DTYPES,
    cancellation=lerp_error_of_all,
    events=("poincare", "lorentz", "first step", "other curvature"),
    compiles=False,
    weight=3,
    bugs=(
        Bug("momentum forgotten", "torch", 'state["m"].copy_(new["m"])', "pass"),
        Bug("mean square forgotten", "torch", 'state["v"].copy_(new["v"])', "pass"),
        Bug("step forgotten", "torch", 'state["step"] = new["step"]', "pass"),
        Bug("not in place", "torch", "param.copy_(moved)", "param = moved"),
        Bug("betas exchanged", "torch", "beta1, beta2, eps", "beta2, beta1, eps"),
    ),
)  # fmt: skip


def draw_state(source):
    return source.case({"param": source.array("param", curved.shape(source), ("one",))})


INIT_STATE = Component(
    name="riemannian_adam_init_state",
    numpy=numpy_adam.init_state,
    torch=torch_adam.init_state,
    draw=draw_state,
    dtypes=DTYPES,
    exact=True,
    compiles=False,
    bugs=(
        Bug("begins at step 1", "numpy", '"step": 0', '"step": 1'),
        Bug("a square for each coordinate", "torch", "param[..., :1]", "param"),
        Bug("momentum begins at the point", "torch", "torch.zeros_like(param)", "param * 1"),
        Bug("one square for all", "numpy", "param[..., :1]", "param.ravel()[:1]"),
    ),
)

COMPONENTS = (
    RIEMANNIAN_SGD, RETRACT, RIEMANNIAN_SGD_IN_PLACE, RIEMANNIAN_ADAM, RIEMANNIAN_ADAM_IN_PLACE, INIT_STATE,
)  # fmt: skip
