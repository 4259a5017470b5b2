"""Which conversations each step learnt from, in ``order.jsonl``; and how hard they were, where a run measures that."""

import contextlib
import json
from pathlib import Path

from numpy_ref.files import refusal, replace

DEFINITION = "a file of rows: numbers pass through it unchanged"

NAME = "order.jsonl"


class OrderFile:
    """Rows {"step": n, "conversations": [...]}: what step n, counted from 1, was taken on.

    And {"step": n, "difficulty": [...]}: how hard every conversation was after n steps. Rows after ``step``, where the
    run stands, are dropped: steps that were never saved are taken again. Lines that are no rows are passed over.
    """

    def __init__(self, folder, step):
        self.path, self.measured, kept = Path(folder) / NAME, (None, None), []
        with contextlib.suppress(FileNotFoundError), open(self.path, encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                    row = json.loads(line)
                    if type(row["step"]) is int and row["step"] <= step:
                        kept.append(line if line.endswith("\n") else line + "\n")
                        if "difficulty" in row:
                            self.measured = row["step"], [float(value) for value in row["difficulty"]]
        replace(self.path, lambda file: file.write("".join(kept).encode()))
        self.file = open(self.path, "a", encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def taken(self, step, conversations):
        """Note what a step is taken on."""
        self._append({"step": step, "conversations": conversations})

    def difficulty(self, step, measure):
        """How hard each conversation was after ``step`` steps: as noted, or else ``measure()``, a list of numbers."""
        if self.measured[0] != step:
            self.measured = step, measure()
            self._append({"step": step, "difficulty": self.measured[1]})
        return self.measured[1]

    def _append(self, row):
        try:
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()
        except OSError as error:
            raise refusal(self.path, error) from None
