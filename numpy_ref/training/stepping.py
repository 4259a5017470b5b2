"""The frame of every loop that trains on something else than plain text: step, log, evaluate, save, stop.

    run_steps(run, out, step, held_out, snapshot)

What a step is, the wings say; a loop of theirs is the function that makes one.
"""

from pathlib import Path

from numpy_ref import log
from numpy_ref.interrupt import TIME, Interrupted, interruptible
from numpy_ref.saving import Saver

DEFINITION = "files, clocks and signals: the wings compute"


def run_steps(run, out, step, held_out, snapshot, report=None, stop_after=None, seconds=None, sample=None):
    """Take steps until ``run.train_config.steps``, or only until ``stop_after``; returns the run, which is saved in ``out``.

    ``step()`` takes one optimiser step: it sets ``run.params`` and ``run.states``, and returns (metrics, sequences drawn
    from the data, tokens). Metrics: {"loss", "lr", "grad_norm", "skipped"} and any more numbers, which go to the log.
    ``held_out()``: the loss that says which checkpoint is best, or {"loss": that, ...}.
    ``snapshot(run)``: (arrays, header), copied; of the wing's checkpoint.py.
    ``report`` shows rows as they are logged (``Progress``). ``seconds``: the run is saved and ends before they are over
    (None: no limit). ``sample(run)`` is called every ``sample_every`` steps.
    Raises BadSteps after ``bad_steps`` steps in a row that went wrong; UserError when the last save fails; Interrupted
    (a KeyboardInterrupt) after Ctrl-C or SIGTERM, once the run is saved.
    """
    c = run.train_config
    last = min(c.steps, stop_after or c.steps)
    with (
        interruptible(seconds) as asked,  # first, so that signals wait for the last save as well
        log.Log(Path(out) / log.NAME, run, report) as rows,
        Saver(out, c.keep, rows.note) as saver,
    ):
        stop = None
        while run.step < last and stop is None:
            metrics, sequences, tokens = step()
            run.advance(sequences, tokens)
            rows.add(metrics)
            saver.check()
            best = due(run.step, c.eval_every, c.steps) and rows.flush(held_out)
            if sample and c.sample_every and run.step % c.sample_every == 0:
                rows.aside(sample)
            stop = asked(saver.seconds)
            save = best or stop is not None or due(run.step, c.save_every, last)
            if save or rows.due():
                rows.flush()  # too many bad steps end the run here, before they reach the checkpoint
            if save:
                saver.save(run, snapshot)
    if stop not in (None, TIME) and run.step < last:
        raise Interrupted(run.step, stop)
    return run


def due(step, every, last):
    """Whether something that happens every so many steps (0: never), and at the last one, happens after ``step``."""
    return step == last or bool(every) and step % every == 0
