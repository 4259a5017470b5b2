"""When checkpoints are written and which of them stay: ``checkpoint.npz`` is the newest, older ones are named by step.

    checkpoint.npz             the newest
    checkpoint-00000400.npz    one before it, as it was at step 400

A save never touches what is there: the new file is whole and on the disk before the old one gets its second name (a
hard link, so nothing is copied) and the new one takes over the first. A kill at any moment leaves ``checkpoint.npz``
whole.
"""

import contextlib
import os
import shutil
import threading
from pathlib import Path
from time import perf_counter

from numpy_ref import checkpoint_file
from numpy_ref.errors import BadSteps, DiskError, UserError
from numpy_ref.files import PARTIAL

DEFINITION = "files and threads: arrays pass through unchanged"


class Saver:
    """Saves a run in a thread of its own, one save at a time, while training goes on.

    ``folder``: of the run; ``keep``: how many checkpoints stay, the newest included; the best by held-out loss stays on
    top of that. ``note(text)`` is told of a save that the disk refused: training goes on and the next save tries again.
    Any other failure is raised by the next ``check`` or ``save``, and every failure of the last save at the end of the
    ``with`` block, which waits for it. A run that ends there in BadSteps is told the checkpoint to go back to.
    """

    def __init__(self, folder, keep, note):
        self.folder, self.keep, self.note = Path(folder), keep, note
        self.thread = self.error = None
        self.known = False  # whether the newest checkpoint is one that this process wrote
        self.seconds = 0.0  # that the latest save took, copying not counted
        with contextlib.suppress(OSError):  # what a killed process left half written
            (self.folder / (checkpoint_file.NAME + PARTIAL)).unlink()

    def __enter__(self):
        return self

    def save(self, run, snapshot):
        """Copy the run by ``snapshot(run)`` -> (arrays, header), and write the copy in the background."""
        if self.thread:
            self.thread.join()
        self.check()
        self.thread = threading.Thread(target=self._write, args=snapshot(run), name="checkpoint", daemon=True)
        self.thread.start()

    def check(self):
        """Pass on what went wrong in a save that has ended."""
        if self.thread and not self.thread.is_alive():
            error = self._join()
            if isinstance(error, DiskError):
                self.note(f"not saved: {error}; training goes on, and the next save tries again")
            elif error:
                raise error

    def __exit__(self, kind, failure, _):
        if kind and not issubclass(kind, Exception):  # a second Ctrl-C does not wait
            return
        error = self._join() if self.thread else None
        if error and kind is None:
            raise error
        if kind is BadSteps:
            raise BadSteps(f"{failure}; {last_good(self.folder)}") from None

    def _join(self):
        """Wait for the save in flight; its error, which is then forgotten."""
        self.thread.join()
        error, self.thread, self.error = self.error, None, None
        return error

    def _write(self, arrays, header):
        start = perf_counter()
        try:
            write(self.folder, arrays, header, self.keep, check=not self.known)
            self.known = True
        except BaseException as error:  # every one is raised again, in the thread that trains
            self.error = error
        self.seconds = perf_counter() - start


def last_good(folder):
    """Words that name the newest checkpoint of a run folder."""
    path = Path(folder) / checkpoint_file.NAME
    step = checkpoint_file.step_of(path)
    return "there is no checkpoint yet" if step is None else f"the last good checkpoint is {path}, step {step}"


def write(folder, arrays, header, keep, check=True):
    """Make (arrays, header) the newest checkpoint of a run folder; the ``keep - 1`` before it stay, and the best one.

    ``check``: see that the newest so far is whole; a damaged one has no place among those that stay.
    Raises UserError as ``checkpoint_file.write`` does; the checkpoints that are there then stay as they were.
    """
    path = Path(folder) / checkpoint_file.NAME
    checkpoint_file.write(path, arrays, header, before=lambda: _keep_old(path, check))
    earlier = [number for number, _ in checkpoint_file.history(folder) if number < header["step"]]
    stay = set(earlier[: keep - 1]) | {(header.get("best") or {}).get("step")}
    for number, file in checkpoint_file.history(folder):
        if number not in stay or number >= header["step"]:  # the future of a run that was taken back is written anew
            with contextlib.suppress(OSError):
                file.unlink()


def _keep_old(path, check):
    """Give the newest checkpoint, soon the one before, the name of its step as well; one that can't be read is left."""
    try:
        step = checkpoint_file.read(path)[1]["step"] if check else checkpoint_file.step_of(path)
    except UserError:
        return
    if step is None:
        return
    named = checkpoint_file.named(path.parent, step)
    with contextlib.suppress(OSError):
        named.unlink(missing_ok=True)
        try:
            os.link(path, named)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, named)
