"""Declarations of global_norm, clip_by_global_norm and its form in place. Gradients are float32 or finer."""

import numpy as np
import torch

import numpy_ref.training.clipping as numpy_clipping
import torch_impl.training.clipping as torch_clipping
from parity_tests.harness.declaration import Bug, Case, Component
from parity_tests.harness.trees import tree_map

NAMES = ("token_embedding.weight", "final_norm.weight", "final_norm.bias", "output.weight")


def draw_grads(source):
    """One to four gradients, each of its own magnitude."""
    grads = {}
    for name in NAMES[: source.integer(1, len(NAMES))]:
        grads[name] = source.array(name, (*source.leading(), source.size()))
    kind = source.choice("ordinary", "ordinary", "all small", "all small", "all zero", "infinite", "NaN")
    if kind in ("all small", "all zero"):  # a small norm is where somebody's eps would show
        factor = 1e-5 if kind == "all small" else 0.0
        grads = {name: grad * factor for name, grad in grads.items()}
    if kind in ("infinite", "NaN"):
        bad = grads[source.choice(*grads)]
        bad.flat[source.rng.integers(bad.size)] = source.choice(np.inf, -np.inf) if kind == "infinite" else np.nan
    source.event(kind)
    source.event("one gradient", len(grads) == 1)
    source.layouts["grads"] = source.choice("contiguous", "transposed", "sliced")
    return grads


def length_error(arguments, dy, unit):
    """PyTorch's norm adds n squares one after another where the strides forbid vectors: up to n / 8 roundings."""
    grads, largest = arguments["grads"], arguments.get("max_norm")
    terms = max(grad.size for grad in grads.values()) / 16
    norm = numpy_clipping.global_norm(grads)
    if largest is None:
        return {"value": terms * norm}
    shortened = norm >= 0.999 * largest
    return {f"value[0][{name}]": terms * largest / norm * np.abs(grad) * shortened for name, grad in grads.items()} | {
        "value[1]": terms * norm
    }


def draw_norm(source):
    return source.case({"grads": draw_grads(source)})


def shapes(**static):
    """The gradients of a small model, and of one feed-forward network of the "small" preset."""

    def build(*sizes):
        return lambda rng: Case({"grads": {f"{n}.weight": rng.standard_normal(s) for n, s in enumerate(sizes)}}, static)

    return {"small": build((3, 5), (7,)), "showcase": build(*[(512, 128)] * 8), "wide": build((1536, 384), (384, 1536))}


def _numbers(case):
    return sum(grad.size for grad in case.arrays["grads"].values())


GLOBAL_NORM = Component(
    name="global_norm",
    numpy=numpy_clipping.global_norm,
    torch=torch_clipping.global_norm,
    draw=draw_norm,
    dtypes=("float64", "float32"),
    cancellation=length_error,
    events=("ordinary", "all small", "all zero", "infinite", "NaN", "one gradient", "tiny", "heavy"),
    shapes=shapes(),
    flops=lambda case: 2 * _numbers(case),
    bytes=lambda case, size: size * _numbers(case),
    bugs=(
        Bug("sum of the norms", "numpy", "np.sqrt(sum(np.sum(grad * grad)", "(sum(np.sqrt(np.sum(grad * grad))"),
        Bug("no root", "numpy", "np.sqrt(", "("),
        Bug("root mean square", "numpy", "np.sum(grad * grad)", "np.mean(grad * grad)"),
        Bug("last gradient left out", "numpy", "grads.values()", "list(grads.values())[:-1] or list(grads.values())"),
        Bug("largest norm", "torch", "torch.linalg.vector_norm(torch.stack(norms))", "torch.stack(norms).max()"),
        Bug(
            "absolute values",
            "torch",
            "_foreach_norm(list(grads.values()))",
            "_foreach_norm(list(grads.values()), 1)",
        ),
        Bug("NaN hidden", "torch", "torch.stack(norms)", "torch.stack(norms).nan_to_num(nan=0.0, posinf=float('inf'))"),
    ),
)


