"""The record of a run: one JSON object a step, appended to ``log.jsonl``."""

import contextlib
import json
import math
import os
import warnings
from pathlib import Path
from time import perf_counter

from numpy_ref import expert_log
from numpy_ref.errors import BadSteps, RunWarning, UserError
from numpy_ref.files import refusal, replace

DEFINITION = "a file of rows: numbers pass through it unchanged"

NAME = "log.jsonl"
WAIT = 0.5  # seconds that rows may wait before they are converted and written
LONGEST = 1 << 16  # characters of a line; no row of ours has a hundredth of that
NUMBERS = ("tokens", "time", "loss", "lr", "grad_norm", "tokens_per_second", "val_loss")


def read_rows(path):
    """The rows of a log, oldest first. Lines that are no rows (cut off by a crash, damaged) are left out.

    A missing file has no rows. Raises UserError for one that can't be read.
    """
    rows = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            while line := file.readline(LONGEST):
                with contextlib.suppress(ValueError, RecursionError):
                    rows.append(json.loads(line))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a run folder") from None
    return [row for row in rows if _is_row(row)]


def _is_row(row):
    """A step, and otherwise numbers or nothing where numbers belong."""
    if not isinstance(row, dict) or type(row.get("step")) is not int or not 0 <= row["step"] < 2**63:
        return False
    return all(_is_number(row[name]) for name in NUMBERS if row.get(name) is not None)


def _is_number(value):
    return type(value) is float and math.isfinite(value) or type(value) is int and abs(value) < 2**63


class Log:
    """Appends the rows of one run.

    Fields: step, tokens (trained on so far), time (seconds since the run began, without the pauses between sessions),
    loss (nats per token, before the step's update), lr, grad_norm (before clipping), tokens_per_second, and where it
    was evaluated val_loss (nats per token, after the update), and whatever other numbers the step reports under names of
    its own. A step that went wrong has "skipped": true; numbers that are not finite are null. A mixture of experts adds
    the fields of `expert_log.py`.

    ``run`` (see ``checkpoint_file.Run``) says where the run stands: rows after its step, left by steps that were never
    saved, are dropped. ``report`` receives the latest row at every flush (see ``progress.Progress``).

    Losses may be arrays on a GPU. ``add`` only keeps them and ``flush`` makes numbers of them, so that the host waits
    for the device a few times a second instead of at every step.

    Rows that a full disk refuses wait in memory, while training goes on. ``writes=False``: nothing goes to the disk;
    for every process but the first, so that all of them count and judge alike.
    """

    def __init__(self, path, run, report=None, writes=True):
        self.path, self.run, self.report, self.pending = Path(path), run, report, []
        kept = [row for row in read_rows(self.path) if row["step"] <= run.step]
        self.bad = next((n for n, row in enumerate(reversed(kept)) if not row.get("skipped")), len(kept))
        text = "".join(json.dumps(row) + "\n" for row in kept).encode()
        if writes:
            replace(self.path, lambda file: file.write(text))
        self.file = open(self.path if writes else os.devnull, "ab", buffering=0)
        self.unwritten, self.refused = b"", None
        self.before, self.start = run.seconds, perf_counter()
        self.mark, self.counted = self.start, run.tokens

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self._append(b"")
        self.file.close()
        if self.refused and kind is None:
            raise self.refused

    def add(self, metrics):
        """Keep what ``train_step`` says about the step that the run has just finished."""
        self.run.seconds = self.before + perf_counter() - self.start
        self.pending.append((self.run.step, self.run.tokens, self.run.seconds, metrics))

    def due(self):
        """Whether rows have waited long enough."""
        return perf_counter() - self.mark > WAIT

    def flush(self, evaluate=None):
        """Write the waiting rows. ``evaluate()``, where given, is the held-out loss after the last of them, or a dict with
        it as "loss", whose numbers are logged with "val_" before their names.

        Returns whether that loss is the best so far. Raises BadSteps at the ``bad_steps``-th step in a row that went
        wrong, after writing its row.
        """
        rows = [self._row(*values) for values in self.pending]
        elapsed = perf_counter() - self.mark  # read after the conversion, which waits for the device
        self.pending, failure = [], None
        for place, row in enumerate(rows):
            row["tokens_per_second"] = round((self.run.tokens - self.counted) / max(elapsed, 1e-9), 1)
            self.bad = self.bad + 1 if row.get("skipped") else 0
            if self.bad >= self.run.train_config.bad_steps:
                rows, failure = rows[: place + 1], _failure(self.bad, row)
                break
        best = False
        if rows and evaluate and not failure:
            measured = evaluate()
            measured = measured if isinstance(measured, dict) else {"loss": measured}
            rows[-1] |= {f"val_{name}": _finite(value) for name, value in measured.items()}
            val_loss = float(measured["loss"])
            best = self.run.judge(val_loss)
        self._append("".join(json.dumps(row) + "\n" for row in rows).encode())
        self._show(rows)
        if failure:
            raise failure
        self.counted, self.mark = self.run.tokens, perf_counter()  # evaluating and writing are not training time
        return best

    def aside(self, call):
        """Flush, then call something that is not training and doesn't count as such."""
        self.flush()
        call(self.run)
        self.mark = perf_counter()

    def note(self, text):
        """Say something in a line of its own."""
        say = getattr(self.report, "note", None)
        say(text) if say else warnings.warn(text, RunWarning, stacklevel=2)

    def _row(self, step, tokens, seconds, metrics):
        loss = float(metrics["loss"])
        row = {"step": step, "tokens": tokens, "time": round(seconds, 3), "loss": loss, "lr": float(metrics["lr"]),
               "grad_norm": _finite(metrics["grad_norm"])}
        if not math.isfinite(loss) or bool(metrics.get("skipped", False)):
            row |= {"loss": loss if math.isfinite(loss) else None, "skipped": True}
        elif "routing" in metrics:
            row |= expert_log.row(metrics["routing"])
        known = {*row, "skipped", "routing"}
        return row | {name: _finite(value) for name, value in metrics.items() if name not in known}

    def _append(self, content):
        """Write what waits and ``content``; what the disk refuses goes on waiting, and the first refusal is told."""
        self.unwritten += content
        try:
            while self.unwritten:
                self.unwritten = self.unwritten[self.file.write(self.unwritten) :]
            self.refused = None
        except OSError as error:
            told, self.refused = self.refused, refusal(self.path, error)
            if not told:
                self.note(f"{self.refused}; training goes on, the rows of the log wait in memory")

    def _show(self, rows):
        if self.report and rows:
            self.report.update(rows[-1])
            record = getattr(self.report, "record", None)
            for row in rows if record else ():
                record(row)


def _finite(value):
    """The number, or None for one that JSON can't write."""
    value = float(value)
    return value if math.isfinite(value) else None


def _failure(count, row):
    """The error of the ``count``-th bad step in a row, from the last one's row."""
    often = f" {count} times in a row" if count > 1 else ""
    what, advice = "loss or gradient not finite", "lower --lr, lengthen --warmup or take --dtype float32"
    if row.get("updates") == 0:  # of a rollout
        what = "no completion to learn from"
        advice = "none had a reward (failed_* in the log counts the errors), or all were cut off and --drop-truncated (give more --tokens)"
    return BadSteps(f"{what}{often}, up to step {row['step']}: training stopped; {advice}")
