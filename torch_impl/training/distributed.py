"""Several processes, started by ``torchrun``: who they are, what they agree on, and how they end together.

    torchrun --nproc-per-node 4 -m torch_impl train --data pydoc --out runs/four

On CPUs they talk by gloo, on GPUs by NCCL, each on the GPU of its LOCAL_RANK. The run folder has to be one that all of
them see. The first process alone prints, logs, draws, and writes what is not sharded.
"""

import contextlib
import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from numpy_ref.errors import UserError
from numpy_ref.processes import ALONE, launched

TORCH_ONLY_FILE = "the reference trains in one process"

PATIENCE = timedelta(minutes=30)  # that a process waits for the others: the first may be reading a large corpus
LOST = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)


class Processes:
    """The processes of a run; this is number ``rank`` of ``world``."""

    def __init__(self):
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def first(self, call, then):
        """``call()`` on the first process; ``then()`` on the others, once the first is done."""
        found = call() if self.rank == 0 else None
        self.agree(0)
        return found if self.rank == 0 else then()

    def agree(self, number):
        """The largest of the whole numbers that the processes bring: all of them get the same one."""
        numbers = torch.tensor([number])
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def sum(self, tensor):
        """The sum of the processes' tensors of one shape, in place."""
        dist.all_reduce(tensor)
        return tensor


def current():
    """The Processes that ``several`` has brought together, or ``ALONE``."""
    return Processes() if dist.is_initialized() else ALONE


@contextlib.contextmanager
def several(device="auto"):
    """A context in which the processes that ``torchrun`` started work together; gives them, or ``ALONE``.

    All but the first are silent. When one fails, it says why, and the others, which then fail for want of it, end
    with status 2 without a word. ``device``: the name that was asked for.
    """
    if launched() is None:
        yield ALONE
        return
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    if cuda:
        _take_gpu(int(os.environ.get("LOCAL_RANK", 0)))
    store, rank, world = next(dist.rendezvous("env://", timeout=PATIENCE))
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    group = dist.PrefixStore("group", store)
    dist.init_process_group(backend, store=group, rank=rank, world_size=world, timeout=PATIENCE)
    try:
        with _silent() if rank else contextlib.nullcontext():
            yield Processes()
    except Exception as error:
        if not _speaks_first(store):
            sys.exit(2)
        raise _explained(error, rank, world) from None
    else:
        dist.destroy_process_group()


def leave(main):
    """End the Python process with the status that ``main()`` returns.

    One of several ends at once, without the interpreter's own clearing up: threads of gloo may still hold Python
    objects, and a thread that meets an interpreter on its way out aborts the process ("terminate called").
    """
    try:
        status = main()
    except SystemExit as stop:
        status = stop.code
    if "RANK" not in os.environ:
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if type(status) is int else int(status is not None))


def _take_gpu(local):
    count = torch.cuda.device_count()
    if local >= count:
        raise UserError(
            f"process {local} of this machine has no GPU of its own, there are {count}; "
            f"start {count} processes (torchrun --nproc-per-node {count}), or take --device cpu"
        )
    torch.cuda.set_device(local)


@contextlib.contextmanager
def _silent():
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _speaks_first(store):
    """Whether no other process has failed before this one. Without the store nobody else can speak either."""
    try:
        return store.add("failures", 1) == 1
    except RuntimeError:
        return True


def _explained(error, rank, world):
    """The error that people see: a lost connection in words, and which process it was unless it was the first."""
    lost = isinstance(error, LOST) or isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    if lost:
        reason = str(error).splitlines()[0]
        return UserError(f"process {rank} of {world} lost the others: one was killed or cut off ({reason}); --resume")
    return UserError(f"process {rank} of {world}: {error}") if rank and isinstance(error, UserError) else error
