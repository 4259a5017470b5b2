"""What a model, a training run and a sampler are made of: three dataclasses, their presets and their JSON.

A definition, not a component: it computes on no arrays, so it is written once and both wings read it.
The command line is built from the same fields (``help`` in the metadata is the text of the option).
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field

from numpy_ref.errors import UserError

DEFINITION = "settings: no arrays"

ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
POSITIONS = ("sinusoidal", "learned", "none")
NORM_POSITIONS = ("pre", "post")
OPTIMIZERS = ("adamw", "muon")
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
DEVICES = ("auto", "cpu", "cuda", "mps")


def option(default, help, choices=None):
    """A dataclass field that is also a command line option."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer. Widths are in numbers of features, ``context`` in tokens."""

    vocab_size: int = option(256, "number of different tokens")
    context: int = option(128, "tokens the model sees at once")
    layers: int = option(4, "number of blocks")
    width: int = option(128, "features of the residual stream")
    heads: int = option(8, "attention heads; width must be a multiple")
    feed_forward: int = option(512, "hidden features of the feed-forward network")
    activation: str = option("gelu", "non-linearity of the feed-forward network", ACTIVATIONS)
    positions: str = option("sinusoidal", "how positions enter the model", POSITIONS)
    norm_position: str = option("pre", "layer norm before each branch (pre) or after each sum (post)", NORM_POSITIONS)
    norm_eps: float = option(1e-5, "epsilon inside the square root of the norm")
    norm_bias: bool = option(True, "norms have biases")
    attention_bias: bool = option(False, "attention projections have biases")
    feed_forward_bias: bool = option(True, "feed-forward projections have biases")
    tie_embeddings: bool = option(False, "the output head shares the token embedding")
    embedding_scale: float = option(1.0, "factor on the token embedding (sqrt(width) in the paper)")
    dropout: float = option(0.0, "share of features dropped from the embedding and from each branch")
    init_std: float = option(0.02, "standard deviation of the initial weights")

    def __post_init__(self):
        for name in ("vocab_size", "context", "layers", "width", "heads", "feed_forward"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "activation", lambda v: v in ACTIVATIONS, "one of " + ", ".join(ACTIVATIONS))
        require(self, "positions", lambda v: v in POSITIONS, "one of " + ", ".join(POSITIONS))
        require(self, "norm_position", lambda v: v in NORM_POSITIONS, "one of " + ", ".join(NORM_POSITIONS))
        require(self, "norm_eps", lambda v: 0 < v < 1, "above 0 and below 1")
        require(self, "embedding_scale", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        require(self, "dropout", lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "init_std", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        if self.width % self.heads:
            raise UserError(
                f"width={self.width} is not divisible by heads={self.heads}; "
                f"take a width that is a multiple of {self.heads} or another number of heads"
            )
        if self.positions == "sinusoidal" and self.width % 2:
            raise UserError(f"sinusoidal positions need an even width, got width={self.width}; add or remove one")


@dataclass(frozen=True)
class TrainConfig:
    """How a run trains. ``lr`` is the peak; the schedule is a linear warm-up, then a cosine to ``final_lr * lr``."""

    steps: int = option(1000, "optimiser steps")
    batch: int = option(32, "sequences a step")
    lr: float = option(1e-3, "peak learning rate")
    warmup: int = option(100, "steps of linear warm-up")
    final_lr: float = option(0.0, "learning rate at the end, as a share of the peak")
    optimizer: str = option("adamw", "adamw for everything, or muon for the matrices of the blocks", OPTIMIZERS)
    momentum: float = option(0.95, "Muon: decay of the momentum")
    beta1: float = option(0.9, "AdamW: decay of the first moment")
    beta2: float = option(0.95, "AdamW: decay of the second moment")
    eps: float = option(1e-8, "AdamW: added to the square root of the second moment")
    weight_decay: float = option(0.1, "decoupled decay of matrices; norms and biases have none")
    clip: float = option(1.0, "largest global norm of the gradient")
    label_smoothing: float = option(0.0, "share of the target given to all tokens alike")
    z_loss: float = option(0.0, "weight of logsumexp(logits)^2 in the loss")
    dtype: str = option("auto", "number format of activations; master weights stay float32", DTYPES)
    device: str = option("auto", "auto takes CUDA, then MPS, then the CPU", DEVICES)
    seed: int = option(0, "seed of the weights, the data order and dropout")
    eval_every: int = option(100, "steps between evaluations on held-out text (0: only at the end)")
    eval_tokens: int = option(16384, "held-out tokens an evaluation during training reads")
    save_every: int = option(200, "steps between checkpoints (0: only at the end)")

    def __post_init__(self):
        for name in ("steps", "batch"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        for name in ("warmup", "seed", "eval_every", "save_every"):
            require(self, name, lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")
        require(self, "eval_tokens", lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        for name in ("lr", "eps", "clip"):
            require(self, name, lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        for name in ("beta1", "beta2", "momentum", "label_smoothing"):
            require(self, name, lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "final_lr", lambda v: 0 <= v <= 1, "between 0 and 1")
        for name in ("weight_decay", "z_loss"):
            require(self, name, lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        require(self, "optimizer", lambda v: v in OPTIMIZERS, "one of " + ", ".join(OPTIMIZERS))
        require(self, "dtype", lambda v: v in DTYPES, "one of " + ", ".join(DTYPES))
        require(self, "device", lambda v: v in DEVICES, "one of " + ", ".join(DEVICES))


@dataclass(frozen=True)
class SampleConfig:
    """How the next token is chosen. The filters act in this order: temperature, top-k, top-p, min-p."""

    tokens: int = option(200, "tokens to generate")
    temperature: float = option(1.0, "divides the logits; below 1 is bolder, above 1 wilder")
    top_k: int = option(0, "keep the k likeliest tokens (0: all)")
    top_p: float = option(1.0, "keep the fewest likeliest tokens whose mass reaches p (1: all)")
    min_p: float = option(0.0, "keep tokens at least this share as likely as the likeliest (0: all)")
    greedy: bool = option(False, "always take the likeliest token")
    seed: int = option(0, "seed of the draws")

    def __post_init__(self):
        require(self, "tokens", lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "temperature", lambda v: math.isfinite(v) and v > 0, "a finite number above 0 (or use --greedy)")
        require(self, "top_k", lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0 (0 keeps all)")
        require(self, "top_p", lambda v: 0 < v <= 1, "above 0 and at most 1")
        require(self, "min_p", lambda v: 0 <= v <= 1, "between 0 and 1")
        require(self, "seed", lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")


def require(config, name, allowed, words):
    """Raise UserError unless the field passes; a comparison that can't be made (text, NaN) fails too."""
    value = getattr(config, name)
    try:
        fine = bool(allowed(value)) and not (isinstance(value, bool) and type(config).__dataclass_fields__[name].type is not bool)
    except TypeError:
        fine = False
    if not fine:
        raise UserError(f"{name}={value!r} is not allowed; it must be {words}")


# A preset is a model and the way it is trained well; the command line overrides single fields.
PRESETS = {
    # 856,832 parameters: the smallest model here whose samples read as English.
    "showcase": (
        ModelConfig(embedding_scale=math.sqrt(128)),
        TrainConfig(steps=800, batch=32, lr=8e-3, optimizer="muon"),
    ),
    # For tests and for reading: every part is there, nothing takes time.
    "tiny": (
        ModelConfig(context=32, layers=2, width=32, heads=4, feed_forward=64),
        TrainConfig(steps=50, batch=8, lr=3e-3, warmup=5, eval_every=25, save_every=25),
    ),
    # The size of the well-known character-level demonstrations: 6 layers of width 384.
    "small": (
        ModelConfig(context=256, layers=6, width=384, heads=6, feed_forward=1536, embedding_scale=math.sqrt(384)),
        TrainConfig(steps=5000, batch=32, lr=1e-3),
    ),
}


def preset(name):
    """(ModelConfig, TrainConfig) of a preset. Raises UserError with the names that exist."""
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def parameter_shapes(config):
    """Every parameter of the model: name -> shape. The names are the keys of checkpoints and of ``state_dict``.

    Linear weights are (outputs, inputs). ``query_key_value`` stacks the three projections along the outputs, so that
    one matrix product computes all three.
    """
    d, f = config.width, config.feed_forward
    shapes = {"token_embedding.weight": (config.vocab_size, d)}
    if config.positions == "learned":
        shapes["position_embedding.weight"] = (config.context, d)

    def norm(name):
        shapes[f"{name}.weight"] = (d,)
        if config.norm_bias:
            shapes[f"{name}.bias"] = (d,)

    def linear(name, outputs, inputs, bias):
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    for layer in range(config.layers):
        block = f"blocks.{layer}"
        norm(f"{block}.attention_norm")
        linear(f"{block}.attention.query_key_value", 3 * d, d, config.attention_bias)
        linear(f"{block}.attention.output", d, d, config.attention_bias)
        norm(f"{block}.feed_forward_norm")
        linear(f"{block}.feed_forward.up", f, d, config.feed_forward_bias)
        linear(f"{block}.feed_forward.down", d, f, config.feed_forward_bias)
    if config.norm_position == "pre":  # post-norm blocks already end in a norm
        norm("final_norm")
    if not config.tie_embeddings:
        shapes["output.weight"] = (config.vocab_size, d)
    return shapes


def parameter_count(config):
    """Number of parameters; a tied output head counts once."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def to_json(config):
    """One line of JSON with every field."""
    return json.dumps(dataclasses.asdict(config))


def from_json(kind, text):
    """The config of class ``kind`` from its JSON. Raises UserError on unknown fields, wrong types and bad values."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"the configuration is not JSON ({error}); write one with {kind.__name__} and to_json") from None
    if not isinstance(values, dict):
        raise UserError(f"the configuration must be a JSON object, got {type(values).__name__}")
    fields = {f.name: f.type for f in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in fields:
            raise UserError(f"{kind.__name__} has no field {name!r}; its fields are {', '.join(fields)}")
        if type(value) is int and fields[name] is float:
            values[name] = float(value)
        elif type(value) is not fields[name]:
            raise UserError(f"{name}={value!r} must be of type {fields[name].__name__}")
    return kind(**values)
