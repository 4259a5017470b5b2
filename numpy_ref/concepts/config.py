"""The shapes of the sentence auto-encoder and of the concept models, their parameters, and how a sentence lies in an array.

    base         regression: the next concept itself                         `base_lcm.py`
    decoder      the same, trained by the words that the frozen decoder says  `step.py`
    diffusion    two towers: context, and a denoiser that looks at it        `two_tower.py`
    quantised    codes of the next concept, one after the other              `quant_lcm.py`
    residual     what the codes so far have left, and the nearest code to it  `quant_lcm.py`
"""

import math
from dataclasses import dataclass

from numpy_ref import config as transformer
from numpy_ref.config import ModelConfig, option, require
from numpy_ref.errors import UserError

DEFINITION = "settings: no arrays"

END = 256  # the token behind a sentence; tokens below are bytes
VOCABULARY = 257
KINDS = ("base", "decoder", "diffusion", "quantised", "residual")


def _stack(width, heads, layers, context):
    return ModelConfig(
        vocab_size=VOCABULARY, context=context, layers=layers, width=width, heads=heads, feed_forward=4 * width,
        positions="rope", norm="rms", feed_forward_bias=False,
    )  # fmt: skip


def _sizes(config, names, least=1):
    for name in names:
        require(config, name, lambda v: isinstance(v, int) and v >= least, f"a whole number of at least {least}")
    if config.width % (2 * config.heads):
        raise UserError(f"{config.width} features do not go into {config.heads} heads of an even width; change one of both")


