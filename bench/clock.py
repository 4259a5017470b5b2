"""Time and peak memory of one call, on the CPU or on CUDA."""

import ctypes
import gc
import statistics
import time


def timed(call, device="cpu", budget=0.5, least=5, most=200, warm=True):
    """Seconds of each of ``least`` to ``most`` calls; stops after about ``budget`` seconds of calling.

    The first calls are thrown away until three in a row agree within 5 % (or a third of the budget has gone): caches,
    thread pools and clocks have then settled; not with ``warm`` off, for calls of seconds that have been made before.
    Garbage collection is off while the clock runs.
    """
    once = _cuda_call if device == "cuda" else _cpu_call
    collecting = gc.isenabled()
    gc.disable()
    try:
        recent, spent = [], 0.0
        while warm and spent < budget / 3 and not _settled(recent):
            recent.append(once(call))
            spent += recent[-1]
        seconds = []
        while len(seconds) < most and (len(seconds) < least or sum(seconds) < budget):
            seconds.append(once(call))
        return seconds
    finally:
        if collecting:
            gc.enable()


def _settled(seconds):
    last = seconds[-3:]
    return len(last) == 3 and max(last) <= 1.05 * min(last)


def _cpu_call(call):
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e9


def _cuda_call(call):
    """Seconds between two CUDA events. The second-level cache is overwritten before, outside the timed part."""
    import torch

    torch.empty(64 << 20, dtype=torch.int32, device="cuda").zero_()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def peak_memory(call, device="cpu"):
    """Bytes that one call adds to what was in use before it; None where the system can't say.

    CUDA: the allocator's peak. Linux: ``VmHWM``, the high-water mark of this process's resident memory, set back just
    before the call. ``getrusage``'s figure is no use: a child begins with its parent's, and it never falls.
    """
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    gc.collect(1)  # the young generations: what earlier calls left; all of PyTorch would take a tenth of a second
    return_free_memory()
    if not reset_high_water():
        return None
    before = high_water()
    call()
    return high_water() - before


def high_water(status="/proc/self/status"):
    """``VmHWM`` in bytes, or None where there is no such file or line."""
    try:
        with open(status) as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def reset_high_water():
    """Set ``VmHWM`` back to what is resident now. False where that isn't possible."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return high_water() is not None
    except OSError:
        return False


def return_free_memory():
    """Ask glibc to give freed memory back, or the next call would find it resident and seem to need none."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        pass


def summary(seconds):
    """Median, fastest and number of repeats of one process."""
    return {"median": statistics.median(seconds), "fastest": min(seconds), "repeats": len(seconds)}
