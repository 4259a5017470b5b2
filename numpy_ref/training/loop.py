"""The training loop: batch, step, log, evaluate, save."""

from pathlib import Path

from numpy_ref import checkpoint_file, log
from numpy_ref.data.batches import batch
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.interrupt import Interrupted, interruptible
from numpy_ref.model.initialise import initialise
from numpy_ref.training import checkpoint
from numpy_ref.training.evaluate import evaluate
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step


def train(model_config, train_config, dataset, out, resume=False, stop_after=None, report=None):
    """Train in the run folder ``out``, to ``train_config.steps`` steps or only until ``stop_after``; returns the Run.

    ``dataset`` has token ids (N,) as ``train`` and ``validation``; ``report`` shows rows as they are logged
    (``Progress``). A resumed run goes on from its checkpoint as if it had never stopped, on either wing.
    Raises UserError for a loss that is not finite and for files that can't be written; Interrupted (a
    KeyboardInterrupt) after Ctrl-C, once the run is saved.
    """
    c = train_config
    run = _resumed(model_config, train_config, out) if resume else _begin(model_config, train_config)
    last = min(c.steps, stop_after or c.steps)
    checkpoint_file.describe(out, model_config, train_config)

    def held_out():
        return evaluate(run.params, model_config, dataset.validation, c.batch, limit=c.eval_tokens)["loss"]

    with log.Log(Path(out) / log.NAME, run, report) as rows, interruptible() as asked:
        stop = False
        while run.step < last and not stop:
            inputs, targets = batch(dataset.train, run.position, c.batch, model_config.context, c.seed)
            metrics, run.params, run.states = train_step(
                run.params, run.states, inputs, targets, model_config, c, run.step
            )
            run.advance(c.batch, inputs.size)
            rows.add(metrics["loss"], metrics["lr"], metrics["grad_norm"])
            if _due(run.step, c.eval_every, c.steps):
                rows.flush(held_out)
            stop = asked()
            save = stop or _due(run.step, c.save_every, last)
            if save or rows.due():
                rows.flush()  # a loss that is not finite ends the run here, before it reaches the checkpoint
            if save:
                checkpoint.save(out, run)
    if run.step < last:
        raise Interrupted(run.step)
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


def _due(step, every, last):
    """Whether something that happens every so many steps (0: never), and at the last one, happens after ``step``."""
    return step == last or bool(every) and step % every == 0