@dataclass(frozen=True)
class AutoencoderConfig:
    """Bytes of a sentence -> concept -> bytes."""

    length: int = option(48, "most bytes of a sentence")
    width: int = option(64, "features of a byte")
    heads: int = option(4, "attention heads")
    layers: int = option(2, "blocks of the encoder, and of the decoder")
    concept: int = option(32, "features of a sentence")
    noise: float = option(0.3, "deviation of the noise on a concept in training; its features have size 1")

    def __post_init__(self):
        _sizes(self, ("length", "width", "heads", "layers", "concept"))
        require(self, "noise", lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")

    def stack(self, name):
        """The ModelConfig of the blocks of the "encoder" or the "decoder"."""
        return _stack(self.width, self.heads, self.layers, self.length + 1)


@dataclass(frozen=True)
class ConceptConfig:
    """Concepts so far -> next concept. A kind ignores what it has not."""

    kind: str = option("base", "which model", KINDS)
    concept: int = option(32, "features of a concept")
    context: int = option(16, "sentences the model sees at once")
    width: int = option(96, "features of the residual stream")
    heads: int = option(4, "attention heads")
    layers: int = option(2, "blocks over the context")
    denoiser_layers: int = option(2, "diffusion: blocks of the denoiser")
    steps: int = option(100, "diffusion: steps of noise in training")
    samples: int = option(20, "diffusion: steps of the sampler")
    lean: float = option(2.0, "diffusion: how far the steps of training lean toward much noise (1: all alike)")
    drop: float = option(0.15, "diffusion: share of training places without a context, for guidance")
    guidance: float = option(1.0, "diffusion: how much the context counts in sampling (1: as learnt)")
    rescale: float = option(0.7, "diffusion: how much of the spread that guidance adds is taken back")
    start: float = option(1.0, "diffusion: deviation of the noise that sampling begins with")
    noise_scale: float = option(1.0, "diffusion: what the noise is divided by at each step")
    eta: float = option(0.0, "diffusion: how much of the noise is drawn anew at each step of sampling (0: none, DDIM; 1: DDPM)")
    codebooks: int = option(4, "quantised, residual: codes of a concept")
    entries: int = option(16, "quantised, residual: values of a code")
    temperature: float = option(1.0, "quantised: of the distribution that codes are drawn from")

    def __post_init__(self):
        require(self, "kind", lambda v: v in KINDS, "one of " + ", ".join(KINDS))
        names = ("concept", "context", "layers", "denoiser_layers", "samples", "codebooks", "entries")
        _sizes(self, (*names, "width", "heads"))
        require(self, "steps", lambda v: isinstance(v, int) and v >= 2, "a whole number of at least 2")
        require(self, "samples", lambda v: v <= self.steps, f"at most steps, {self.steps}")
        for name in ("drop", "rescale", "eta"):
            require(self, name, lambda v: 0 <= v <= 1, "between 0 and 1")
        require(self, "guidance", lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        for name in ("lean", "start", "noise_scale", "temperature"):
            require(self, name, lambda v: math.isfinite(v) and v > 0, "a finite number above 0")

    def stack(self, name):
        """The ModelConfig of the blocks over the context."""
        return _stack(self.width, self.heads, self.layers, self.context)


def _blocks(name, config):
    shapes = transformer.parameter_shapes(config.stack(name))
    return {f"{name}.{key}": shape for key, shape in shapes.items() if key.startswith("blocks.")}


def encoder_shapes(config):
    """The encoder's part of the auto-encoder: name -> shape. The table of bytes is also the decoder's."""
    d = config.width
    shapes = {"byte_embedding.weight": (VOCABULARY, d)} | _blocks("encoder", config)
    return shapes | {"encoder_norm.weight": (d,), "to_concept.weight": (config.concept, d)}


def decoder_shapes(config):
    """The decoder's part: name -> shape."""
    d = config.width
    shapes = {"byte_embedding.weight": (VOCABULARY, d), "from_concept.weight": (d, config.concept)}
    return shapes | _blocks("decoder", config) | {"final_norm.weight": (d,), "output.weight": (VOCABULARY, d)}


def parameter_shapes(config):
    """Every parameter of an auto-encoder or a concept model: name -> shape."""
    if isinstance(config, AutoencoderConfig):
        return encoder_shapes(config) | decoder_shapes(config)
    return context_shapes(config) | {
        "base": _regression, "decoder": _regression, "diffusion": denoiser_shapes, "quantised": code_shapes, "residual": code_shapes,
    }[config.kind](config)  # fmt: skip


def context_shapes(config):
    """What every concept model reads its context with."""
    shapes = {"input.weight": (config.width, config.concept)} | _blocks("context", config)
    return shapes | {"context_norm.weight": (config.width,)}


def _regression(config):
    return {"output.weight": (config.concept, config.width), "output.bias": (config.concept,)}


def denoiser_block_shapes(config):
    """One block of the denoiser."""
    d = config.width
    return {
        "modulation.weight": (6 * d, d), "modulation.bias": (6 * d,), "attention_norm.weight": (d,),
        "attention.query.weight": (d, d), "attention.key_value.weight": (2 * d, d), "attention.output.weight": (d, d),
        "feed_forward_norm.weight": (d,), "feed_forward.up.weight": (4 * d, d), "feed_forward.down.weight": (d, 4 * d),
    }  # fmt: skip


def denoiser_shapes(config):
    """The second tower."""
    d = config.width
    shapes = {"noisy.weight": (d, config.concept)}
    for layer in ("time.first", "time.second"):
        shapes |= {f"{layer}.weight": (d, d), f"{layer}.bias": (d,)}
    for layer in range(config.denoiser_layers):
        shapes |= {f"denoiser.{layer}.{name}": shape for name, shape in denoiser_block_shapes(config).items()}
    return shapes | {"final_norm.weight": (d,)} | _regression(config)


def code_shapes(config):
    """What predicts codes, or what they leave: the outputs are entries of a codebook or features of a concept."""
    d = config.width
    shapes = {"partial.weight": (d, config.concept), "codebook_embedding.weight": (config.codebooks, d)}
    shapes |= {"head_norm.weight": (d,), "head.up.weight": (4 * d, d), "head.down.weight": (d, 4 * d)}
    return shapes | {"final_norm.weight": (d,), "output.weight": (config.concept if config.kind == "residual" else config.entries, d)}


def parameter_count(config):
    """Number of parameters."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())
