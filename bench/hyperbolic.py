"""Hyperbolic space: distances, exponential and logarithmic maps, a step of Riemannian Adam, ours and geoopt's.

Every pair of calls gets the same points, and each result is held against the NumPy reference in the longest format that
there is, at the very coordinates that the call was given. Times are of points near the origin, where both are right. How
right they are elsewhere is a figure of its own: near points, points far out, equal points.
"""

import importlib

import numpy as np

from bench import clock, gate, rows
from bench.report_parts import factor, milliseconds, select, table

KIND = "hyperbolic"
SHAPE = {"points": 20_000, "dimensions": 10}
SLACK = 64  # acosh of an inner product, which geoopt takes, loses that much on ordinary points
# name -> what it is called with (see ``_points``), and geoopt's name
OPERATIONS = {
    "lorentz.distance": ("xy", "dist"),
    "lorentz.exp_map": ("xu", "expmap"),
    "lorentz.log_map": ("xy", "logmap"),
    "lorentz.exp_map_origin": ("v", "expmap0"),
    "lorentz.log_map_origin": ("x", "logmap0"),
    "poincare.distance": ("pq", "dist"),
    "poincare.exp_map": ("pt", "expmap"),
    "poincare.log_map": ("pq", "logmap"),
    "poincare.exp_map_origin": ("t", "expmap0"),
    "poincare.log_map_origin": ("p", "logmap0"),
}
COMPILED = ("lorentz.distance",)  # by torch.compile as well: many small kernels become a few
STEPS = ("lorentz.riemannian_adam", "poincare.riemannian_adam")
NOT_A_NUMBER = 1e300  # stands for it in figures
PLACES = {
    "near": "near points, 2 from the origin, 0.002 apart across the radius",
    "far": "points 9 and 10 from the origin in one direction",
    "close": "points 1e-4 from the origin",
}


def groups(options):
    """Ours and geoopt's in both formats, taking turns; then ours compiled."""
    if options.quick or options.device != "cpu":
        return []
    who = ("torch", *("geoopt" for _ in "x" if options.peers))
    formats = "float32", "float64"
    return [[_job(implementation, dtype) for dtype in formats for implementation in who] + [_job("torch", dtype, True) for dtype in formats]]


def _job(implementation, dtype, compiled=False):
    modes = [f"{name} {mode}" for name in (COMPILED if compiled else OPERATIONS) for mode in ("forward", "both")]
    modes += [f"{name} step" for name in (() if compiled else STEPS)]
    return {
        "kind": KIND, "name": "maps", "implementation": implementation, "dtype": dtype, "compiled": compiled,
        "allocator": "tuned", "shape": SHAPE, "modes": modes, "device": "cpu",
    }  # fmt: skip


# -- in the worker ------------------------------------------------------------------------------------------------


def measure(job):
    """The answer to a job; see ``worker``."""
    import torch

    dtype, budget = getattr(torch, job["dtype"]), job.get("budget", 0.12)
    known = {name: torch.from_numpy(value).to(dtype) for name, value in _points(job["shape"]).items()}
    call = {"torch": _ours, "geoopt": _geoopt}[job["implementation"]]
    modes, parities = {}, []
    chosen = COMPILED if job["compiled"] else OPERATIONS
    for name in chosen:
        letters, _ = OPERATIONS[name]
        leaves = [known[letter].clone().requires_grad_() for letter in letters]
        function = torch.compile(call(name)) if job["compiled"] else call(name)
        value = function(*leaves)
        dy = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
        wanted = _reference(name, leaves)
        found = value.detach().double().numpy()
        parities.append(gate.compare({name: found}, {name: wanted.astype(np.float64)}, job["dtype"], SLACK))
        error = {"error": float(np.abs(found - wanted).max() / np.abs(wanted).max())}
        calls = {"forward": lambda: function(*leaves), "both": lambda: torch.autograd.grad(function(*leaves), leaves, dy)}
        for mode, timed in calls.items():
            modes[f"{name} {mode}"] = _timed(timed, budget) | {"figures": error}
        if name == "lorentz.distance":
            modes[f"{name} forward"]["figures"] = error | _places(function, dtype)
    for name in () if job["compiled"] else STEPS:
        modes[f"{name} step"] = _timed(_adam(job["implementation"], name, known, dtype), budget)
    return {"modes": modes, "parity": max(parities, key=lambda parity: parity["worst"])}


def _timed(call, budget):
    return {"seconds": clock.summary(clock.timed(call, "cpu", budget)), "memory": clock.peak_memory(call)}


def _points(shape):
    """{letter: float64 array}: v and t vectors, x and y points of the hyperboloid, u tangent at x, p and q points of the
    ball, so far inside that geoopt does not draw results back from its border."""
    v, w, u = 0.5 * np.random.default_rng(8).standard_normal((3, shape["points"], shape["dimensions"]))
    x, y = _lifted(v), _lifted(w)
    u = np.concatenate(((x[:, 1:] * u).sum(-1, keepdims=True) / x[:, :1], u), -1)
    p, q = (points[:, 1:] / (1 + points[:, :1]) for points in (_lifted(0.5 * v), _lifted(0.5 * w)))
    return {"v": v, "t": 0.25 * v, "x": x, "y": y, "u": u, "p": p, "q": q}


def _lifted(v):
    """Points exp_0(v) of the hyperboloid."""
    r = np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-300)
    return np.concatenate((np.cosh(r), np.sinh(r) / r * v), -1)


