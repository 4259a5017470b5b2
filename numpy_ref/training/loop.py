"""The training loop: batch, step, log, evaluate, save."""

from numpy_ref import checkpoint_file
from numpy_ref.data.batches import batch, packed_batch
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.drive import drive
from numpy_ref.model.initialise import initialise
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
    run = resumed(model_config, c, out) if resume else _begin(model_config, c)
    checkpoint_file.describe(out, model_config, c, "cpu")

    def step():
        inputs, targets, packing = _batch(dataset, run.position, model_config, c)
        metrics, run.params, run.states = train_step(
            run.params, run.states, inputs, targets, model_config, c, run.step, **packing
        )
        run.advance(c.batch, inputs.size)
        return metrics

    def held_out():
        return evaluate(run.params, model_config, dataset.validation, c.batch, limit=c.eval_tokens)["loss"]

    return drive(run, out, step, held_out, checkpoint.snapshot, stop_after, report, seconds, sample)


def _begin(model_config, train_config):
    """The Run before its first step."""
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), model_config)
    params = initialise(model_config, train_config.seed, dtype)
    return checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config))


def resumed(model_config, train_config, out):
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
