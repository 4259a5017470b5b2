"""Declarations of mean average precision and distortion."""

import numpy_ref.hyperbolic.graph_metrics as numpy_metrics
import torch_impl.hyperbolic.graph_metrics as torch_metrics
from parity_tests.components.graph_embedding import draw_graph
from parity_tests.components.tangent import DTYPES
from parity_tests.harness.declaration import Bug, Component


def draw_ranks(source):
    """Distances, some of them exactly equal."""
    _, rows, hops = draw_graph(source)
    lengths = (hops > 0) * source.rng.uniform(0.5, 2.0, hops.shape)
    if source.flag():
        lengths = (2 * lengths).round() + (hops == 0) * source.choice(0.0, 9.0)
        source.event("ties")
    source.event("neighbours first", bool((lengths[hops == 1].max() < lengths[hops > 1].min(initial=9))))
    return source.case({"distances": lengths, "hops": hops})


def metric(name, draw, events, bugs):
    return Component(
        name=name,
        numpy=getattr(numpy_metrics, name),
        torch=getattr(torch_metrics, name),
        draw=draw,
        dtypes=DTYPES,
        events=events,
        compiles=False,
        weight=2,
        bugs=bugs,
    )


MAP = metric("mean_average_precision", draw_ranks, ("ties", "some rows", "tree-2-2", "cycle-3"), (
    Bug("ties help", "torch", "right=True", "right=False"),
    Bug("the node itself counts", "torch", "(hops > 0, linked)", "(hops >= 0, linked)"),
    Bug("mean over links, not over nodes", "torch", "(precision.sum(-1) / linked.sum(-1)).mean()", "(precision.sum() / linked.sum())"),
    Bug("recall", "torch", "hits.double() / within.clamp(min=1)", "hits.double() / linked.sum(-1, keepdim=True)"),
    Bug("neighbours among neighbours", "numpy", "np.searchsorted(others, neighbours", "np.searchsorted(neighbours, neighbours"),
    Bug("nodes two hops away", "numpy", "apart == 1", "apart <= 2"),
))  # fmt: skip


def draw_ratios(source):
    _, rows, hops = draw_graph(source)
    lengths = hops * source.rng.uniform(0.2, 2.0, hops.shape) * source.choice(1.0, 1e-3, 50.0)
    if source.flag():
        lengths *= source.rng.random(hops.shape) < 0.8
        source.event("at one place", bool((lengths[hops > 0] == 0).any()))
    if source.flag():
        lengths = 3.0 * hops
        source.event("exact")
    return source.case({"distances": lengths, "hops": hops})


DISTORTION = metric("distortion", draw_ratios, ("at one place", "exact", "some rows"), (
    Bug("no scale", "torch", "(scale * ratios - 1)", "(ratios - 1)"),
    Bug("scale by the mean", "torch", "1 / middle", "1 / ratios.mean()"),
    Bug("median of ratios", "torch", "torch.searchsorted(below, below[-1] / 2).clamp(max=len(ratios) - 1)", "len(ratios) // 2"),
    Bug("a quarter of the weight", "numpy", "0.5 * below[-1]", "0.25 * below[-1]"),
    Bug("hops forgotten", "numpy", " / hops[others].astype(distances.dtype)", ""),
))  # fmt: skip
WORST = metric("worst_distortion", draw_ratios, ("at one place", "exact", "some rows"), (
    Bug("largest alone", "torch", "most / least", "most"),
    Bug("the wrong way round", "torch", "most / least", "least / most"),
    Bug("hops forgotten", "numpy", " / hops[others].astype(distances.dtype)", ""),
    Bug("mean for least", "numpy", "np.min(ratios)", "np.mean(ratios)"),
))  # fmt: skip

COMPONENTS = (MAP, DISTORTION, WORST)
