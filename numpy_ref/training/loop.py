"""The training loop: batch, step, log, evaluate, save."""

from pathlib import Path

from numpy_ref import checkpoint_file, log
from numpy_ref.data.batches import batch, packed_batch
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.interrupt import TIME, Interrupted, interruptible
from numpy_ref.model.initialise import initialise
from numpy_ref.saving import Saver
from numpy_ref.training import checkpoint
from numpy_ref.training.evaluate import evaluate
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step


def train(
    model_config, train_config, dataset, out, resume=False, stop_after=None, report=None, seconds=None, sample=None
):
    """Train in the run folder ``out``, to ``train_config.steps`` steps or only until ``stop_after``; returns the Run.

    ``dataset`` has token ids (N,) as ``train`` and ``validation``, and where documents are packed their borders as
    ``train_borders``; ``report`` shows rows as they are logged (``Progress``). A resumed run goes on from its
    checkpoint as if it had never stopped, on either wing. ``seconds``: the run is saved and ends before they are over
    (None: no limit). ``sample(run)`` is called every ``sample_every`` steps.
    Raises BadSteps after ``bad_steps`` steps in a row that went wrong; UserError when the last save fails; Interrupted
    (a KeyboardInterrupt) after Ctrl-C or SIGTERM, once the run is saved.
    """
    c = train_config
    run = _resumed(model_config, train_config, out) if resume else _begin(model_config, train_config)
    last = min(c.steps, stop_after or c.steps)
    checkpoint_file.describe(out, model_config, train_config, "cpu")

    def held_out():
        return evaluate(run.params, model_config, dataset.validation, c.batch, limit=c.eval_tokens)["loss"]

    with (
        interruptible(seconds) as asked,  # first, so that signals wait for the last save as well
        log.Log(Path(out) / log.NAME, run, report) as rows,
        Saver(out, c.keep, rows.note) as saver,
    ):
        stop = None
        while run.step < last and stop is None:
            inputs, targets, packing = _batch(dataset, run.position, model_config, c)
            metrics, run.params, run.states = train_step(
                run.params, run.states, inputs, targets, model_config, c, run.step, **packing
            )
            run.advance(c.batch, inputs.size)
            rows.add(metrics)
            saver.check()
            best = _due(run.step, c.eval_every, c.steps) and rows.flush(held_out)
            if sample and c.sample_every and run.step % c.sample_every == 0:
                rows.aside(sample)
            stop = asked(saver.seconds)
            save = best or stop is not None or _due(run.step, c.save_every, last)
            if save or rows.due():
                rows.flush()  # too many bad steps end the run here, before they reach the checkpoint
            if save:
                saver.save(run, checkpoint.snapshot)
    if stop not in (None, TIME) and run.step < last:
        raise Interrupted(run.step, stop)
    return run


def _begin(model_config, train_config):
    """The Run before its first step."""
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), model_config)
    params = initialise(model_config, train_config.seed, dtype)
    return checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config))


def _resumed(model_config, train_config, out):
    """The Run saved in ``out``, to go on under ``train_config``. Raises UserError where it can't."""
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), model_config)
    run = checkpoint.load(out, dtype.name)
    checkpoint_file.check_resumable(run, model_config, train_config, out)
    run.train_config = train_config
    return run


def _batch(dataset, position, model_config, c):
    """Inputs and targets (B, T), and {"documents": ids (B, T)} where documents are packed."""
    if not c.pack_documents:
        return *batch(dataset.train, position, c.batch, model_config.context, c.seed), {}
    *pair, documents = packed_batch(
        dataset.train, dataset.train_borders, position, c.batch, model_config.context, c.seed
    )
    return *pair, {"documents": documents}


def _due(step, every, last):
    """Whether something that happens every so many steps (0: never), and at the last one, happens after ``step``."""
    return step == last or bool(every) and step % every == 0
