"""The checkpoint: one ``checkpoint.npz`` that both wings write and read, with no pickle in it.

`archive.py` reads the arrays, `checkpoint_header.py` checks them, `saving.py` says when checkpoints are written and how many stay.

    header                        JSON as bytes: format, configs, step, data position, ..., sha256
    model/<parameter>             the weights, named as in ``config.parameter_shapes``
    model/<parameter>.codes       ... and .scales, .zeros: a quantised weight (`model/quantization.py`) instead
    optimizer/<parameter>/<field> what the optimiser remembers about a parameter (m, v, step or momentum)
    ema/<parameter>               the moving average of the weights, where the run keeps one (``states["ema"]``)
    frozen/<parameter>            the weights that stay as they are, where what is trained are adapters (``sft/adapters.py``)

The order of the data, dropout and sampling are functions of seed and position (``rng.py``), so the random state of a
run is its seed and the numbers in the header.
"""

import dataclasses
import hashlib
import json
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from numpy_ref import archive, shard_files
from numpy_ref.checkpoint_header import NAME, PARTS, check, configs, lora_of
from numpy_ref.config import ModelConfig, TrainConfig, parameter_shapes
from numpy_ref.errors import RunWarning, UserError
from numpy_ref.files import replace
from numpy_ref.sft import adapters

DEFINITION = "a file format: arrays pass through it unchanged"

FORMAT = 1
COUNTS = ("step", "position", "tokens", "seconds", "wing")


@dataclass
class Run:
    """A training run between two steps: all that is needed to go on as if nothing had happened.

    ``params`` name -> array and ``states`` name -> {field: array} are in the arrays of the wing that trains.
    ``step`` counts finished optimiser steps, ``position`` the sequences drawn from the data, ``tokens`` the tokens
    trained on, ``seconds`` the time spent. A float16 run keeps its loss scale as ``states["loss_scale"]``, a run with
    moving averages keeps them as ``states["ema"]``. ``best`` is None or {"step", "val_loss"} of the evaluation with the
    lowest held-out loss so far. ``frozen`` is None, or (weights, LoRA): ``params`` are then trained beside the weights.
    ``extra``: further numbers and words that the run has to remember, for JSON.
    """

    model_config: ModelConfig
    train_config: TrainConfig
    params: dict
    states: dict
    step: int = 0
    position: int = 0
    tokens: int = 0
    seconds: float = 0.0
    wing: str = "numpy"
    best: dict | None = None
    frozen: tuple | None = None
    extra: dict = field(default_factory=dict)

    def advance(self, batch, tokens):
        """Count one finished step over ``batch`` sequences with ``tokens`` tokens in all."""
        self.step += 1
        self.position += batch
        self.tokens += tokens

    def judge(self, val_loss):
        """Take note of a held-out loss; whether it is the best so far. NaN never is."""
        if not (self.best is None or val_loss < self.best["val_loss"]) or not math.isfinite(val_loss):
            return False
        self.best = {"step": self.step, "val_loss": val_loss}
        return True


def pack(run, to_numpy):
    """(arrays, header) of a Run; ``to_numpy`` turns the wing's arrays, and Python's numbers, into NumPy arrays."""
    arrays, quantization = {}, None
    for name, value in run.params.items():
        if is_quantized(value):
            quantization = {"bits": value.bits, "group": value.group}
            parts = {part: getattr(value, part) for part in PARTS}
            arrays |= {f"model/{name}.{part}": to_numpy(array) for part, array in parts.items() if array is not None}
        else:
            arrays[f"model/{name}"] = to_numpy(value)
    for name in run.params:
        arrays |= {f"optimizer/{name}/{field}": to_numpy(value) for field, value in run.states[name].items()}
    arrays |= {f"ema/{name}": to_numpy(value) for name, value in run.states.get("ema", {}).items()}
    weights, lora = run.frozen or ({}, None)
    arrays |= {f"frozen/{name}": to_numpy(value) for name, value in weights.items()}
    header = {"model": dataclasses.asdict(run.model_config), "train": dataclasses.asdict(run.train_config)}
    header |= {"loss_scale": run.states.get("loss_scale"), "quantization": quantization, "best": run.best}
    header |= {"lora": adapters.to_header(lora)} if lora else {}
    header["extra"] = run.extra
    return arrays, header | {name: getattr(run, name) for name in COUNTS}


