"""What each process of test_distributed.py runs: a list of short runs, one after the other, some with a planted bug.

    RANK=0 WORLD_SIZE=2 ... python -m parity_tests.many_processes FOLDER

FOLDER/cases.json says what to train: name, model, train (settings), and optionally resume, stop_after, bug, weighted. Also used
without other processes, for the run that all the others are held against.
"""

import contextlib
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from numpy_ref.config import ModelConfig, TrainConfig, parameter_count, parameter_shapes
from parity_tests.expert_processes import there_alone
from torch_impl.model import expert_parallel
from torch_impl.training import distributed, loop, muon, parallel, sharded_checkpoint
from torch_impl.training.clipping import global_norm


def dataset():
    """Tokens with something to learn, in documents of very different lengths: rows differ in how many targets count."""
    rng = np.random.default_rng(0)
    tokens = np.cumsum(rng.choice([1, 3, 7], p=[0.7, 0.2, 0.1], size=2000)) % 32
    borders = np.cumsum([0, *rng.choice([1, 2, 3, 60], size=200)])
    borders = np.append(borders[borders < 1800], 1800)
    return SimpleNamespace(
        train=tokens[:1800].astype(np.uint8), validation=tokens[1800:].astype(np.uint8), train_borders=borders
    )


def sum_of_own(self, tensor):
    """Every process takes its own count of targets for that of all: a mean of means."""
    return tensor * self.world if tensor.dtype == torch.int64 else SUM(self, tensor)


def own_loss(self, tensor):
    return tensor if tensor.is_floating_point() and not tensor.ndim else SUM(self, tensor)


def first_rows(*arguments, rank, **keywords):
    return BATCH(*arguments, rank=0, **keywords)


def masks_from_the_start(config, batch, length, seed, step, first=0, device=None):
    return MASKS(config, batch, length, seed, step, 0, device)


def mean_over_processes(state, bucket):
    return SUMMED(state, bucket).then(lambda done: done.value() / dist.get_world_size())


def own_loads(self, *arguments):
    """Biases by the loads of one process: two processes' biases drift apart."""
    experts = self.config.experts
    own = lambda tensor: tensor if tensor.shape[-1:] == (experts,) else SUM(self.processes, tensor)  # noqa: E731
    with mock.patch.object(self.processes, "sum", own):
        return GRADIENTS(self, *arguments)


def averaged_experts(self, *arguments):
    """The experts' gradients divided like those that are averaged, though they have seen all tokens already."""
    loss, grads = GRADIENTS(self, *arguments)
    return loss, {name: grad / self.processes.world if self.in_shares(name) else grad for name, grad in grads.items()}


def first_experts(self, name, whole):
    """Every process takes the share of the first."""
    return (whole.tensor_split(self._borders(name))[0] if self.in_shares(name) else whole).clone()


def shares_alone(self, updates, params, dtype=None):
    """Each process makes the rows that it holds orthogonal, as if they were a matrix."""
    for update in updates.values():
        if len(update):
            update.copy_(muon.orthogonalise(update))


def weights_alone(path, shares, run):
    """Resumed without what the optimiser remembers."""
    LOAD(path, shares, run)
    for name in run.params:
        run.states[name] = {k: v * 0 if torch.is_tensor(v) else v for k, v in run.states[name].items()}


def weighted(*arguments):
    """A batch whose targets count differently: by the token before them, so whoever has a row has its weights."""
    inputs, targets, more = ROWS(*arguments)
    return inputs, targets, more | {"weights": (inputs % 4) / 2.0}


ROWS = loop._batch
SUM, BATCH, MASKS = distributed.Processes.sum, loop.packed_batch, parallel.dropout_masks
GRADIENTS = parallel.Parallel.loss_and_grads
SUMMED, LOAD = parallel._summed, sharded_checkpoint.load

# name: (what is replaced, by what)
BUGS = {
    "mean of means": (distributed.Processes, "sum", sum_of_own),
    "loss of one process": (distributed.Processes, "sum", own_loss),
    "same data everywhere": (loop, "packed_batch", first_rows),
    "same dropout everywhere": (parallel, "dropout_masks", masks_from_the_start),
    "gradients averaged (ddp)": (parallel, "_summed", mean_over_processes),
    "gradients averaged (fsdp)": (FSDPModule, "set_gradient_divide_factor", lambda self, factor: None),
    "clipped by the norm of a share": (parallel.Parallel, "global_norm", lambda self, grads: global_norm(grads)),
    "shares made orthogonal": (parallel.Parallel, "orthogonal", shares_alone),
    "experts averaged": (parallel.Parallel, "loss_and_grads", averaged_experts),
    "experts of the first process": (parallel.Parallel, "share", first_experts),
    "gradients stay where the tokens went": (expert_parallel._Exchange, "backward", staticmethod(there_alone)),
    "loads of one process": (parallel.Parallel, "loss_and_grads", own_loads),
    "moments forgotten": (sharded_checkpoint, "load", weights_alone),
}


def play(folder, case):
    """Train one case; its share of the parameters is checked, its files are for the test to compare."""
    model, settings = ModelConfig(**case["model"]), TrainConfig(**case["train"])
    bug = BUGS.get(case.get("bug"))
    rows = mock.patch.object(loop, "_batch", weighted) if case.get("weighted") else contextlib.nullcontext()
    with rows, mock.patch.object(*bug) if bug else contextlib.nullcontext():
        run = loop.train(
            model, settings, dataset(), Path(folder) / case["name"], case.get("resume", False), case.get("stop_after")
        )
    if not dist.is_initialized():
        return
    held, world = sum(value.numel() for value in run.params.values()), dist.get_world_size()
    if settings.parallel == "fsdp":
        whole = parameter_count(model)
        assert held < whole / world + len(run.params) * 64, f"a share of {held} of {whole} parameters, of {world}"
    if settings.parallel == "experts":
        stacked = sum(math.prod(shape) for name, shape in parameter_shapes(model).items() if ".experts." in name)
        assert held == parameter_count(model) - stacked + stacked // world


def main(folder):
    torch.set_num_threads(1)
    with distributed.several("cpu"):
        for case in json.loads((Path(folder) / "cases.json").read_text()):
            play(folder, case)


if __name__ == "__main__":
    distributed.leave(lambda: main(sys.argv[1]))
