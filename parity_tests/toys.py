"""A small component, right and broken in every way that the harness must notice. For test_harness.py alone."""

import numpy as np

from parity_tests.harness.declaration import Bug, Component


def square_norm(x, weight):
    """y = weight * mean(x^2) over the last axis, in both of its forms."""

    def vjp(dy):
        dx = 2.0 * x * weight * dy[..., None] / x.shape[-1]
        return dx, np.sum(np.mean(x * x, axis=-1) * dy).reshape(weight.shape)

    return weight[0] * np.mean(x * x, axis=-1), vjp


def twice(x, weight):
    """``square_norm`` inside something larger."""
    value, vjp = square_norm(x, weight)
    return 2.0 * value, lambda dy: vjp(2.0 * dy)


def torch_square_norm(x, weight):
    return weight[0] * (x * x).mean(-1)


def draw(source):
    arrays = {
        "x": source.array("x", (*source.leading(), source.size(20, least=2))),
        "weight": source.weight("weight", (1,)),
    }
    return source.case(arrays)


def toy(name, numpy=square_norm, kernel_error=None, **options):
    return Component(
        name=name,
        numpy=numpy,
        torch=torch_square_norm,
        draw=draw,
        differentiable=("x", "weight"),
        cancellation=kernel_error,
        **options,
    )


SQUARE_NORM = toy(
    "square_norm",
    bugs=(
        Bug(
            "sum for mean",
            "numpy",
            "weight[0] * np.mean(x * x, axis=-1), vjp",
            "weight[0] * np.sum(x * x, axis=-1), vjp",
        ),
        Bug("no change at all", "numpy", "2.0 * x", "x * 2.0"),
        Bug("cannot run", "numpy", "2.0 * x", "no_such_name * x"),
        Bug("wrong gradient in Torch", "torch", "(x * x)", "(x * x.detach())"),
    ),
)


def broken(change):
    """The component with its vjp changed: change(x, weight, dy, dx, dweight) -> gradients."""

    def function(x, weight):
        value, vjp = square_norm(x, weight)
        return value, lambda dy: change(x, weight, dy, *vjp(dy))

    return toy("broken", function)


def _writes_into_dy(x, weight, dy, dx, dweight):
    dy *= 1.0 + 1e-3
    return dx, dweight


def _different_each_time():
    calls = []

    def change(x, weight, dy, dx, dweight):
        calls.append(1)
        return dx * (1 + 1e-12 * len(calls)), dweight

    return change


def _without_imaginary_part(x, weight):
    """np.abs forgets the derivative that a complex step carries; the check must not take that for a zero gradient."""
    value, vjp = square_norm(np.abs(x), weight)
    return value, vjp


BROKEN_VJPS = {
    "0.1% too large": broken(lambda x, weight, dy, dx, dweight: (1.001 * dx, dweight)),
    "zero": broken(lambda x, weight, dy, dx, dweight: (0 * dx, dweight)),
    "weight forgotten": broken(lambda x, weight, dy, dx, dweight: (dx / np.where(weight == 0, 1, weight), dweight)),
    "one cotangent for all rows": broken(
        lambda x, weight, dy, dx, dweight: (2.0 * x * weight * np.ravel(dy)[0] / x.shape[-1], dweight)
    ),
    "not linear in dy": broken(lambda x, weight, dy, dx, dweight: (dx * np.sign(np.sum(dy)), dweight)),
    "adds a constant": broken(lambda x, weight, dy, dx, dweight: (dx + 1e-9, dweight)),
    "writes into dy": broken(_writes_into_dy),
    "different each time": broken(_different_each_time()),
    "gradients swapped": broken(lambda x, weight, dy, dx, dweight: (dweight, dx)),
    "gradient missing": broken(lambda x, weight, dy, dx, dweight: dx),
    "float64 for float32": broken(lambda x, weight, dy, dx, dweight: (dx.astype(np.float64), dweight)),
    "shares memory with x": broken(lambda x, weight, dy, dx, dweight: (x, dweight)),
    "column for row": broken(lambda x, weight, dy, dx, dweight: (dx, dweight[:, None])),
    "np.abs on the way": toy("broken", _without_imaginary_part),
}
