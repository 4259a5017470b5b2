"""Rows sorted by expert, the products of each run of rows with its own matrix, and the way there and back.

What is done element by element goes through the rows in parts that stay in a processor's cache; on a GPU in one.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

CACHED = 1 << 19  # elements of a part

TORCH_ONLY_FILE = "how products of many experts are made fast; numpy_ref/model/moe.py goes through the experts in a loop"


@dataclass(frozen=True)
class Slots:
    """The slots (N, K) of N rows in the order of their experts.

    order (M,): sorted place -> slot, numbered row by row; place (N, K): slot -> sorted place, M where it is empty or was
    cut off; ends (E,) int32: where each expert's run ends, the last at M; expert (M,): whose place it is.
    """

    order: torch.Tensor
    place: torch.Tensor
    ends: torch.Tensor
    expert: torch.Tensor


def sorted_by_expert(indices, experts, most=None):
    """The ``Slots`` of indices (N, K), of which at most ``most`` are not negative.

    Empty slots come last, in the run of the last expert: the kernels leave rows that belong to nobody unwritten. They are
    computed, and nobody reads them.
    """
    flat = indices.flatten()
    rows = len(flat) if most is None else min(most, len(flat))
    key, order = torch.sort(flat.to(torch.int32).remainder(experts + 1), stable=True)  # -1 becomes the largest
    order, key = order[:rows], key[:rows]
    ends = torch.searchsorted(key, torch.arange(experts - 1, device=key.device, dtype=torch.int32), right=True)
    ends = torch.cat((ends, ends.new_full((1,), rows))).int()
    here = torch.arange(rows, device=key.device)
    place = torch.full_like(flat, rows).scatter_(0, order, here.where(key < experts, rows))
    return Slots(order, place.view_as(indices), ends, key.clamp(max=experts - 1).long())


def spread(x, slots):
    """The row of each sorted slot. Shapes: x (N, d) -> (M, d). Backward: the sum over a row's slots."""
    return _Spread.apply(x, slots.order // slots.place.shape[1], slots.place)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, row, place):
        ctx.save_for_backward(place)
        return x.index_select(0, row)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        (place,) = ctx.saved_tensors
        dx = dy.new_empty(len(place), dy.shape[1])
        for rows in _parts(dx, place.shape[1]):
            torch.sum(_gathered(dy, place[rows]), 1, out=dx[rows])
        return dx, None, None


def collect(y, weights, slots):
    """sum_k w_nk y at the place of slot nk. Shapes: y (M, d), weights (N, K) -> (N, d)."""
    return _Collect.apply(y, weights, slots.order, slots.place)


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, weights, order, place):
        ctx.save_for_backward(y, weights, order, place)
        wide = _wide(y, weights)
        found = y.new_empty(len(place), y.shape[1])
        for rows in _parts(found, place.shape[1]):  # products of two formats would be slow
            found[rows] = (_gathered(y, place[rows]).to(wide) * weights[rows].to(wide).unsqueeze(-1)).sum(1)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        y, weights, order, place = ctx.saved_tensors
        row = order // place.shape[1]
        used = place.flatten().index_select(0, order) < len(order)
        wide = _wide(y, weights)
        scale = weights.to(wide).flatten().index_select(0, order).where(used, 0).unsqueeze(-1)
        dslots, dots = torch.empty_like(y), scale.new_empty(len(order))
        for rows in _parts(y):
            own = dy.index_select(0, row[rows]).to(wide)
            dots[rows] = torch.linalg.vecdot(y[rows].to(wide), own)
            dslots[rows] = own * scale[rows]
        dweights = weights.new_zeros(weights.numel()).index_put((order,), dots.where(used, 0).to(weights.dtype))
        return dslots, dweights.view_as(weights), None, None


def _wide(*tensors):
    """The format in which weights act: float32 or better."""
    wide = torch.float32
    for tensor in tensors:
        wide = torch.promote_types(wide, tensor.dtype)
    return wide