def unpack(arrays, header, from_numpy, quantized=None):
    """The Run of (arrays, header) as ``read`` returns them; ``from_numpy`` makes the wing's arrays of NumPy's.

    A number that stands alone, like AdamW's step, becomes Python's. ``quantized`` is the wing's class of quantised
    weights; raises UserError for a checkpoint that has some when it is None.
    """
    model, train = configs(header)
    lora = lora_of(header)
    names = adapters.trained_shapes(model, lora) if lora else parameter_shapes(model)

    def parameter(name):
        if f"model/{name}" in arrays:
            return from_numpy(arrays[f"model/{name}"])
        bits, group = (header["quantization"][key] for key in ("bits", "group"))
        if quantized is None:
            raise UserError(f"the checkpoint holds weights of {bits} bits, which this loader can't read; give the original")
        parts = [arrays.get(f"model/{name}.{part}") for part in PARTS]
        return quantized(*(None if part is None else from_numpy(part) for part in parts), bits, group)

    params = {name: parameter(name) for name in names}
    states = {name: {} for name in names}
    for key, value in arrays.items():
        if key.startswith("optimizer/"):
            _, name, field = key.split("/")
            states[name][field] = from_numpy(value) if value.ndim else value.item()
    average = {name: from_numpy(arrays[f"ema/{name}"]) for name in names if f"ema/{name}" in arrays}
    if average:
        states["ema"] = average
    if header["loss_scale"]:
        states["loss_scale"] = dict(header["loss_scale"])
    weights = {name: from_numpy(arrays[f"frozen/{name}"]) for name in parameter_shapes(model)} if lora else None
    frozen = (weights, lora) if lora else None
    counts = {name: header[name] for name in COUNTS}
    return Run(model, train, params, states, **counts, best=header.get("best"), frozen=frozen, extra=header.get("extra") or {})


def averaged(run, path):
    """The Run loaded from ``path`` with the moving average of its weights as its weights. Raises UserError without one."""
    average = run.states.get("ema", {})
    if set(average) != set(run.params):
        raise UserError(
            f"the checkpoint at {path} holds no moving average of the weights; "
            "leave --ema out, or train with one: train --ema 0.99"
        )
    return dataclasses.replace(run, params=average)


def is_quantized(value):
    """Whether a parameter is quantised, in either wing's class."""
    return hasattr(value, "codes")


def check_resumable(run, model_config, train_config, folder):
    """Raise UserError unless the Run loaded from ``folder`` can go on with these settings."""
    if any(is_quantized(value) for value in run.params.values()):
        raise UserError(f"the checkpoint in {folder} is quantised: it can generate, but not train; resume the original")
    if run.model_config != model_config:
        raise UserError(f"the checkpoint in {folder} is of another model; resume with the config.json beside it")
    if run.train_config.optimizer != train_config.optimizer:
        had = run.train_config.optimizer
        raise UserError(f"the run in {folder} trains with {had}; another optimiser has no use for its state")
    if not all(run.states[name] for name in run.params):
        raise UserError(f"the checkpoint in {folder} has no optimiser state: it can generate, but not go on training")


def named(folder, step):
    """Where an older checkpoint of a run folder is kept."""
    return Path(folder) / f"checkpoint-{step:08d}.npz"


def of_step(folder, step):
    """Where the checkpoint of a step is, in one file or sharded."""
    shards = shard_files.named(folder, step)
    return shards if shards.exists() else named(folder, step)


def history(folder):
    """[(step, file)] of the older checkpoints in a run folder, newest first."""
    found = ((file.stem.removeprefix("checkpoint-"), file) for file in Path(folder).glob("checkpoint-*.npz"))
    return sorted(((int(step), file) for step, file in found if step.isascii() and step.isdigit()), reverse=True)


def step_of(path):
    """The step that a checkpoint file says it is of, from its header alone, unchecked; None when that can't be read."""
    try:
        step = archive.read_header(path)["step"]
        return step if type(step) is int and step >= 0 else None
    except archive.DAMAGE:
        return None


def newest_first(folder):
    """The checkpoints of a run folder, files and sharded ones, newest first; ``checkpoint.npz`` where there is none."""
    folder = Path(folder)
    files = [folder / NAME, *(file for _, file in history(folder))]
    shards = shard_files.history(folder)
    if not shards:
        return files
    steps = [(step_of(file) or 0, file) for file in files if file.is_file()]
    return [file for _, file in sorted(steps + shards, key=lambda found: found[0], reverse=True)]