def _reference(name, leaves):
    """By the NumPy reference in long doubles, from the numbers as they are in the format of the run."""
    model, _, function = name.partition(".")
    module = importlib.import_module(f"numpy_ref.hyperbolic.{model}")
    value, _ = getattr(module, function)(*(leaf.detach().numpy().astype(np.longdouble) for leaf in leaves), np.longdouble(1))
    return value


def _ours(name):
    model, _, function = name.partition(".")
    chosen = getattr(importlib.import_module(f"torch_impl.hyperbolic.{model}"), function)
    return lambda *points: chosen(*points, 1.0)


def _geoopt(name):
    import geoopt
    import torch

    manifold = geoopt.Lorentz() if name.startswith("lorentz") else geoopt.PoincareBall()
    chosen = getattr(manifold, OPERATIONS[name][1])
    if name == "lorentz.exp_map_origin":  # vectors at the origin have a time coordinate there, which is 0
        return lambda v: chosen(torch.nn.functional.pad(v, (1, 0)))
    if name == "lorentz.log_map_origin":
        return lambda x: chosen(x)[..., 1:]
    return chosen


def _places(function, dtype):
    """{figure: error} of distances: relative ones of the ``PLACES``, and of equal points the largest gradient."""
    import torch

    rng, found = np.random.default_rng(9), {}
    turned = rng.standard_normal((2, 1000, SHAPE["dimensions"]))
    u, other = turned / np.linalg.norm(turned, axis=-1, keepdims=True)
    across = other - (other * u).sum(-1, keepdims=True) * u
    pairs = {
        "near": (2 * u, 2 * u + 1e-3 * across / np.linalg.norm(across, axis=-1, keepdims=True)),
        "far": (9 * u, 10 * u),
        "close": (1e-4 * u, 1e-4 * other),
    }
    for place, vectors in pairs.items():
        x, y = (torch.from_numpy(_lifted(v)).to(dtype) for v in vectors)
        wanted = _reference("lorentz.distance", (x, y))
        errors = np.abs(function(x, y).double().numpy() / wanted - 1)
        found[place] = float(np.where(np.isnan(errors), NOT_A_NUMBER, errors).max())
    x = torch.from_numpy(_lifted(2 * u)).to(dtype)
    leaves = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    gradients = torch.autograd.grad(function(*leaves).sum(), leaves)
    return found | {"equal": float(max(gradient.abs().max() for gradient in gradients))}


def _adam(implementation, name, known, dtype):
    """A function that takes one step with the same gradient."""
    import torch

    manifold = name.partition(".")[0]
    point = known["x" if manifold == "lorentz" else "p"].clone()
    grad = torch.randn(point.shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    if implementation == "torch":
        from torch_impl.hyperbolic.riemannian_adam import init_state, riemannian_adam_

        state = {"points": init_state(point)}
        return lambda: riemannian_adam_({"points": point}, {"points": grad}, state, 1e-3, 1.0, manifold=manifold)
    import geoopt

    space = geoopt.Lorentz() if manifold == "lorentz" else geoopt.PoincareBall()
    param = geoopt.ManifoldParameter(point, manifold=space)
    optimizer = geoopt.optim.RiemannianAdam([param], lr=1e-3)

    def step():
        param.grad = grad.clone()  # geoopt changes it
        optimizer.step()

    return step


# -- in the report ------------------------------------------------------------------------------------------------


def sections(found, drawn):
    """Times beside geoopt's, and the errors of distances."""
    measured = select(found, kind=KIND)
    if not measured:
        return
    every = {(row["dtype"], row["mode"], row["compiled"]): row for row in measured if row["implementation"] == "torch"}
    ours = {(dtype, mode): row for (dtype, mode, compiled), row in every.items() if not compiled}
    theirs = {(row["dtype"], row["mode"]): row for row in measured if row["implementation"] == "geoopt"}
    lines = []
    for (dtype, mode, compiled), row in sorted(every.items(), key=lambda pair: pair[0][2]):
        peer = theirs.get((dtype, mode))
        same = peer if peer and peer["run"] == row["run"] else None
        ratio = factor(rows.ratio(same, row)[1]) if same else ""
        lines.append((mode.replace(".", " ", 1) + ", compiled" * compiled, dtype, milliseconds(row), milliseconds(peer), ratio, *(_error(one, "error") for one in (row, peer))))
    titles = ("what", "format", "ours, ms", "geoopt, ms", "geoopt's time / ours", "error, ours", "error, geoopt")
    yield (
        f"## Hyperbolic space\n\n{SHAPE['points']:,} points in {SHAPE['dimensions']} dimensions, curvature -1; both: forward and backward. Errors "
        "are the largest one over the largest value, against the reference in long doubles at the same coordinates.\n\n"
        + table(titles, lines)
    )
    lines = []
    for dtype in ("float32", "float64"):
        pair = [known.get((dtype, "lorentz.distance forward")) for known in (ours, theirs)]
        for place, words in {**PLACES, "equal": "equal points: largest gradient (0 is right)"}.items():
            lines.append((words, dtype, *(_error(one, place) for one in pair)))
    yield "Relative errors of Lorentz distances:\n\n" + table(("where", "format", "ours", "geoopt"), lines)


def _error(row, name):
    """A figure of a row in words."""
    value = (row or {}).get("figures", {}).get(name)
    return "" if value is None else "NaN" if value >= NOT_A_NUMBER else f"{value:.1e}"


PICTURES = {}
