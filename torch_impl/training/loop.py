"""The training loop: batch, step, log, evaluate, save. The host hands work to the device and rarely waits for it."""

from pathlib import Path

import torch

from numpy_ref import checkpoint_file, log
from numpy_ref.interrupt import Interrupted, interruptible
from torch_impl.data.batches import batch
from torch_impl.device import choose_device
from torch_impl.model.initialise import initialise
from torch_impl.training import checkpoint
from torch_impl.training.evaluate import evaluate
from torch_impl.training.optimizer import init_states
from torch_impl.training.step import train_step


def train(model_config, train_config, dataset, out, resume=False, stop_after=None, report=None):
    """Train in the run folder ``out``, to ``train_config.steps`` steps or only until ``stop_after``; returns the Run.

    ``dataset`` has token ids (N,) as ``train`` and ``validation``; ``report`` shows rows as they are logged
    (``Progress``). A resumed run goes on from its checkpoint as if it had never stopped, on either wing.
    Raises UserError for a loss that is not finite and for files that can't be written; Interrupted (a
    KeyboardInterrupt) after Ctrl-C, once the run is saved.
    """
    c = train_config
    run = _resumed(model_config, train_config, out) if resume else _begin(model_config, train_config)
    device = next(iter(run.params.values())).device
    last = min(c.steps, stop_after or c.steps)
    checkpoint_file.describe(out, model_config, train_config)

    def held_out():
        return evaluate(run.params, model_config, dataset.validation, c.batch, limit=c.eval_tokens)["loss"]

    with log.Log(Path(out) / log.NAME, run, report) as rows, interruptible() as asked:
        stop = False
        while run.step < last and not stop:
            inputs, targets = batch(dataset.train, run.position, c.batch, model_config.context, c.seed)
            inputs, targets = _placed(inputs, device), _placed(targets, device)
            metrics, run.params, run.states = train_step(
                run.params, run.states, inputs, targets, model_config, c, run.step
            )
            run.advance(c.batch, inputs.numel())
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
    params = initialise(model_config, train_config.seed, _master(train_config), choose_device(train_config.device))
    return checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config))


def _resumed(model_config, train_config, out):
    """The Run saved in ``out``, to go on under ``train_config``. Raises UserError where it can't."""
    name = str(_master(train_config)).removeprefix("torch.")
    run = checkpoint.load(out, name, choose_device(train_config.device))
    checkpoint_file.check_resumable(run, model_config, train_config, out)
    run.train_config = train_config
    return run


def _master(train_config):
    """The number format of the weights: 16-bit formats only compute."""
    return torch.float64 if train_config.dtype == "float64" else torch.float32


def _placed(tensor, device):
    """The tensor on the device; to a GPU from pinned memory, so that the copy overlaps with the step before."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _due(step, every, last):
    """Whether something that happens every so many steps (0: never), and at the last one, happens after ``step``."""
    return step == last or bool(every) and step % every == 0