def exists(folder):
    """Whether a run folder holds a checkpoint."""
    return (Path(folder) / NAME).exists() or bool(shard_files.history(folder))


def is_sharded(path):
    """Whether the path is that of a sharded checkpoint."""
    return Path(path).suffix == shard_files.SUFFIX


def read_header(folder):
    """The header of a run folder's newest checkpoint. Of a sharded one no array is read."""
    newest = newest_first(folder)[0]
    return shard_files.read_header(newest) if is_sharded(newest) else read(folder)[1]


def locate(path):
    """The checkpoint of a run folder or of a path to the file itself. Raises UserError when there is none."""
    path = Path(path)
    file = newest_first(path)[0] if path.is_dir() and not is_sharded(path) else path
    if is_sharded(file) and file.is_dir():
        return file
    if not file.is_file():
        raise UserError(f"there is no checkpoint at {file}; give a run folder that holds one, or train")
    return file


def write(path, arrays, header, before=None):
    """Write the checkpoint file ``path`` in one step (see ``files.replace``, also for ``before``).

    Raises UserError when a floating-point array holds NaN or infinity (a checkpoint is a place to return to) and when
    the file can't be written; the file that was there before stays as it was.
    """
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise UserError(f"{name} is not finite any more: not saved; {path} keeps the last good step, if any")
    header = {"format": FORMAT, **header}
    header["sha256"] = _checksum(arrays, header)
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    replace(path, lambda file: np.savez(file, header=text, **arrays), before)


def read(path):
    """(arrays, header) of a checkpoint file, or of the newest in a run folder that is whole; checked from end to end.

    A run folder's newest checkpoint may be damaged: then the one before it is taken, with a RunWarning. Raises
    UserError when there is none that is whole: missing, not a checkpoint, truncated, altered, of another format
    version, or with arrays that are not those of its own config.
    """
    path = Path(path)
    files = newest_first(path) if path.is_dir() and not is_sharded(path) else [path]
    first = None
    for file in files:
        try:
            found = _read(file)
        except UserError as error:
            first = first or error
        else:
            if first:
                step = found[1]["step"]
                warnings.warn(f"{first}; going back to {file.name}, step {step}", RunWarning, stacklevel=2)
            return found
    raise first


def _read(path):
    path = locate(path)
    try:
        if is_sharded(path):
            members, header = shard_files.read(path)
        else:
            members, header = unsealed(path)
    except archive.DAMAGE as error:
        raise UserError(_diagnosis(path, error)) from None
    check(path, members, header)
    return members, header


def unsealed(path):
    """(arrays, header) of a file that ``write`` wrote. Raises UserError for one that is damaged, or was altered."""
    try:
        members, header = archive.read(Path(path))
        given = header.pop("sha256")
    except archive.DAMAGE as error:
        raise UserError(_diagnosis(path, error)) from None
    if header.get("format") != FORMAT:
        raise UserError(f"{path} has checkpoint format {header.get('format')!r}; this version reads format {FORMAT}")
    if given != _checksum(members, header):
        raise UserError(f"{path} was altered: its checksum differs; take another copy or train again")
    return members, header


def _checksum(arrays, header):
    """SHA-256 over the header and the name, dtype, shape and bytes of every array."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.str} {arrays[name].shape}\n".encode())
        digest.update(value.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _diagnosis(path, error):
    """One line on why an archive can't be read."""
    if isinstance(error, PermissionError):
        return f"cannot read {path}: {error.strerror}"
    if "Object arrays" in str(error):
        return f"{path} holds pickled Python objects, which could run code; only plain arrays are read"
    with open(path, "rb") as file:
        start = file.read(4)
    if start == b"":
        return f"{path} is empty; take another copy of the checkpoint or train again"
    if start[:2] == b"PK":
        return f"{path} is truncated or damaged; take another copy of the checkpoint or train again"
    return f"{path} is not a checkpoint; give a run folder or the {NAME} inside it"


def describe(folder, model_config, train_config, device=""):
    """Write ``folder``/config.json: the settings of a run for people and scripts (the checkpoint carries its own).

    ``device``: the name of what it trains on, by which ``plot`` knows how fast it could be.
    """
    settings = {"model": dataclasses.asdict(model_config), "train": dataclasses.asdict(train_config), "device": device}
    text = json.dumps(settings, indent=2) + "\n"
    replace(Path(folder) / "config.json", lambda file: file.write(text.encode()))
