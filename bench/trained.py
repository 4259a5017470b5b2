"""A model that has learned something, for measurements that random weights say nothing about.

``--checkpoint`` and ``--draft`` name runs; without them a small model is trained here on CPython's help texts, once for
all jobs of a run, in the folder that they share.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from numpy_ref.presets import preset

LEARNING = {  # preset, changes, steps
    "target": ("llama-1m", {}, 400),
    "draft": ("llama-1m", {"layers": 1, "width": 64, "feed_forward": 192}, 200),
}


def run_folder(job, role="target"):
    """The folder of the trained run of that role, which is made if need be."""
    given = job.get({"target": "checkpoint", "draft": "draft"}[role])
    if given:
        return Path(given)
    from numpy_ref.checkpoint_file import NAME
    from torch_impl.training.loop import train

    name, changes, steps = LEARNING[role]
    model, settings = preset(name)
    model = replace(model, context=256, dropout=0.0, **changes)
    steps = job["shape"].get("steps", steps)
    settings = replace(
        settings, steps=steps, batch=16, warmup=min(20, steps), lr=4e-3, optimizer="adamw", device="cpu",
        dtype="bfloat16", eval_every=0, save_every=0,
    )  # fmt: skip
    folder = Path(job["cache"]) / f"{role}-{steps}"
    if not (folder / NAME).exists():
        train(model, settings, held_out(job), folder)
    return folder


def held_out(job):
    """The text, split into a side to learn from and one to judge by."""
    from numpy_ref.data.token_files import prepare
    from torch_impl.tokenizers.byte import encode

    return prepare("pydoc", Path(job["cache"]) / "data", encode, np.uint8)
