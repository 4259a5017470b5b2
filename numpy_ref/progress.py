"""What training shows: one line that redraws itself on a terminal, a plain line now and then elsewhere."""

import math
import shutil
import sys
from time import perf_counter

DEFINITION = "text for people"


class Progress:
    """Progress of ``total`` steps on ``stream`` (stderr by default), fed with the rows of ``log.Log``.

    On a terminal: bar, share done, loss, held-out loss, learning rate, tokens/s, time left, redrawn in place.
    Otherwise one plain line every 5 % and at every held-out loss, so that a log file stays short. With ``rewards`` these
    take the place of losses: that of a policy is near 0 however much it learns.
    """

    def __init__(self, total, stream=None, rewards=False):
        self.total, self.stream, self.rewards = total, stream or sys.stderr, rewards
        self.terminal = self.stream.isatty()
        self.held_out, self.said, self.drawn = None, -1, False

    def update(self, row):
        """Show the latest row."""
        if row.get("val_loss") is not None:
            self.held_out = self._held_out(row)
        if self.terminal:
            self._draw(row)
        elif row["step"] == self.total or "val_loss" in row or row["step"] * 20 // self.total > self.said:
            self.said = row["step"] * 20 // self.total
            print(f"step {row['step']}/{self.total}  {self._numbers(row)}", file=self.stream, flush=True)

    def note(self, text):
        """Print a line of its own."""
        self.close()
        print(text, file=self.stream, flush=True)

    def close(self):
        """Leave the redrawn line as it stands."""
        if self.drawn:
            print(file=self.stream, flush=True)
        self.drawn = False

    def _numbers(self, row):
        name = "reward" if self.rewards else "loss"
        parts = ["skipped" if row[name] is None or self.rewards and row.get("skipped") else f"{name} {row[name]:.3f}"]
        if self.held_out is not None:
            parts.append(f"held-out {self.held_out}")
        parts += [f"lr {row['lr']:.1e}", f"{row['tokens_per_second']:,.0f} tokens/s"]
        left = (self.total - row["step"]) * row["time"] / row["step"]
        return "  ".join(parts + [f"{clock(left)} left" if row["step"] < self.total else f"in {clock(row['time'])}"])

    def _held_out(self, row):
        if not self.rewards:
            return f"{row['val_loss']:.3f}"
        right = row.get("val_greedy")
        return f"reward {row['val_reward']:.3f}" if right is None else f"{right:.1%} right"

    def _draw(self, row):
        columns = shutil.get_terminal_size().columns - 1
        share = row["step"] / self.total
        line = f" {share:4.0%}  {self._numbers(row)}"
        full, empty = ("━", "─") if "utf" in (self.stream.encoding or "").lower() else ("#", "-")
        width = max(0, min(30, columns - len(line)))
        done = round(share * width)
        # "\x1b[K" clears what a longer line before left behind.
        self.stream.write("\r" + (full * done + empty * (width - done) + line)[:columns] + "\x1b[K")
        self.stream.flush()
        self.drawn = True


def counter(words, stream=None):
    """A function (done, total) that shows a share after the words, on a terminal only, and wipes it at the end."""
    stream, drawn = stream or sys.stderr, 0.0

    def report(done, total):
        nonlocal drawn
        if stream.isatty() and (done >= total or perf_counter() - drawn > 0.1):
            drawn = perf_counter()
            stream.write("\r\x1b[K" if done >= total else f"\r{words} {done / total:4.0%}\x1b[K")
            stream.flush()

    return report


def clock(seconds):
    """Seconds as 1:02 or 1:01:05."""
    minutes, seconds = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