RELATIONS = ("below the largest norm", "above the largest norm", "at the largest norm")


def draw_clip(source):
    grads = draw_grads(source)
    norm = float(numpy_clipping.global_norm(grads))
    relation = source.choice(*RELATIONS, RELATIONS[0])
    if np.isfinite(norm) and norm > 0:
        source.event(relation)
        largest = norm * {"below": 1.7, "above": 0.3}.get(relation.split()[0], 1.0)
    else:
        largest = 1.0
    return source.case({"grads": grads}, max_norm=largest)


CLIP = Component(
    name="clip_by_global_norm",
    numpy=numpy_clipping.clip_by_global_norm,
    torch=torch_clipping.clip_by_global_norm,
    draw=draw_clip,
    dtypes=("float64", "float32"),
    cancellation=length_error,
    events=(
        *RELATIONS,
        "all small",
        "all zero",
        "infinite",
        "NaN",
        "tiny",
    ),
    shapes=shapes(max_norm=1.0),
    flops=lambda case: 3 * _numbers(case),
    bytes=lambda case, size: 3 * size * _numbers(case),
    bugs=(
        Bug("clipped by value", "numpy", "grad * factor", "np.clip(grad, -max_norm, max_norm)"),
        Bug(
            "each gradient by its own norm",
            "numpy",
            "grad * factor",
            "grad * np.minimum(1.0, max_norm / np.sqrt(np.sum(grad * grad)))",
        ),
        Bug("short gradients stretched", "numpy", "np.minimum(1.0, max_norm / norm)", "max_norm / norm"),
        Bug("norm after clipping", "numpy", "}, norm", "}, norm * factor"),
        Bug("1e-6 added to the norm", "numpy", "max_norm / norm", "max_norm / (norm + 1e-6)"),
        Bug("NaN hidden", "numpy", "np.minimum(", "np.fmin("),
        Bug("norm squared", "numpy", "max_norm / norm", "max_norm / norm**2"),
        Bug("zero gradients are NaN", "torch", ".clamp(max=1)", "", function="_factor"),
        Bug("factor upside down", "torch", "max_norm / norm", "norm / max_norm", function="_factor"),
        Bug(
            "infinite gradients left alone",
            "torch",
            "factor = _factor(norm, max_norm)",
            "factor = torch.where(norm.isinf(), 1, _factor(norm, max_norm))",
        ),
        Bug("writes into the gradients", "torch", "grad * factor", "grad.mul_(factor)"),
    ),
)


def on_copies(function, arguments):
    """The form in place returns the norm alone."""
    arguments = tree_map(lambda leaf: leaf.clone() if torch.is_tensor(leaf) else leaf, arguments)
    result = function(**arguments)
    return result if isinstance(result, tuple) else (arguments["grads"], result)


CLIP_IN_PLACE = Component(
    name="clip_by_global_norm_",
    numpy=numpy_clipping.clip_by_global_norm,
    torch=torch_clipping.clip_by_global_norm_,
    draw=draw_clip,
    call=on_copies,
    dtypes=("float64", "float32"),
    cancellation=length_error,
    events=CLIP.events,
    compiles=False,
    bugs=(
        Bug("not scaled at all", "torch", "torch._foreach_mul_(list(grads.values()), _factor(norm, max_norm))", "pass"),
        Bug(
            "last gradient left out",
            "torch",
            "_foreach_mul_(list(grads.values()),",
            "_foreach_mul_(list(grads.values())[:-1] or [norm + 0],",
        ),
        Bug("norm after clipping", "torch", "return norm", "return global_norm(grads)"),
        Bug("scaled twice", "torch", "_factor(norm, max_norm))", "_factor(norm, max_norm) ** 2)"),
        Bug("short gradients stretched", "torch", ".clamp(max=1)", "", function="_factor"),
    ),
)

COMPONENTS = (GLOBAL_NORM, CLIP, CLIP_IN_PLACE)
