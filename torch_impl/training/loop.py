"""The training loop: batch, step, log, evaluate, save. The host hands work to the device and rarely waits for it."""

from functools import partial

import torch

from numpy_ref import checkpoint_file
from numpy_ref.config import SAVED_IN_PARTS
from numpy_ref.drive import drive
from numpy_ref.processes import ALONE
from numpy_ref.saving import Saver
from torch_impl.data.batches import batch, packed_batch
from torch_impl.device import choose_device
from torch_impl.model.initialise import initialise
from torch_impl.training import checkpoint, distributed
from torch_impl.training.evaluate import evaluate
from torch_impl.training.optimizer import init_states
from torch_impl.training.step import train_step

TORCH_ONLY = {"device_name", "master_dtype"}


def train(
    model_config, train_config, dataset, out, resume=False, stop_after=None, report=None, seconds=None, sample=None
):
    """Train in the run folder ``out``, to ``train_config.steps`` steps or only until ``stop_after``; returns the Run.

    ``dataset`` has token ids (N,) as ``train`` and ``validation``, and where documents are packed their borders as
    ``train_borders``; ``report`` shows rows as they are logged (``Progress``). A resumed run goes on from its
    checkpoint as if it had never stopped, on either wing. ``seconds``: the run is saved and ends before they are over
    (None: no limit). ``sample(run)`` is called every ``sample_every`` steps.
    Raises BadSteps after ``bad_steps`` steps in a row that went wrong; UserError when the last save fails; Interrupted
    (a KeyboardInterrupt) after Ctrl-C or SIGTERM, once the run is saved. Under ``distributed.several`` all processes
    call this, each gets the Run with its own shares of the parameters, and a wish to stop is that of all.
    """
    c, processes, parallel = train_config, distributed.current(), None
    device = choose_device(c.device)
    if processes is ALONE:
        run = resumed(model_config, c, out) if resume else _begin(model_config, c)
    else:
        from torch_impl.training import parallel_run  # here, because it takes half a second

        run, parallel = parallel_run.start(processes, model_config, c, out, resume, device, master_dtype(c))
    shared = {"parallel": parallel} if parallel else {}
    if processes.rank == 0:
        checkpoint_file.describe(out, model_config, c, device_name(device))

    def step():
        inputs, targets, packing = _batch(dataset, run.position, model_config, c, device, processes)
        metrics, run.params, run.states = train_step(
            run.params, run.states, inputs, targets, model_config, c, run.step, **packing, **shared
        )
        run.advance(c.batch, inputs.numel() * processes.world)
        return metrics

    def held_out():
        if parallel:
            return parallel.held_out(dataset.validation, c.batch, model_config.context, c.eval_tokens)
        return evaluate(run.params, model_config, dataset.validation, c.batch, limit=c.eval_tokens)["loss"]

    return drive(
        run, out, step, held_out, checkpoint.snapshot, stop_after, report, seconds,
        sample=partial(parallel.on_first, sample) if sample and parallel else sample,
        processes=processes,
        saver=partial(_saver, c, parallel),
        saves=processes.rank == 0 or _is_sharded(c, parallel),
    )  # fmt: skip


def _begin(model_config, train_config):
    """The Run before its first step."""
    params = initialise(model_config, train_config.seed, master_dtype(train_config), choose_device(train_config.device))
    return checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config))


def resumed(model_config, train_config, out):
    """The Run saved in ``out``, to go on under ``train_config``. Raises UserError where it can't."""
    name = str(master_dtype(train_config)).removeprefix("torch.")
    run = checkpoint.load(out, name, choose_device(train_config.device))
    checkpoint_file.check_resumable(run, model_config, train_config, out)
    run.train_config = train_config
    return run


def _saver(train_config, parallel, out, keep, note):
    """What saves the run: in one file from the first process, or in parts from all."""
    if not _is_sharded(train_config, parallel):
        return Saver(out, keep, note)
    from torch_impl.training.sharded_checkpoint import ShardedSaver  # here, because it takes half a second

    return ShardedSaver(out, keep, note, parallel)


def _is_sharded(train_config, parallel):
    return train_config.sharded or parallel is not None and train_config.parallel in SAVED_IN_PARTS


def master_dtype(train_config):
    """The number format of the weights: 16-bit formats only compute."""
    return torch.float64 if train_config.dtype == "float64" else torch.float32


def device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _placed(tensor, device):
    """The tensor on the device; to a GPU from pinned memory, so that the copy overlaps with the step before."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _batch(dataset, position, model_config, c, device, processes):
    """This process's inputs and targets (B, T), and {"documents": ids (B, T)} where they are packed, on the device."""
    part = {"rank": processes.rank, "world": processes.world}
    if c.pack_documents:
        borders = dataset.train_borders
        found = packed_batch(dataset.train, borders, position, c.batch, model_config.context, c.seed, **part)
    else:
        found = batch(dataset.train, position, c.batch, model_config.context, c.seed, **part)
    inputs, targets, *documents = (_placed(tensor, device) for tensor in found)
    return inputs, targets, {"documents": documents[0]} if documents else {}
