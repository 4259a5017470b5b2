"""Adapters in a file of their own, a few per cent of their model: ``adapters.npz``.

header                 JSON as bytes: the model's config and LoRA's settings, the seed of the rows that widened the
                       vocabulary, a checksum
adapter/<name>         what was trained, named as in ``adapters.trained_shapes``
"""

import dataclasses
import json
from pathlib import Path

from numpy_ref import checkpoint_file
from numpy_ref.config import ModelConfig, from_json
from numpy_ref.errors import UserError
from numpy_ref.sft import adapters

DEFINITION = "a file format: arrays pass through it unchanged"

NAME = "adapters.npz"


def write(path, run, to_numpy):
    """Write what a Run with frozen weights has trained. ``to_numpy`` turns the wing's arrays into NumPy arrays."""
    _, lora = run.frozen
    arrays = {f"adapter/{name}": to_numpy(value) for name, value in run.params.items()}
    header = {
        "model": dataclasses.asdict(run.model_config),
        "lora": adapters.to_header(lora),
        "seed": run.train_config.seed,
    }
    checkpoint_file.write(Path(path), arrays, header)


def read(path):
    """({name: array}, ModelConfig, LoRA, seed) of such a file. Raises UserError for one that is missing, damaged, or none."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there are no adapters at {path}; give an {NAME} that `sft --lora-rank` has written")
    arrays, header = checkpoint_file.unsealed(path)
    try:
        model = from_json(ModelConfig, json.dumps(header["model"]))
        lora, seed = adapters.from_header(header["lora"]), header["seed"]
        shapes = adapters.trained_shapes(model, lora)
        found = {name: arrays[f"adapter/{name}"] for name in shapes}
        fine = type(seed) is int and seed >= 0 and all(found[name].shape == shape for name, shape in shapes.items())
    except KeyError:
        fine = False
    if not fine:
        raise UserError(f"{path} holds no adapters, or not those of its own model; take another copy")
    return found, model, lora, seed


def check_fits(base, model, path):
    """Raise UserError unless adapters of ``model`` go onto a checkpoint whose config is ``base``."""
    if base.vocab_size > model.vocab_size or dataclasses.replace(base, vocab_size=model.vocab_size) != model:
        raise UserError(f"{path} adapts another model than this checkpoint's; give the one that was fine-tuned")
