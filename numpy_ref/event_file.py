"""The rows of a run as TensorBoard event files, where the package tensorboard is installed."""

import time
from pathlib import Path

from numpy_ref.errors import UserError
from numpy_ref.log import NUMBERS

DEFINITION = "a file format: numbers pass through it unchanged"

FOLDER = "tensorboard"


class EventFile:
    """A report (see ``progress.Progress``) that also writes every row to ``folder``/tensorboard, one curve a number.

    Raises UserError where the package is missing.
    """

    def __init__(self, folder, report):
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise UserError("--tensorboard needs the package tensorboard, which is not here; install it") from None
        self.event, self.summary, self.report = Event, Summary, report
        self.writer = EventFileWriter(str(Path(folder) / FOLDER))
        self.update, self.note = report.update, report.note

    def record(self, row):
        """Write one row of the log."""
        names = [name for name in NUMBERS if name not in ("tokens", "time") and row.get(name) is not None]
        values = [self.summary.Value(tag=name, simple_value=row[name]) for name in names]
        self.writer.add_event(self.event(wall_time=time.time(), step=row["step"], summary=self.summary(value=values)))

    def close(self):
        """End the report and the file."""
        self.report.close()
        self.writer.close()
