"""A run that several processes share: how it begins, and how it goes on from what any number of processes saved."""

import contextlib
import dataclasses
from functools import partial

from numpy_ref import checkpoint_file, shard_files
from numpy_ref.config import SAVED_IN_PARTS
from numpy_ref.errors import UserError
from torch_impl.device import choose_dtype
from torch_impl.model.initialise import initialise
from torch_impl.training import checkpoint, sharded_checkpoint
from torch_impl.training.optimizer import init_states
from torch_impl.training.parallel import Parallel, check

TORCH_ONLY_FILE = "the reference trains in one process"


def start(processes, model_config, train_config, out, resume, device, master):
    """(Run, Parallel): the Run before its first step, or as it was saved in ``out``, with this process's shares.

    ``master``: the number format of the weights. Raises UserError where these processes, or these settings, can't.
    """
    check(processes, model_config, train_config, device)
    dtype = choose_dtype(train_config.dtype, device, model_config)
    arrange = partial(Parallel, processes, model_config, train_config, device=device, dtype=dtype)
    if not resume:
        parallel = arrange(lambda names: initialise(model_config, train_config.seed, master, device, names))
        states = init_states(parallel.params, train_config)
        return checkpoint_file.Run(model_config, train_config, parallel.params, states), parallel
    newest = checkpoint_file.newest_first(out)[0]
    if train_config.parallel in SAVED_IN_PARTS and checkpoint_file.is_sharded(newest):
        with contextlib.suppress(UserError):  # a damaged one: below, the next that is whole is found, with a warning
            return _read(newest, arrange, master, model_config, train_config, device, out)
    return _distributed(out, arrange, master, model_config, train_config, device)


def _read(path, arrange, master, model_config, train_config, device, out):
    """From a sharded checkpoint: each process reads what it will hold, and no more."""
    header = shard_files.read_header(path)
    parallel = arrange(lambda names: initialise(model_config, 0, master, device, names))
    _, saved = checkpoint_file.configs(header)
    states = init_states(parallel.params, saved)
    if any(key.startswith("ema/") for key in header["arrays"]):
        states["ema"] = {name: param.clone() for name, param in parallel.params.items()}
    if header["loss_scale"]:
        states["loss_scale"] = dict(header["loss_scale"])
    counts = {name: header[name] for name in checkpoint_file.COUNTS}
    run = checkpoint_file.Run(model_config, saved, parallel.params, states, **counts, best=header["best"])
    checkpoint_file.check_resumable(run, model_config, train_config, out)
    sharded_checkpoint.load(path, parallel, run)
    run.train_config = train_config
    return run, parallel


def _distributed(out, arrange, master, model_config, train_config, device):
    """From one file, or from shards by DDP: each process reads all into the host's memory, and takes its own."""
    whole = checkpoint.load(out, str(master).removeprefix("torch."), "cpu")
    checkpoint_file.check_resumable(whole, model_config, train_config, out)
    parallel = arrange(lambda names: {name: whole.params[name].to(device) for name in names})
    states = {}
    for name, state in whole.states.items():
        if name == "loss_scale":
            states[name] = state
        elif name == "ema":
            states[name] = {key: parallel.share(key, value) for key, value in state.items()}
        else:
            states[name] = {
                field: value if type(value) is int else parallel.share(name, value) for field, value in state.items()
            }
    run = dataclasses.replace(whole, train_config=train_config, params=parallel.params, states=states)
    return run, parallel
