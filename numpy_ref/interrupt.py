"""Ctrl-C, SIGTERM and the end of a run's time wait for the end of the step, so that it is saved whole."""

import contextlib
import signal
import threading
from time import perf_counter

DEFINITION = "signals and clocks carry no arrays"

TIME = "time"  # the reason to stop that is no signal


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal and has been saved; ``step`` is the number of steps done.

    ``status`` is the exit status that shells expect: 128 + the signal, so 130 after Ctrl-C and 143 after SIGTERM.
    """

    def __init__(self, step, number=signal.SIGINT):
        super().__init__(f"interrupted after step {step}")
        self.step, self.status = step, 128 + number


@contextlib.contextmanager
def interruptible(seconds=None):
    """Within this context the first Ctrl-C or SIGTERM is only noted, and the second one stops at once.

    Gives a function ``asked(reserve)``, to be called after every step: None, or why to stop: the number of the signal,
    or TIME when another step, should it take twice as long as the slowest so far, and ``reserve`` seconds for saving
    would no longer fit into the ``seconds`` since the context began (None: no limit).
    Outside the main thread Python delivers no signals, so nothing is changed there.
    """
    seen, began = [], perf_counter()
    before, slowest = began, 0.0

    def note(number, frame):
        if seen:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        seen.append(number)

    def asked(reserve=0.0):
        nonlocal before, slowest
        now = perf_counter()
        before, slowest = now, max(slowest, now - before)
        if seen:
            return seen[0]
        return TIME if seconds is not None and now - began + 2 * slowest + reserve > seconds else None

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.signal(number, note) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
