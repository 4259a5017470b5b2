"""Which device and which number format a run takes."""

import statistics
from time import perf_counter

import torch

from numpy_ref.errors import UserError


def choose_device(name="auto"):
    """The ``torch.device`` of a name: "auto" takes CUDA, then MPS, then the CPU. UserError where it is absent."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, here in present.items() if here)
    if name not in present:
        raise UserError(f"there is no device {name!r}; choose auto, {', '.join(present)}")
    if not present[name]:
        fine = ", ".join(device for device, here in present.items() if here)
        raise UserError(f"device {name!r} was asked for, but this machine has none that PyTorch can use; take {fine}")
    return torch.device(name)


def choose_dtype(name, device, config):
    """The ``torch.dtype`` in which a model computes: the named one, or for "auto" the fastest that trains well.

    That is bfloat16 where the hardware multiplies it, and float32 elsewhere. On a CPU narrow models stay in float32:
    below width 64 the time goes into starting operations, not into arithmetic.
    """
    if name != "auto":
        return getattr(torch, name)
    device = torch.device(device)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        fast = config.width >= 64 and (features.get("avx512_bf16", False) or features.get("amx_bf16", False))
    return torch.bfloat16 if fast else torch.float32


def product_speed(device, dtype, rows=2048, inputs=512, outputs=2048):
    """Floating-point operations a second that a matrix product reaches on the device: the median of five."""
    x, weight = (torch.ones(shape, dtype=dtype, device=device) for shape in ((rows, inputs), (inputs, outputs)))
    seconds = []
    for _ in range(6):
        start = perf_counter()
        float((x @ weight)[0, 0])  # waits for the device
        seconds.append(perf_counter() - start)
    return 2 * rows * inputs * outputs / statistics.median(seconds[1:])