def _parts(x, times=1):
    """Slices of the rows of x (N, d), of which each is read ``times`` times over."""
    whole = x.device.type != "cpu" or torch.compiler.is_compiling() or x.numel() == 0
    size = len(x) if whole else max(1, CACHED // (times * x.shape[1]))
    return [slice(start, start + size) for start in range(0, len(x), max(1, size))]


def _gathered(y, place):
    """Rows (N, K, d) of y (M, d); zeros for the place M."""
    if len(y) == 0:
        return y.new_zeros(*place.shape, y.shape[-1])
    found = y.index_select(0, place.flatten().clamp(max=len(y) - 1)).view(*place.shape, y.shape[-1])
    return found.masked_fill_((place == len(y)).unsqueeze(-1), 0)


def gated(activation, x):
    """The halves of x, the first bent, times each other: the ``activation`` of that name. Shapes: x (M, 2f) -> (M, f)."""
    return _Gated.apply(x, *BENT[activation])


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bend, bend_backward):
        y = x.new_empty(len(x), x.shape[1] // 2)
        bent = torch.empty_like(y)
        for rows in _parts(x):
            a, b = x[rows].chunk(2, -1)
            bent[rows] = bend(a)
            torch.mul(bent[rows], b, out=y[rows])
        ctx.save_for_backward(x, bent)
        ctx.bend_backward = bend_backward
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, bent = ctx.saved_tensors
        dx = torch.empty_like(x)
        for rows in _parts(x):
            (a, b), (da, db) = x[rows].chunk(2, -1), dx[rows].chunk(2, -1)
            db.copy_(dy[rows] * bent[rows])
            da.copy_(ctx.bend_backward(dy[rows] * b, a))
        return dx, None, None


BENT = {
    "swiglu": (F.silu, torch.ops.aten.silu_backward),
    "geglu": (F.gelu, torch.ops.aten.gelu_backward),
}


def grouped_linear(x, weight, bias, slots):
    """Each run of rows times its expert's matrix: y = x W_e^T + b_e.

    Shapes: x (M, i), weight (E, o, i), bias (E, o) or None -> (M, o).
    """
    y = _GroupedLinear.apply(x, weight, slots.ends)
    return y if bias is None else y + _Bias.apply(bias, slots.expert)


class _GroupedLinear(torch.autograd.Function):
    """The products themselves. PyTorch's own backward can't take the strides that a sum's gradient has."""

    @staticmethod
    def forward(ctx, x, weight, ends):
        ctx.save_for_backward(x, weight, ends)
        return OPERATORS.rows_product(x, weight.mT, ends)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight, ends = ctx.saved_tensors
        dy = dy.contiguous()
        return OPERATORS.rows_product(dy, weight, ends), OPERATORS.sums_product(dy, x, ends), None


def _rows_product(x, matrix, ends):
    """Run e of x (M, i) times matrix[e] (E, i, o) -> (M, o)."""
    if _grouped(x, x.shape[1], matrix.shape[2]):
        return F.grouped_mm(x.contiguous(), matrix, offs=ends)
    y = x.new_empty(len(x), matrix.shape[2])
    for expert, rows in enumerate(_runs(ends)):
        torch.mm(x[rows], matrix[expert], out=y[rows])
    return y


def _sums_product(dy, x, ends):
    """dy^T x over each run. Shapes: dy (M, o), x (M, i) -> (E, o, i)."""
    if _grouped(x, x.shape[1], dy.shape[1]):
        return F.grouped_mm(dy.mT, x.contiguous(), offs=ends)
    found = x.new_empty(len(ends), dy.shape[1], x.shape[1])
    for expert, rows in enumerate(_runs(ends)):
        torch.mm(dy[rows].mT, x[rows], out=found[expert])
    return found


def _grouped(x, *sides):
    """Whether the grouped kernel takes these: rows of 16 bytes, and no float64."""
    aligned = all(side * x.itemsize % 16 == 0 for side in sides)
    return aligned and x.dtype != torch.float64 and x.device.type in ("cpu", "cuda")


def _runs(ends):
    """The rows of each expert, as slices: this waits for the device."""
    borders = [0, *ends.tolist()]
    return [slice(start, stop) for start, stop in zip(borders, borders[1:])]


# Operators of our own, whose inside the compiler leaves alone: its model of grouped_mm knows bfloat16 only, and the loop
# reads its borders. (torch.library.custom_op would import the compiler, for seconds, at the first call.)
_LIBRARY = torch.library.Library("language_model_twice", "DEF")
_LIBRARY.define("rows_product(Tensor x, Tensor matrix, Tensor ends) -> Tensor")
_LIBRARY.define("sums_product(Tensor dy, Tensor x, Tensor ends) -> Tensor")
_LIBRARY.impl("rows_product", _rows_product, "CompositeExplicitAutograd")
_LIBRARY.impl("sums_product", _sums_product, "CompositeExplicitAutograd")
_LIBRARY.impl("rows_product", lambda x, matrix, ends: x.new_empty(len(x), matrix.shape[2]), "Meta")
_LIBRARY.impl("sums_product", lambda dy, x, ends: x.new_empty(len(ends), dy.shape[1], x.shape[1]), "Meta")
OPERATORS = torch.ops.language_model_twice


class _Bias(torch.autograd.Function):
    """The bias (E, o) of each row's expert -> (M, o). Backward: sums over runs as a product with ones and zeros, which
    is as fast as adding atomically, and always adds in the same order."""

    @staticmethod
    def forward(ctx, bias, expert):
        ctx.save_for_backward(expert)
        ctx.experts = len(bias)
        return bias.index_select(0, expert)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        (expert,) = ctx.saved_tensors
        own = (torch.arange(ctx.experts, device=dy.device)[:, None] == expert).to(dy.dtype)
        return own @ dy, None
