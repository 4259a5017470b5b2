"""The machine's own limits, measured in the same run: how fast it multiplies matrices, copies memory and reads it."""

import statistics

from bench import clock

COPIES = tuple(1 << bits for bits in (18, 20, 22, 24, 26, 28))  # bytes moved: from the second-level cache to memory


def measure(job):
    """{mode: {"value": operations or bytes a second}}; the median, so that it compares with the medians of rows."""
    device, budget = job.get("device", "cpu"), job.get("budget", 0.4)
    if job["name"] == "matmul":
        size = job["shape"]["size"]
        call = _numpy_product(size) if job["implementation"] == "numpy" else _torch_product(size, job["dtype"], device)
        return {"forward": {"value": 2 * size**3 / _median(call, device, budget)}}
    stream = {"copy": _copy, "read": _read}[job["name"]]
    return {str(size): {"value": size / _median(stream(size, device), device, budget)} for size in COPIES}


def _median(call, device, budget):
    return statistics.median(clock.timed(call, device, budget))


def _numpy_product(size):
    import numpy as np

    a, b = np.random.default_rng(0).normal(size=(2, size, size)).astype(np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def _torch_product(size, dtype, device):
    import torch

    a, b = torch.randn(2, size, size, device=device).to(getattr(torch, dtype))
    out = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=out)


def _copy(size, device):
    """A copy that moves ``size`` bytes: half of them read, half of them written."""
    import torch

    source = torch.ones(size // 8, device=device)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


def _read(size, device):
    """A sum over ``size`` bytes, which only reads: what a product of a matrix with one row does to memory."""
    import torch

    source = torch.ones(size // 4, device=device)
    return source.sum
