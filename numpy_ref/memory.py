"""Keep freed memory in the process: large arrays come and go in every training step.

glibc hands every large block back to the system as soon as it is freed; the next step asks for it again, and the kernel
fills each page with zeros anew. For arrays of a few megabytes that costs as much as the arithmetic on them.
"""

import ctypes
import os

DEFINITION = "a setting of the C library: no arrays"

# Numbers of <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_GIBIBYTE = 1 << 30


def keep_memory():
    """Tell glibc to keep what is freed and to grow in large steps. Returns whether that was possible.

    Call it once, at the start of a program: it holds for the whole process, whose memory then stays at its peak.
    Where the C library is another one (macOS, Windows, musl) it does nothing and returns False.
    """
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return False
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, ValueError):
        return False
    settings = {
        _MMAP_MAX: 0,  # large blocks come from the heap too, where they can be used again
        _TRIM_THRESHOLD: 2 * _GIBIBYTE - 1,  # and the heap shrinks only when this much of its end is free
        _TOP_PAD: 64 << 20,  # it grows by 64 MiB at once
    }
    return all([mallopt(option, value) == 1 for option, value in settings.items()])
