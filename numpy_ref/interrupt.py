"""Ctrl-C that waits for the end of the step, so that a run can be saved whole."""

import contextlib
import signal
import threading

DEFINITION = "signals carry no arrays"


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C and has been saved; ``step`` is the number of steps done."""

    def __init__(self, step):
        super().__init__(f"interrupted after step {step}")
        self.step = step


@contextlib.contextmanager
def interruptible():
    """Within this context the first Ctrl-C is only noted: ``asked()`` turns true. The second one stops at once.

    Outside the main thread Python delivers no signals, so nothing is changed there.
    """
    seen = []

    def note(number, frame):
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)
