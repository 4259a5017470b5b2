"""The record of a run: one JSON object a step, appended to ``log.jsonl``."""

import contextlib
import json
import math
from pathlib import Path
from time import perf_counter

from numpy_ref.errors import UserError
from numpy_ref.files import refusal, replace

DEFINITION = "a file of rows: numbers pass through it unchanged"

NAME = "log.jsonl"
WAIT = 0.5  # seconds that rows may wait before they are converted and written


def read_rows(path):
    """The rows of a log, oldest first. A line cut off by a crash is left out; a missing file has no rows."""
    rows = []
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and "step" in row]


class Log:
    """Appends the rows of one run.

    Fields: step, tokens (trained on so far), time (seconds since the run began, without the pauses between sessions),
    loss (nats per token, before the step's update), lr, grad_norm (before clipping), tokens_per_second, and where it
    was evaluated val_loss (nats per token, after the update).

    ``run`` (see ``checkpoint_file.Run``) says where the run stands: rows after its step, left by steps that were never
    saved, are dropped. ``report`` receives the latest row at every flush (see ``progress.Progress``).

    Losses may be arrays on a GPU. ``add`` only keeps them and ``flush`` makes numbers of them, so that the host waits
    for the device a few times a second instead of at every step.
    """

    def __init__(self, path, run, report=None):
        self.path, self.run, self.report, self.pending = Path(path), run, report, []
        kept = [json.dumps(row) + "\n" for row in read_rows(self.path) if row["step"] <= run.step]
        replace(self.path, lambda file: file.write("".join(kept).encode()))
        self.file = open(self.path, "a", encoding="utf-8")
        self.before, self.start = run.seconds, perf_counter()
        self.mark, self.counted = self.start, run.tokens

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.file.close()

    def add(self, loss, lr, grad_norm):
        """Keep the numbers of the step that the run has just finished."""
        self.run.seconds = self.before + perf_counter() - self.start
        self.pending.append((self.run.step, self.run.tokens, self.run.seconds, loss, lr, grad_norm))

    def due(self):
        """Whether rows have waited long enough."""
        return perf_counter() - self.mark > WAIT

    def flush(self, evaluate=None):
        """Write the waiting rows. ``evaluate()``, where given, is the held-out loss after the last of them.

        Raises UserError at the first loss that is not finite, after writing the rows before it.
        """
        rows = [self._row(*values) for values in self.pending]
        elapsed = perf_counter() - self.mark  # read after the conversion, which waits for the device
        bad = next((row["step"] for row in rows if not math.isfinite(row["loss"])), None)
        rows = [row for row in rows if bad is None or row["step"] < bad]
        for row in rows:
            row["tokens_per_second"] = round((rows[-1]["tokens"] - self.counted) / max(elapsed, 1e-9), 1)
        if rows and evaluate and bad is None:
            rows[-1]["val_loss"] = float(evaluate())
        self._write(rows)
        self.pending, self.counted = [], self.run.tokens
        if bad is not None:
            raise UserError(
                f"the loss is not finite at step {bad}: training stopped and the last checkpoint stays as it was; "
                "train again with a lower --lr, a longer --warmup or --dtype float32"
            )
        self.mark = perf_counter()  # evaluating and writing are not training time

    def _row(self, step, tokens, seconds, loss, lr, grad_norm):
        norm = float(grad_norm)  # float16 steps that overflow are skipped, and their norm is infinite: null in JSON
        return {
            "step": step, "tokens": tokens, "time": round(seconds, 3), "loss": float(loss), "lr": float(lr),
            "grad_norm": norm if math.isfinite(norm) else None,
        }

    def _write(self, rows):
        try:
            self.file.write("".join(json.dumps(row) + "\n" for row in rows))
            self.file.flush()
        except OSError as error:
            raise refusal(self.path, error) from None
        for row in rows[-1:] if self.report else ():
            self.report.update(row)
