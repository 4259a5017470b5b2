"""Checkpoints that every process writes and reads its share of, by ``torch.distributed.checkpoint`` (DCP).

DCP plans who writes and reads what, also when the next run has another number of processes. Its own storage keeps the
plan and the tensors as pickles, which we never load: here both go to the plain files of ``numpy_ref/shard_files.py``.
Any single process, of either wing, reads them through ``checkpoint.load``.
"""

import dataclasses
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from numpy_ref import checkpoint_file, shard_files
from numpy_ref.errors import DiskError, UserError
from numpy_ref.files import replace

TORCH_ONLY_FILE = "the reference trains in one process, and reads these files by shard_files.py"


class ShardedSaver:
    """Saves the shares of a run, one folder a step; takes the place of ``saving.Saver``. Training waits meanwhile.

    ``keep``: how many stay, and the best on top. ``note(text)`` is told of a save that a disk refused; training goes
    on, and the next one tries again. What the last one met is raised at the end of the ``with`` block.
    """

    def __init__(self, folder, keep, note, parallel):
        self.folder, self.keep, self.note, self.parallel = Path(folder), keep, note, parallel
        self.seconds, self.refused = 0.0, None

    def __enter__(self):
        return self

    def check(self):
        """Nothing is under way between two saves."""

    def __exit__(self, kind, *_):
        if self.refused and kind is None:
            raise self.refused

    def save(self, run, _):
        """Write the run as it stands. Raises UserError for a weight that is not finite."""
        start = perf_counter()
        try:
            save(self.folder, run, self.parallel)
            self.refused = None
        except DiskError as error:
            self.refused = error
            self.note(f"not saved: {error}; training goes on, the checkpoint before stays, the next save tries again")
        else:
            if self.parallel is None or self.parallel.processes.rank == 0:
                shard_files.prune(self.folder, run.step, self.keep, (run.best or {}).get("step"))
        self.seconds = perf_counter() - start


def save(folder, run, parallel=None):
    """Write the sharded checkpoint of the run's step; every process calls this, and gets the same error.

    ``parallel``: how the processes share the run (see ``parallel.Parallel``); None: this one has all of it.
    """
    run.wing = "torch"
    path, first = shard_files.named(folder, run.step), parallel is None or parallel.processes.rank == 0
    if first:
        shard_files.remove(path)  # of a run that was taken back
    tensors, header = checkpoint_file.pack(run, lambda value: value)
    scalars = {name: value for name, value in tensors.items() if not torch.is_tensor(value)}
    tensors = {name: value for name, value in tensors.items() if torch.is_tensor(value)}
    state = {name: _joined(parallel, name, value) for name, value in tensors.items()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # that one process saves is meant so
            dcp.save(state, storage_writer=_Writer(path, header | {"scalars": scalars}, list(state)), no_dist=parallel is None)
    except dcp.CheckpointException as error:
        raise _first(error) from None


def load(path, parallel, run):
    """Read this process's share of a sharded checkpoint into ``run``, whose params and states are of the right shapes.

    Raises UserError, the same on every process, when the files are damaged.
    """
    header = shard_files.read_header(path)
    tensors, _ = checkpoint_file.pack(run, lambda value: value)
    state = {name: _joined(parallel, name, value) for name, value in tensors.items() if torch.is_tensor(value)}
    try:
        dcp.load(state, storage_reader=_Reader(path, header), no_dist=parallel is None)
    except dcp.CheckpointException as error:
        raise _first(error) from None
    for key, value in header["scalars"].items():
        _, name, field = key.split("/")
        run.states[name][field] = value


def _joined(parallel, key, value):
    """The tensor as DCP takes it: one held in shares is a DTensor. key: "optimizer/<parameter>/m"."""
    return parallel.joined(key.split("/")[1], value) if parallel else value


def _first(error):
    """The error of the first process that met one, if it is for people; else what DCP says."""
    failures = [failure for _, (failure, _) in sorted(error.failures.items())]
    known = [failure for failure in failures if isinstance(failure, UserError)]
    return known[0] if known else RuntimeError(f"the checkpoint failed: {failures[0]!r}")


class _Writer(dcp.StorageWriter):
    """Writes what DCP plans: each process its own file, the first one the header, with the arrays in the order of ``names``."""

    def __init__(self, path, header, names):
        self.path, self.header, self.names = path, header, names

    def reset(self, checkpoint_id=None):
        pass

    def set_up_storage_writer(self, is_coordinator, *arguments, **keywords):
        pass

    def prepare_local_plan(self, plan):
        return plan

    def prepare_global_plan(self, plans):
        return [dataclasses.replace(plan, storage_data=f"shard-{number:05d}.bin") for number, plan in enumerate(plans)]

    def write_data(self, plan, planner):
        results = []

        def write(file):
            for item in plan.items:
                tensor = planner.resolve_data(item).detach().cpu()
                if not torch.isfinite(tensor).all():
                    raise UserError(f"{item.index.fqn} is not finite any more: not saved; the checkpoint before stays")
                array = tensor.contiguous().numpy()
                content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
                place = {"file": plan.storage_data, "start": file.tell(), "sha256": shard_files.digest(content)}
                file.write(content)
                results.append(WriteResult(item.index, len(content), place))

        replace(self.path / plan.storage_data, write)
        return _done(results)

    def finish(self, metadata, results):
        places = {result.index: result.storage_data for part in results for result in part}
        arrays = {}
        for name in self.names:
            entry = metadata.state_dict_metadata[name]
            boxes = [(list(chunk.offsets), list(chunk.sizes)) for chunk in entry.chunks]
            chunks = [{"offset": at, "shape": size, **places[MetadataIndex(name, at)]} for at, size in boxes]
            dtype = str(entry.properties.dtype).removeprefix("torch.")
            arrays[name] = {"dtype": dtype, "shape": list(entry.size), "chunks": chunks}
        shard_files.write_header(self.path, self.header | {"arrays": arrays})

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id):
        return True


class _Reader(dcp.StorageReader):
    """Gives DCP the plan of a header, and then the chunks that it asks for."""

    def __init__(self, path, header):
        self.path, self.header = path, header

    def reset(self, checkpoint_id=None):
        pass

    def read_metadata(self, *arguments, **keywords):
        tensors, places = {}, {}
        for name, entry in self.header["arrays"].items():
            chunks = [ChunkStorageMetadata(torch.Size(c["offset"]), torch.Size(c["shape"])) for c in entry["chunks"]]
            properties = TensorProperties(dtype=getattr(torch, entry["dtype"]))
            tensors[name] = TensorStorageMetadata(properties, torch.Size(entry["shape"]), chunks)
            places |= {MetadataIndex(name, c["offset"]): (entry["dtype"], c) for c in entry["chunks"]}
        return Metadata(tensors, storage_data=places)

    def set_up_storage_reader(self, metadata, is_coordinator, *arguments, **keywords):
        self.places = metadata.storage_data

    def prepare_local_plan(self, plan):
        return plan

    def prepare_global_plan(self, plans):
        return plans

    def read_data(self, plan, planner):
        for item in plan.items:
            chunk = torch.from_numpy(np.asarray(shard_files.read_chunk(self.path, *self.places[item.storage_index])))
            for axis, (start, length) in enumerate(zip(item.storage_offsets, item.lengths)):
                chunk = chunk.narrow(axis, start, length)
            target = planner.resolve_tensor(item).detach()
            target.copy_(chunk)
            planner.commit_tensor(item, target)
        return _done(None)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id):
        return True


def _done(value):
    future = Future()
    future.set_result(value)
    return future
