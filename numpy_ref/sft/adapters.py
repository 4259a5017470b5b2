"""Which matrices a LoRA adapts, and the names and shapes of what it trains.

A matrix ``blocks.0.attention.output.weight`` (o, i) gets ``blocks.0.attention.output.lora_a`` (r, i) and ``.lora_b``
(o, r). A parameter that is trained as a whole keeps its name.
"""

import json
import math
from dataclasses import asdict, dataclass

from numpy_ref.config import is_router, parameter_shapes, require
from numpy_ref.errors import UserError, shown

DEFINITION = "names and shapes: no arrays"

A, B = "lora_a", "lora_b"


@dataclass(frozen=True)
class LoRA:
    """The settings: see the fields of the same names, with ``lora_`` before them, of ``settings.SFTConfig``."""

    rank: int
    alpha: float
    targets: str = "blocks"
    whole: str = ""

    def __post_init__(self):
        require(self, "rank", lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(
            self,
            "alpha",
            lambda v: isinstance(v, (int, float)) and math.isfinite(v) and v > 0,
            "a finite number above 0",
        )
        for name in ("targets", "whole"):
            require(self, name, lambda v: isinstance(v, str), "text: parts of names with commas between them")

    @property
    def scale(self):
        """What the product of the two matrices is multiplied by."""
        return self.alpha / self.rank


def of(settings):
    """The LoRA of an SFTConfig, or None."""
    if not settings.lora_rank:
        return None
    return LoRA(settings.lora_rank, settings.lora_alpha, settings.lora_targets, settings.lora_whole)


def pair(name):
    """The names of the two matrices that adapt a weight."""
    stem = name.removesuffix(".weight")
    return f"{stem}.{A}", f"{stem}.{B}"


def adapted(config, lora):
    """The names of the matrices that are adapted: of a linear map, and with one of the targets in it.

    Raises UserError for a target that names none.
    """
    matrices = [
        name for name, shape in parameter_shapes(config).items() if len(shape) == 2 and name.endswith(".weight")
    ]
    linear = [name for name in matrices if not (name.endswith("embedding.weight") or is_router(name))]
    chosen = _named(linear, lora.targets, "targets")
    if not chosen:
        raise UserError("LoRA without targets adapts nothing; name some, such as attention,feed_forward")
    return [name for name in chosen if name not in whole(config, lora)]


def whole(config, lora):
    """The names of the parameters that are trained themselves; an output head is left out where it is tied."""
    shapes = parameter_shapes(config)
    wished = [part for part in lora.whole.split(",") if part != "output" or "output.weight" in shapes]
    return _named([name for name in shapes if not name.startswith("blocks.")], ",".join(wished), "whole")


def trained_shapes(config, lora):
    """All that is trained: name -> shape."""
    shapes, found = parameter_shapes(config), {}
    for name in adapted(config, lora):
        outputs, inputs = shapes[name]
        if lora.rank > min(outputs, inputs):
            raise UserError(
                f"lora_rank={lora.rank} is no saving for {name} of {outputs} x {inputs}; take at most {min(outputs, inputs)}"
            )
        first, second = pair(name)
        found |= {first: (lora.rank, inputs), second: (outputs, lora.rank)}
    return found | {name: shapes[name] for name in whole(config, lora)}


def _named(names, parts, what):
    """The names in which one of the parts occurs: whole words between dots."""
    chosen = set()
    for part in filter(None, parts.split(",")):
        found = [name for name in names if f".{part}." in f".{name}."]
        if not found:
            raise UserError(f"lora_{what} has {shown(part)}, which names none of {', '.join(names)}")
        chosen.update(found)
    return [name for name in names if name in chosen]


def to_header(lora):
    """The settings as a checkpoint keeps them."""
    return asdict(lora)


def from_header(value):
    """The LoRA of a checkpoint's header. Raises UserError for what is none."""
    try:
        return LoRA(**value)
    except TypeError:
        raise UserError(
            f"the checkpoint's LoRA is {shown(json.dumps(value))}, which is none; take another copy"
        ) from None
