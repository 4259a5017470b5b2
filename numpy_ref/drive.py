"""What every training run does between its steps, whatever it trains on: log, evaluate, show samples, save, stop in time."""

from pathlib import Path

from numpy_ref import log
from numpy_ref.interrupt import TIME, Interrupted, interruptible
from numpy_ref.processes import ALONE
from numpy_ref.saving import Saver

DEFINITION = "the order of steps, rows and saves: no arrays"


def drive(
    run, out, step, held_out, snapshot, stop_after=None, report=None, seconds=None, sample=None, processes=ALONE,
    saver=Saver, saves=True,
):  # fmt: skip
    """Take steps in the run folder ``out``, to ``run.train_config.steps`` or only until ``stop_after``; returns the Run.

    ``step()`` moves the Run by one step (``run.advance``) and returns the metrics that ``log.Log`` takes. ``held_out()``
    is the loss by which the best checkpoint is chosen, every ``eval_every`` steps. ``snapshot(run)`` is what is saved,
    ``saver(out, keep, note)`` who saves it, ``saves`` whether this process does. ``report``, ``seconds``: see
    ``training/loop.py``. ``sample(run)`` is called every ``sample_every`` steps. ``processes``: a wish to stop is that of all.
    Raises BadSteps after ``bad_steps`` steps in a row that went wrong; UserError when the last save fails; Interrupted
    (a KeyboardInterrupt) after Ctrl-C or SIGTERM, once the run is saved.
    """
    c = run.train_config
    last = min(c.steps, stop_after or c.steps)
    with (
        interruptible(seconds) as asked,  # first, so that signals wait for the last save as well
        log.Log(Path(out) / log.NAME, run, report, processes.rank == 0) as rows,
        saver(out, c.keep, rows.note) as keeper,
    ):
        stop = None
        while run.step < last and stop is None:
            rows.add(step())
            keeper.check()
            best = _due(run.step, c.eval_every, c.steps) and rows.flush(held_out)
            if sample and c.sample_every and run.step % c.sample_every == 0:
                rows.aside(sample)
            stop = _agreed(processes, asked(keeper.seconds))
            save = best or stop is not None or _due(run.step, c.save_every, last)
            if save or rows.due():
                rows.flush()  # too many bad steps end the run here, before they reach the checkpoint
            if save and saves:
                keeper.save(run, snapshot)
    if stop not in (None, TIME) and run.step < last:
        raise Interrupted(run.step, stop)
    return run


def _agreed(processes, reason):
    """Why to stop, or None: the same on all processes. A signal that reached one of them goes before the clock."""
    code = processes.agree({None: 0, TIME: 1}.get(reason, reason))
    return {0: None, 1: TIME}.get(code, code)


def _due(step, every, last):
    """Whether something that happens every so many steps (0: never), and at the last one, happens after ``step``."""
    return step == last or bool(every) and step % every == 0
