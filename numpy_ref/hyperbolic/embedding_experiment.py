"""One embedding of the experiment on hyperbolic space: its steps, its measure, and its state as a file."""

import json
from time import perf_counter

import numpy as np

from numpy_ref import archive
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.hyperbolic.embedding_arms import rate, scale_rate
from numpy_ref.rng import STREAM_ORDER, uniform
from numpy_ref.training.schedules import warmup_cosine

DEFINITION = "an experiment: the wings compute"


class Embedding:
    """An ``Arm`` in training. trainer: Trainer of `trainer.py` of a wing."""

    def __init__(self, arm, graph, settings, trainer):
        self.arm, self.graph, self.settings, self.trainer = arm, graph, settings, trainer
        self.done, self.seconds, self.loss = 0, 0.0, float("inf")

    @property
    def finished(self):
        return self.done >= self.settings.steps

    def step(self):
        """One step: 5 % warm-up, then a cosine down to a hundredth of the peak. Returns the loss before it."""
        start, steps = perf_counter(), self.settings.steps
        share = warmup_cosine(self.done, steps, 1.0, steps // 20, 0.01)
        self.loss = self.trainer.step(share * rate(self.settings, self.arm), share * scale_rate(self.settings), self.rows())
        self.done += 1
        self.seconds += perf_counter() - start
        return self.loss

    def rows(self):
        """The nodes of this step, drawn alike on every side, or None for all."""
        if not self.settings.rows:
            return None
        places = uniform(self.arm.seed, STREAM_ORDER + self.done, (self.settings.rows,)) * len(self.graph)
        return places.astype(np.int64)

    def result(self):
        """What the report says about this arm, as JSON values: its measures on all nodes, or on evenly spaced ones."""
        count = min(len(self.graph), self.settings.eval_rows)
        rows = np.arange(count) * len(self.graph) // count
        arm = {name: getattr(self.arm, name) for name in ("part", "geometry", "loss", "dim", "seed")}
        facts = {"nodes": len(self.graph), "steps": self.done, "seconds": self.seconds, "final_loss": self.loss}
        return arm | facts | self.trainer.measure(rows)

    def save(self, path):
        """Write the state to an .npz file."""
        state = {"done": self.done, "seconds": self.seconds, "loss": self.loss}
        header = np.frombuffer(json.dumps(state).encode(), np.uint8)
        replace(path, lambda file: np.savez(file, header=header, **self.trainer.arrays()))

    def restore(self, path):
        """Go on from a state, where there is one. Raises UserError for a damaged file."""
        if path.exists():
            try:
                arrays, header = archive.read(path)
                self.trainer.restore(arrays)
                self.done, self.seconds, self.loss = (header[name] for name in ("done", "seconds", "loss"))
            except archive.DAMAGE:
                raise UserError(f"{path} is damaged; delete it, and that embedding begins anew") from None


def points(path):
    """The points of a saved state (n, d), or None where there is no such file."""
    try:
        return archive.read(path)[0]["model/points"]
    except FileNotFoundError:
        return None
    except archive.DAMAGE:
        raise UserError(f"{path} is damaged; delete it and the last lines of results.jsonl") from None
