"""Models of a word in its context, and their parameters.

    static     the word's own vector, whatever stands around it
    bag        the mean of the last words, mixed in by a gate
    gate       attention over the last words, mixed in by a gate                    (dynamic context)
    film       attention over the last words, which scales and shifts the vector    (FiLM, arXiv:1709.07871)
    plain      a transformer block, as large as ``gate``

"Context-aware semantic processing" is no term of the field; here it is a context vector made anew for every place, by
attention over its past, that modulates the word's vector. The past alone: a mean over the whole text would tell the
model what it is to predict.
"""

import math
from dataclasses import dataclass

from numpy_ref import config as transformer
from numpy_ref.config import ModelConfig, option, require
from numpy_ref.errors import UserError

DEFINITION = "settings: no arrays"

KINDS = ("static", "bag", "gate", "film", "plain")
EPS = 1e-5


@dataclass(frozen=True)
class ContextConfig:
    """Widths in features, spans in words."""

    kind: str = option("gate", "what a word's vector is made of", KINDS)
    vocab_size: int = option(2000, "different words")
    pairs: int = option(50, "pseudo-words, each two words under one id")
    width: int = option(32, "features of a word")
    heads: int = option(4, "attention heads")
    span: int = option(12, "words before a word that it sees")
    init_std: float = option(0.1, "standard deviation of the initial weights")

    def __post_init__(self):
        require(self, "kind", lambda v: v in KINDS, "one of " + ", ".join(KINDS))
        for name in ("vocab_size", "pairs", "width", "heads", "span"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "init_std", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        if self.width % self.heads:
            raise UserError(f"width={self.width} is no multiple of heads={self.heads}; take one that is")
        if self.kind == "plain" and self.width // self.heads % 2:
            raise UserError(f"a head of {self.width // self.heads} features has no pairs to turn; take an even number")

    @property
    def block(self):
        """The ModelConfig of the plain model: the feed-forward network is as large as the gate's two matrices."""
        return ModelConfig(
            vocab_size=self.vocab_size, context=self.span + 1, layers=1, width=self.width, heads=self.heads,
            feed_forward=2 * self.width, positions="rope", norm="rms", feed_forward_bias=False, norm_eps=EPS,
        )  # fmt: skip


def parameter_shapes(config):
    """name -> shape of every parameter."""
    d = config.width
    shapes = {"word_embedding.weight": (config.vocab_size, d)}
    if config.kind in ("gate", "film"):
        shapes |= {"past.query.weight": (d, d), "past.key_value.weight": (2 * d, d), "past.output.weight": (d, d)}
        shapes["past.distance.weight"] = (config.heads, config.span)
    if config.kind in ("gate", "bag"):
        shapes |= {"gate.gate.weight": (d, 2 * d), "gate.gate.bias": (d,), "gate.change.weight": (d, 2 * d)}
    if config.kind == "film":
        shapes |= {"film.scale.weight": (d, d), "film.shift.weight": (d, d)}
    if config.kind == "plain":
        blocks = transformer.parameter_shapes(config.block)
        shapes |= {name: shape for name, shape in blocks.items() if name.startswith("blocks.")}
    return shapes | {"final_norm.weight": (d,), "senses.weight": (config.pairs, 2, d)}


def parameter_count(config, embedding=True):
    """Number of parameters, with the table of words or without."""
    shapes = parameter_shapes(config)
    return sum(math.prod(shape) for name, shape in shapes.items() if embedding or name != "word_embedding.weight")
