"""Settings of the experiment with concept models, and the models that follow from them."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from numpy_ref.concepts.config import KINDS, AutoencoderConfig, ConceptConfig
from numpy_ref.config import DEVICES, TrainConfig, option, require
from numpy_ref.errors import UserError
from numpy_ref.files import replace

DEFINITION = "settings: no arrays"

NAME = "concepts.json"
PARTS = ("autoencoder", *KINDS)  # what is trained, in this order


@dataclass(frozen=True)
class ExperimentConfig:
    """What all concept models share. Sizes are those of minutes on a CPU; width, layers, batch and steps scale them."""

    data: str = option("", "learn from the sentences of a text, as of `train` (stories of a known grammar)")
    length: int = option(32, "most bytes of a sentence")
    steps: int = option(1500, "optimiser steps of a concept model")
    diffusion_steps: int = option(3000, "optimiser steps of the diffusion model, whose gradients are the noisiest")
    batch: int = option(32, "stories a step; the kind decoder takes a quarter")
    sentences: int = option(12, "sentences of a story; the last one is to be predicted")
    width: int = option(96, "features of a concept model")
    layers: int = option(2, "blocks of a concept model, and of the denoiser")
    concept: int = option(32, "features of a concept")
    lr: float = option(2e-3, "peak learning rate")
    autoencoder_steps: int = option(400, "optimiser steps of the auto-encoder")
    autoencoder_width: int = option(48, "features of the auto-encoder")
    autoencoder_batch: int = option(128, "most sentences a step of the auto-encoder")
    autoencoder_lr: float = option(4e-3, "peak learning rate of the auto-encoder")
    noise: float = option(0.3, "deviation of the noise on concepts while the auto-encoder trains")
    noise_steps: int = option(100, "diffusion: steps of noise in training")
    samples: int = option(20, "diffusion: steps of the sampler")
    guidance: float = option(3.0, "diffusion: how much the context counts in sampling (1: as learnt)")
    eta: float = option(0.0, "diffusion: how much of the noise is drawn anew at each step of sampling (0: none, 1: DDPM)")
    codebooks: int = option(4, "quantised, residual: codes of a concept")
    entries: int = option(16, "quantised, residual: values of a code")
    held_out: int = option(512, "stories that each model is judged on")
    seeds: int = option(1, "how often everything is trained: other sentences may follow, other weights, other stories")
    save_every: int = option(200, "steps between checkpoints")
    device: str = option("auto", "auto takes CUDA, then MPS, then the CPU", DEVICES)

    def __post_init__(self):
        for name in ("steps", "diffusion_steps", "autoencoder_steps", "autoencoder_batch", "batch", "held_out", "seeds", "save_every"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "sentences", lambda v: isinstance(v, int) and v >= 4, "a whole number of at least 4")
        for part in PARTS:
            self.model(part)  # raises for what it does not allow
            self.training(part)

    def model(self, part):
        """The config of a part of the experiment."""
        if part == "autoencoder":
            return AutoencoderConfig(length=self.length, width=self.autoencoder_width, concept=self.concept, noise=self.noise)
        return ConceptConfig(
            kind=part, concept=self.concept, context=self.sentences - 1, width=self.width, layers=self.layers,
            denoiser_layers=self.layers, steps=self.noise_steps, samples=self.samples, guidance=self.guidance,
            eta=self.eta, codebooks=self.codebooks, entries=self.entries,
        )  # fmt: skip

    def training(self, part):
        """The TrainConfig of a part."""
        steps = {"autoencoder": self.autoencoder_steps, "diffusion": self.diffusion_steps}.get(part, self.steps)
        lr = self.autoencoder_lr if part == "autoencoder" else self.lr
        return TrainConfig(steps=steps, lr=lr, warmup=min(50, steps // 4), weight_decay=0.01, final_lr=0.05)


def write(out, settings):
    """Keep the settings in a run folder."""
    text = json.dumps(dataclasses.asdict(settings), indent=1).encode()
    replace(Path(out) / NAME, lambda file: file.write(text))


def read(out):
    """The settings of a run folder. Raises UserError where there are none, or none that fit."""
    path = Path(out) / NAME
    try:
        return ExperimentConfig(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"{out} holds no run of concept models; `concepts --out {out}`, without --resume, begins one") from None
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged; begin a new run in another folder") from None
