"""Fused attention against each of PyTorch's backends, on CUDA: is ours the fastest that there is?

Causal, bfloat16, heads of 128 features. Nothing of this runs by default without a GPU.
"""

from contextlib import nullcontext

import numpy as np

from bench import clock, gate, sides
from bench.report_parts import milliseconds, select, table

BACKENDS = {
    "flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH",
}  # fmt: skip
LENGTHS = (2048, 8192)
SHAPE = {"batch": 2, "heads": 16, "features": 128}


def groups(options):
    """Ours and the backends, taking turns."""
    if options.device != "cuda" or options.quick:
        return []
    return [
        [
            {
                "kind": "attention",
                "name": f"attention {length}",
                "implementation": who,
                "dtype": "bfloat16",
                "compiled": False,
                "allocator": "default",
                "shape": SHAPE | {"length": length},
                "modes": ["forward", "both"],
                "device": "cuda",
            }
            for who in ("torch", *BACKENDS)
            if who != "math" or length <= 2048  # its scores would fill the memory
        ]
        for length in LENGTHS
    ]


def measure(job):
    """Forward, and forward with backward, of one backend. One that can't do it is unavailable."""
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from torch_impl.model.attention import scaled_dot_product_attention

    shape, dtype, device, who = job["shape"], getattr(torch, job["dtype"]), job["device"], job["implementation"]
    size = (shape["batch"], shape["heads"], shape["length"], shape["features"])
    arrays = np.random.default_rng(6).normal(size=(4, *size)).astype(np.float32)
    query, key, value, dy = (torch.from_numpy(x).to(device, dtype) for x in arrays)
    leaves = [x.requires_grad_() for x in (query, key, value)]
    only = nullcontext() if who == "torch" else sdpa_kernel(getattr(SDPBackend, BACKENDS[who]))

    def forward():
        if who == "torch":
            return scaled_dot_product_attention(*leaves, None, True)
        return F.scaled_dot_product_attention(*leaves, is_causal=True)

    def both():
        return torch.autograd.grad(forward(), leaves, dy)

    with only:
        parity = gate.compare(*_checked(leaves, forward()), job["dtype"], slack=2)
        flops = 2 * shape["batch"] * shape["heads"] * shape["features"] * shape["length"] * (shape["length"] + 1)
        traffic = 4 * query.nbytes
        modes = {
            mode: {
                "seconds": clock.summary(clock.timed(call, device, job.get("budget", 1.0))),
                "memory": clock.peak_memory(call, device),
                "flops": times * flops,
                "bytes": passes * traffic,
            }
            for mode, call, times, passes in (("forward", forward, 1, 1), ("both", both, 3.5, 2))
        }
    return {"modes": modes, "parity": parity}


def _checked(leaves, y):
    """(results, what they should be): the first head's last 64 queries, by the float64 reference."""
    from numpy_ref.model.attention import scaled_dot_product_attention

    query, key, value = (x.detach()[:1, :1].double().cpu().numpy() for x in leaves)
    wanted, _ = scaled_dot_product_attention(query[:, :, -64:], key, value, None, True)
    return {"y": sides.flatten(y[:1, :1, -64:])["y"]}, {"y": wanted}


def sections(found, drawn):
    measured = select(found, kind="attention")
    if not measured:
        return
    lines = []
    for row in measured:
        rivals = [r for r in measured if (r["name"], r["mode"]) == (row["name"], row["mode"]) and r is not row]
        best = min((r["seconds"]["median"] for r in rivals if r["implementation"] != "torch"), default=None)
        lines.append(
            (
                f"{row['name']} {row['mode']}",
                "ours" if row["implementation"] == "torch" else row["implementation"],
                milliseconds(row),
                f"{row['flops'] / row['seconds']['median'] / 1e12:.1f}",
                f"{row['seconds']['median'] / best:.2f}" if best and row["implementation"] == "torch" else "",
            )
        )
    titles = ("what", "backend", "ms", "TFLOP/s", "times the best backend's time")
    yield f"## Fused attention\n\nCausal, bfloat16.\n\n{table(titles, lines)}"


PICTURES = {}
