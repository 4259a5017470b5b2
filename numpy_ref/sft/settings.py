"""How a model is fine-tuned, on top of how it is trained: what counts in the loss, which conversations come when, LoRA."""

import math
from dataclasses import dataclass

from numpy_ref.config import TrainConfig, option, require

DEFINITION = "settings: no arrays"

LONG = ("refuse", "split")
CURRICULA = ("random", "length", "anti", "competence", "self-paced")

# Where options leave it open: a small learning rate and short runs, since the model knows most of it already.
TRAINING = TrainConfig(
    steps=300, batch=32, lr=1e-3, warmup=20, final_lr=0.1, weight_decay=0.01, eval_every=50, save_every=100
)


@dataclass(frozen=True)
class SFTConfig:
    """``batch`` of the TrainConfig counts conversations; the rows that they take vary where they are packed."""

    prompt_weight: float = option(0.0, "what a token of a prompt counts in the loss, where one of an answer counts 1")
    pack: bool = option(True, "several conversations share a row, without seeing each other")
    long: str = option("refuse", "conversations beyond the context: an error, or cut into parts", LONG)
    curriculum: str = option("random", "order of the conversations", CURRICULA)
    curriculum_start: float = option(0.1, "competence, self-paced: share of them, the easiest, to begin with")
    curriculum_share: float = option(0.5, "competence, self-paced: share of the steps after which all are in")
    measure_every: int = option(50, "self-paced: steps between measurements of every conversation's loss")
    mix_temperature: float = option(1.0, "several --data: sizes count to the power 1 / this (large: all alike)")
    lora_rank: int = option(0, "train only the product of two matrices of this rank beside each matrix (0: train all)")
    lora_alpha: float = option(16.0, "LoRA: that product is scaled by this / rank")
    lora_targets: str = option("blocks", "LoRA: matrices that get one, by parts of their names: attention,feed_forward")
    lora_whole: str = option("token_embedding,output", "LoRA: parameters that are trained themselves")

    def __post_init__(self):
        require(self, "prompt_weight", lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        require(self, "long", lambda v: v in LONG, "one of " + ", ".join(LONG))
        require(self, "curriculum", lambda v: v in CURRICULA, "one of " + ", ".join(CURRICULA))
        for name in ("curriculum_start", "curriculum_share"):
            require(self, name, lambda v: 0 < v <= 1, "above 0 and at most 1")
        require(self, "measure_every", lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "mix_temperature", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        require(self, "lora_rank", lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")
        require(self, "lora_alpha", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
