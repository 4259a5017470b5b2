"""A function over many pieces of text in several processes, in order and with bounded memory."""

import multiprocessing
import os
import signal
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, islice

TORCH_ONLY_FILE = "the reference works in one process"

FEW = 4  # items that are done here: starting processes would take longer

_given = []  # in a child process: the function and what it shares


def in_processes(function, shared, items, workers=None):
    """Yields ``function(shared, item)`` for each item, in order; a few items are read ahead, never all of them.

    The processes are forked, so ``shared`` is not copied to them; they must leave Torch alone, whose threads they lack.
    workers: how many, None for one a core. Few items, one worker, or a system without fork: done in this process.
    """
    items = iter(items)
    first = list(islice(items, FEW))
    workers = workers or _cores()
    if workers == 1 or len(first) < FEW or "fork" not in multiprocessing.get_all_start_methods():
        for item in chain(first, items):
            yield function(shared, item)
        return
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, initializer=_adopt, initargs=(function, shared))
    pending = deque()
    try:
        for item in chain(first, items):
            pending.append(pool.submit(_call, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _adopt(function, shared):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    _given[:] = function, shared


def _call(item):
    function, shared = _given
    return function(shared, item)
