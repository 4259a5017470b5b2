"""What a figure was measured on. No host names, no user names, no paths."""

import os
import platform
import re
import subprocess
import sys

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def cores():
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_threads(threads):
    """The environment of a worker: every thread pool pinned to ``threads``."""
    shared = {"PYTHONHASHSEED": "0", "GOMP_SPINCOUNT": "10000"}  # what torch_impl asks for itself, for peers as well
    return dict(os.environ, **{name: str(threads) for name in THREAD_VARIABLES}, **shared)


def describe(device):
    """Hardware and versions as a dict of short strings and numbers, seen from inside a worker."""
    import numpy as np
    import torch

    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    found = {
        "device": device,
        "cpu": cpu_name(),
        "cores": cores(),
        "memory_gib": memory_gib(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "torch": torch.__version__,
        "torch_vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    if device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "driver": _driver()}
    return found


def cpu_name(cpuinfo="/proc/cpuinfo"):
    """The processor's model name as it reports itself."""
    try:
        with open(cpuinfo) as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def memory_gib(meminfo="/proc/meminfo"):
    try:
        with open(meminfo) as lines:
            return round(int(next(lines).split()[1]) / 2**20)
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _driver():
    try:
        with open("/proc/driver/nvidia/version") as file:
            found = re.search(r"\b\d+\.\d+(\.\d+)?\b", file.read())
            return found.group() if found else None
    except OSError:
        return None


def slug(environment):
    """Folder name of a device: its name in small letters and dashes, with the threads in use on a CPU."""
    name = environment.get("gpu") or f"{environment['cpu']} {environment['threads']} threads"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def revision(folder="."):
    """(short commit, whether the working tree differs from it, results aside); ("none", True) outside a repository."""

    def git(*words):
        return subprocess.run(("git", *words), cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD"), bool(git("status", "--porcelain", "--", ".", ":!bench/results"))
    except (OSError, subprocess.CalledProcessError):
        return "none", True


def without_paths(text):
    """Text with absolute paths cut to their last part: reasons are kept in results, folder names are not."""
    return re.sub(r"(?<![\w.])(?:[A-Za-z]:\\|/)(?:[\w.@+~-]+[/\\])+([\w.@+-]+)", r"\1", text.replace(sys.prefix, ""))
