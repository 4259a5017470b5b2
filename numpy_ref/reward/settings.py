"""What a run on preferences minimises: the fields are options of the command line, and a run folder keeps them."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from numpy_ref.config import TrainConfig, from_json, option, require
from numpy_ref.errors import UserError
from numpy_ref.files import replace

DEFINITION = "settings: no arrays"

NAME = "objective.json"
REWARD_LOSSES = ("bradley_terry", "margin_ranking", "plackett_luce")
DPO_LOSSES = ("dpo", "ipo")
RULES = ("mean", "worst", "lower")  # of ensembles, see `model.py`


@dataclass(frozen=True)
class RewardConfig:
    """The objective of a reward model (`objective.py`); label smoothing is that of ``TrainConfig``."""

    loss: str = option("bradley_terry", "how rewards are compared", REWARD_LOSSES)
    margin: float = option(0.0, "lead that a chosen answer needs (margin_ranking: 0 takes 1)")
    margin_scale: float = option(0.0, "factor on the data's own margins, which are added to it (0: they are left out)")
    centring: float = option(0.0, "weight of (r_c + r_r)^2, which keeps rewards around 0 (bradley_terry)")

    def __post_init__(self):
        require(self, "loss", lambda v: v in REWARD_LOSSES, "one of " + ", ".join(REWARD_LOSSES))
        for name in ("margin", "margin_scale", "centring"):
            require(self, name, lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        if self.centring and self.loss != "bradley_terry":
            raise UserError(f"centring={self.centring} belongs to bradley_terry, not to {self.loss}; leave it out")
        if (self.margin or self.margin_scale) and self.loss == "plackett_luce":
            raise UserError("plackett_luce has no margin; take another loss or leave margin and margin_scale out")

    @property
    def lead(self):
        """The lead that every pair needs, before its own margin."""
        return self.margin or float(self.loss == "margin_ranking")


@dataclass(frozen=True)
class DPOConfig:
    """The objective of a policy that learns from preferences without a reward model (`dpo/objective.py`)."""

    loss: str = option("dpo", "dpo, or ipo, which stops at a lead that is wide enough", DPO_LOSSES)
    beta: float = option(0.1, "how dear it is to leave the reference: small is far")

    def __post_init__(self):
        require(self, "loss", lambda v: v in DPO_LOSSES, "one of " + ", ".join(DPO_LOSSES))
        require(self, "beta", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")


# Where options leave it open: the model knows the language already, and a reward of few comparisons is soon learnt by heart.
TRAINING = {
    "RewardConfig": TrainConfig(
        steps=300, batch=32, lr=3e-4, warmup=20, final_lr=0.1, weight_decay=0.01, eval_every=50, save_every=100
    ),
    "DPOConfig": TrainConfig(
        steps=200, batch=32, lr=5e-5, warmup=20, final_lr=0.1, weight_decay=0.0, eval_every=50, save_every=100
    ),
}


def write(folder, settings):
    """Note in a run folder what it minimises."""
    text = json.dumps({"kind": type(settings).__name__, "settings": asdict(settings)}) + "\n"
    replace(Path(folder) / NAME, lambda file: file.write(text.encode()))


def read(folder, kind):
    """The settings of a run folder, of class ``kind``. Raises UserError for a run of another kind and a damaged file."""
    path = Path(folder) / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        name, settings = found["kind"], json.dumps(found["settings"])
    except FileNotFoundError:
        raise UserError(f"{folder} is no run on preferences: it has no {NAME}; give another run folder") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path} is damaged; start a new run") from None
    if name != kind.__name__:
        raise UserError(f"the run in {folder} was begun by the command {shown_kind(name)}; go on with it by that")
    return from_json(kind, settings)


def shown_kind(name):
    """The command that makes runs of a kind."""
    return {"RewardConfig": "reward", "DPOConfig": "dpo"}.get(name, "unknown")
