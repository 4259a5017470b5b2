"""What a model, a training run and a sampler are made of: three dataclasses and their JSON (`presets.py` has the presets).

A definition, not a component: it computes on no arrays, so it is written once and both wings read it.
The command line is built from the same fields (`options.py`); what parameters a model has follows from its config
(`parameter_shapes.py`). Both can be imported from here.
"""

import math
from dataclasses import dataclass

from numpy_ref.errors import UserError
from numpy_ref.options import allowed_types, from_json, option, require, to_json
from numpy_ref.parameter_shapes import active_parameter_count, is_router, parameter_count, parameter_shapes

__all__ = [
    "ModelConfig", "TrainConfig", "SampleConfig", "active_parameter_count", "allowed_types", "from_json", "is_router", "option",
    "parameter_count", "parameter_shapes", "require", "to_json",
]  # fmt: skip

DEFINITION = "settings: no arrays"

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu", "swiglu", "geglu")
GATED = ("swiglu", "geglu")  # these take two projections of the input: one is bent and gates the other
POSITIONS = ("sinusoidal", "learned", "rope", "alibi", "none")
ROPE_SCALINGS = ("none", "linear", "ntk", "llama3", "yarn")
NORMS = ("layer", "rms")
NORM_POSITIONS = ("pre", "post")
SCORINGS = ("softmax", "sigmoid")
GATES = ("renormalised", "raw", "chosen")
OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "linear", "inverse_sqrt", "wsd")
PARALLEL = ("auto", "ddp", "fsdp", "experts")
SAVED_IN_PARTS = ("fsdp", "experts")  # no process has all of the model
OUTPUTS = ("tokens", "reward", "value", "critic")
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
DEVICES = ("auto", "cpu", "cuda", "mps")

CHOICES = {
    "activation": ACTIVATIONS,
    "positions": POSITIONS,
    "rope_scaling": ROPE_SCALINGS,
    "norm": NORMS,
    "norm_position": NORM_POSITIONS,
    "scoring": SCORINGS,
    "gate": GATES,
    "output": OUTPUTS,
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer. Widths are in numbers of features, ``context`` and ``window`` in tokens."""

    vocab_size: int = option(256, "number of different tokens")
    context: int = option(128, "tokens the model sees at once")
    layers: int = option(4, "number of blocks")
    width: int = option(128, "features of the residual stream")
    heads: int = option(8, "attention heads; width must be a multiple, unless head_width is given")
    kv_heads: int = option(0, "key and value heads, each shared by heads / kv_heads queries (0: as many as heads)")
    head_width: int = option(0, "features of a head (0: width / heads)")
    qk_norm: bool = option(False, "RMS norm of every query and key")
    attention_softcap: float = option(0.0, "bends attention scores by c tanh(score / c) (0: not)")
    attention_curvature: float = option(0.0, "attention by distance in hyperbolic space of curvature -c (0: by products)")
    window: int = option(0, "a position sees the last window keys, itself among them (0: all)")
    full_attention_every: int = option(0, "with a window: every n-th layer sees everything all the same (0: none)")
    sinks: int = option(0, "with a window: the first tokens of a text, which stay visible")
    feed_forward: int = option(512, "hidden features of the feed-forward network")
    activation: str = option("gelu", "non-linearity of the feed-forward network", ACTIVATIONS)
    positions: str = option("sinusoidal", "how positions enter the model", POSITIONS)
    rope_base: float = option(10000.0, "RoPE: the slowest pair turns once in about 2 pi base tokens")
    rope_fraction: float = option(1.0, "RoPE: share of a head's features that turn")
    rope_interleaved: bool = option(False, "RoPE: pairs are neighbours (GPT-J), not a half apart (Llama)")
    rope_scaling: str = option("none", "RoPE: how angles shrink for longer texts", ROPE_SCALINGS)
    rope_factor: float = option(1.0, "RoPE scaling: how many times longer")
    rope_original_context: int = option(0, "RoPE scaling llama3, yarn: context before the scaling")
    rope_low_frequency: float = option(1.0, "RoPE llama3: pairs with fewer turns in the old context are scaled")
    rope_high_frequency: float = option(4.0, "RoPE llama3: pairs with more turns are left alone")
    rope_beta_fast: float = option(32.0, "RoPE yarn: pairs with more turns in the old context are left alone")
    rope_beta_slow: float = option(1.0, "RoPE yarn: pairs with fewer turns are scaled")
    norm: str = option("layer", "layer norm or RMS norm", NORMS)
    norm_position: str = option("pre", "norm before each branch (pre) or after each sum (post)", NORM_POSITIONS)
    norm_eps: float = option(1e-5, "epsilon inside the square root of the norm")
    norm_bias: bool = option(True, "layer norms have biases")
    attention_bias: bool = option(False, "attention projections have biases")
    feed_forward_bias: bool = option(True, "feed-forward projections have biases")
    tie_embeddings: bool = option(False, "the output head shares the token embedding")
    logit_softcap: float = option(0.0, "bends logits by c tanh(logit / c) (0: not)")
    embedding_scale: float = option(1.0, "factor on the token embedding (sqrt(width) in the paper)")
    dropout: float = option(0.0, "share of features dropped from the embedding and from each branch")
    init_std: float = option(0.02, "standard deviation of the initial weights")
    experts: int = option(0, "networks of a mixture of experts, in the place of the feed-forward network (0: dense)")
    experts_per_token: int = option(2, "experts: how many each token goes to")
    expert_width: int = option(0, "experts: hidden features of each (0: feed_forward)")
    shared_experts: int = option(0, "experts: as wide as so many, which every token goes to as well")
    moe_every: int = option(1, "experts: every n-th layer has them, the others are dense")
    dense_layers: int = option(0, "experts: the first layers, which stay dense")
    scoring: str = option("softmax", "experts: scores that share one, or a number of its own for each", SCORINGS)
    gate: str = option("renormalised", "experts: weights are scores over their sum, raw, or softmax of chosen", GATES)
    router_scale: float = option(1.0, "experts: factor on the weights")
    router_bias: bool = option(False, "experts: balanced by a bias on the choice, which no gradient reaches")
    noisy_router: bool = option(False, "experts: in training logits have noise, as much as the token asks for")
    expert_groups: int = option(1, "experts: groups they lie in")
    groups_per_token: int = option(1, "experts: groups that a token may choose from")
    output: str = option("tokens", "what it ends in: scores of the next token; a reward (the command reward); both, for PPO (value, or a critic apart)", OUTPUTS)

    def __post_init__(self):
        for name in ("vocab_size", "context", "layers", "width", "heads", "feed_forward"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        for name in ("kv_heads", "head_width", "window", "full_attention_every", "sinks", "rope_original_context"):
            require(self, name, lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")
        for name, choices in CHOICES.items():
            require(self, name, lambda v, choices=choices: v in choices, "one of " + ", ".join(choices))
        for name in ("attention_softcap", "logit_softcap"):
            require(self, name, lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0 (0: no cap)")
        require(self, "attention_curvature", lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        if self.attention_curvature and self.attention_softcap:
            raise UserError("attention_curvature scores by distances, which attention_softcap can't bend; give one of them")
        require(self, "norm_eps", lambda v: 0 < v < 1, "above 0 and below 1")
        require(self, "embedding_scale", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        require(self, "dropout", lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "init_std", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        if self.width % self.heads and not self.head_width:
            raise UserError(
                f"width={self.width} is not divisible by heads={self.heads}; "
                f"take a width that is a multiple of {self.heads}, another number of heads, or give head_width"
            )
        if self.heads % self.key_value_heads:
            raise UserError(
                f"heads={self.heads} is not divisible by kv_heads={self.kv_heads}; "
                f"each key head serves as many query heads: take a divisor of {self.heads}"
            )
        if self.positions == "sinusoidal" and self.width % 2:
            raise UserError(f"sinusoidal positions need an even width, got width={self.width}; add or remove one")
        if self.window == 0:
            for name in ("full_attention_every", "sinks"):
                if getattr(self, name):
                    raise UserError(f"{name}={getattr(self, name)} means nothing without a window; give window too")
        self._check_rope()
        self._check_experts()

    def _check_rope(self):
        require(self, "rope_base", lambda v: math.isfinite(v) and v > 1, "a finite number above 1")
        require(self, "rope_fraction", lambda v: 0 < v <= 1, "above 0 and at most 1")
        require(self, "rope_factor", lambda v: math.isfinite(v) and v >= 1, "a finite number of at least 1")
        for name in ("rope_low_frequency", "rope_high_frequency", "rope_beta_fast", "rope_beta_slow"):
            require(self, name, lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        if self.positions != "rope":
            if self.rope_scaling != "none":
                raise UserError(f"rope_scaling={self.rope_scaling!r} needs positions='rope', not {self.positions!r}")
            return
        if self.rotary_features < 2 or self.rotary_features % 2:
            raise UserError(
                f"RoPE turns pairs of features, and {self.rotary_features} of a head's {self.head_features} are to turn; "
                "take another head_width or rope_fraction, so that the number is even and at least 2"
            )
        if self.rope_scaling in ("llama3", "yarn") and not self.rope_original_context:
            raise UserError(f"rope_scaling={self.rope_scaling!r} needs rope_original_context, the context before scaling")
        if self.rope_scaling == "ntk" and self.rotary_features == 2:
            raise UserError("NTK scaling has nothing to stretch with two rotary features; take another rope_scaling")
        if self.rope_low_frequency >= self.rope_high_frequency:
            raise UserError("rope_low_frequency must be below rope_high_frequency")
        if self.rope_beta_slow >= self.rope_beta_fast:
            raise UserError("rope_beta_slow must be below rope_beta_fast")

    def _check_experts(self):
        for name in ("experts_per_token", "moe_every", "expert_groups", "groups_per_token"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        for name in ("experts", "expert_width", "shared_experts", "dense_layers"):
            require(self, name, lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")
        require(self, "router_scale", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        if not self.experts:
            for name in ("shared_experts", "dense_layers", "router_bias", "noisy_router"):
                if getattr(self, name):
                    raise UserError(f"{name}={getattr(self, name)} means nothing without experts; give experts too")
            return
        if self.experts_per_token > self.experts:
            raise UserError(
                f"experts_per_token={self.experts_per_token} is more than experts={self.experts}; take at most {self.experts}"
            )
        if self.experts_per_token == 1 and self.gate != "raw":
            raise UserError(
                f"gate={self.gate!r} with experts_per_token=1 weighs every expert by 1, so that the router would learn "
                "nothing; take gate='raw'"
            )
        if not self.moe_layers:
            raise UserError(
                f"dense_layers={self.dense_layers} and moe_every={self.moe_every} leave none of the {self.layers} layers to "
                "the experts; take smaller ones"
            )
        if self.experts % self.expert_groups or self.groups_per_token > self.expert_groups:
            raise UserError(
                f"experts={self.experts} can't be chosen from groups_per_token={self.groups_per_token} of "
                f"expert_groups={self.expert_groups} groups; take a divisor of {self.experts}, and at most as many a token"
            )
        if self.groups_per_token * (self.experts // self.expert_groups) < self.experts_per_token:
            raise UserError(
                f"groups_per_token={self.groups_per_token} leaves fewer than experts_per_token={self.experts_per_token} "
                "experts to choose from; take more groups a token"
            )

    @property
    def moe_layers(self):
        """The layers that have experts."""
        layers = range(self.dense_layers, self.layers) if self.experts else ()
        return [layer for layer in layers if (layer + 1) % self.moe_every == 0]

    @property
    def gated(self):
        """Whether feed-forward networks have two projections of the input."""
        return self.activation in GATED

    @property
    def expert_features(self):
        """Hidden features of one expert."""
        return self.expert_width or self.feed_forward

    @property
    def head_features(self):
        """Features of one attention head."""
        return self.head_width or self.width // self.heads

    @property
    def attended_features(self):
        """Features of a head in attention and its cache: hyperbolic ones have a time coordinate as well."""
        return self.head_features + (self.attention_curvature > 0)

    @property
    def key_value_heads(self):
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def rotary_features(self):
        """Features of a head that RoPE turns."""
        return int(self.head_features * self.rope_fraction)

    def layer_window(self, layer):
        """How many keys a position of this layer sees, itself among them; 0: all of its past."""
        every = self.full_attention_every
        return 0 if every and (layer + 1) % every == 0 else self.window

    @property
    def endless(self):
        """Whether a text may be longer than ``context``: every layer forgets, and positions have no table."""
        forgets = self.window > 0 and not self.full_attention_every
        return forgets and self.positions in ("rope", "alibi", "none")


@dataclass(frozen=True)
class TrainConfig:
    """How a run trains. ``lr`` is the peak; every schedule begins with a linear warm-up (see `training/schedules.py`)."""

    steps: int = option(1000, "optimiser steps")
    batch: int = option(32, "sequences a step")
    accumulate: int = option(1, "parts of the batch that go through the model one after the other; must divide it")
    lr: float = option(1e-3, "peak learning rate")
    warmup: int = option(100, "steps of linear warm-up")
    final_lr: float = option(0.0, "learning rate at the end, as a share of the peak")
    schedule: str = option("cosine", "how the learning rate falls; wsd: stays, then falls in a cool-down", SCHEDULES)
    cooldown: float = option(0.2, "wsd: share of the steps in which the learning rate falls")
    optimizer: str = option("adamw", "adamw for everything, or muon for the matrices of the blocks", OPTIMIZERS)
    momentum: float = option(0.95, "Muon: decay of the momentum")
    beta1: float = option(0.9, "AdamW: decay of the first moment")
    beta2: float = option(0.95, "AdamW: decay of the second moment")
    eps: float = option(1e-8, "AdamW: added to the square root of the second moment")
    weight_decay: float = option(0.1, "decoupled decay of matrices; norms and biases have none")
    clip: float = option(1.0, "largest global norm of the gradient")
    ema: float = option(0.0, "decay of a moving average of the weights, kept beside them (0: none)")
    label_smoothing: float = option(0.0, "share of the target given to all tokens alike")
    z_loss: float = option(0.0, "weight of logsumexp(logits)^2 in the loss")
    balance_loss: float = option(0.01, "experts: weight of the loss that asks for equal loads in each micro-batch")
    sequence_balance_loss: float = option(0.0, "experts: the same, in each sequence")
    router_z_loss: float = option(0.0, "experts: weight of logsumexp(router logits)^2")
    router_bias_rate: float = option(1e-3, "experts: how far the balancing bias moves a step")
    capacity_factor: float | None = option(None, "experts: room for so many times an equal load in each row; none: no limit", none=0.0)
    loss_chunk: int = option(0, "tokens whose logits exist at once in the loss (0: all, unless they are many)")
    recompute: bool = option(False, "compute each block again in the backward pass, to save its memory")
    dtype: str = option("auto", "number format of activations; master weights stay float32", DTYPES)
    float8: bool = option(False, "matrix products of the blocks in 8 bits: for Hopper GPUs and newer")
    device: str = option("auto", "auto takes CUDA, then MPS, then the CPU", DEVICES)
    parallel: str = option("auto", "under torchrun: copies of the model (ddp, auto), shares of it (fsdp), or copies with shares of the experts (experts)", PARALLEL)
    sharded: bool = option(False, "checkpoints in parts that the processes write at once (fsdp, experts: always)")
    seed: int = option(0, "seed of the weights, the data order and dropout")
    eval_every: int = option(100, "steps between evaluations on held-out text (0: only at the end)")
    eval_tokens: int = option(16384, "held-out tokens an evaluation during training reads")
    save_every: int = option(200, "steps between checkpoints (0: only at the end and at the best held-out loss)")
    keep: int = option(3, "newest checkpoints that stay in the run folder; the best by held-out loss stays too")
    bad_steps: int = option(10, "a run stops after so many steps in a row that went wrong (loss or gradient not finite)")
    pack_documents: bool = option(False, "documents that share a row don't see each other; each token once an epoch")
    sample_every: int = option(0, "steps between samples on the terminal and in samples.txt (0: none)")
    sample_prompt: str = option("The ", "text that the samples go on with")

    def __post_init__(self):
        for name in ("steps", "batch", "accumulate", "keep", "bad_steps"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        for name in ("warmup", "seed", "eval_every", "save_every", "sample_every", "loss_chunk"):
            require(self, name, lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")
        require(self, "eval_tokens", lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        for name in ("lr", "eps", "clip"):
            require(self, name, lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        for name in ("beta1", "beta2", "momentum", "label_smoothing", "ema"):
            require(self, name, lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "final_lr", lambda v: 0 <= v <= 1, "between 0 and 1")
        for name in ("balance_loss", "sequence_balance_loss", "router_z_loss", "router_bias_rate"):
            require(self, name, lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        room = "a finite number above 0, or none for no limit"
        require(self, "capacity_factor", lambda v: v is None or math.isfinite(v) and v > 0, room)
        for name in ("weight_decay", "z_loss"):
            require(self, name, lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        require(self, "cooldown", lambda v: 0 < v <= 1, "above 0 and at most 1")
        require(self, "optimizer", lambda v: v in OPTIMIZERS, "one of " + ", ".join(OPTIMIZERS))
        require(self, "schedule", lambda v: v in SCHEDULES, "one of " + ", ".join(SCHEDULES))
        require(self, "parallel", lambda v: v in PARALLEL, "one of " + ", ".join(PARALLEL))
        require(self, "dtype", lambda v: v in DTYPES, "one of " + ", ".join(DTYPES))
        require(self, "device", lambda v: v in DEVICES, "one of " + ", ".join(DEVICES))
        if self.batch % self.accumulate:
            raise UserError(
                f"batch={self.batch} can't be cut into accumulate={self.accumulate} equal parts; "
                f"take a divisor of {self.batch}"
            )

    def loss_rows(self, tokens, vocabulary):
        """How many of a micro-batch's ``tokens`` have their logits in memory at once.

        Unless told, all of them up to 2^26 logits (256 MB in float32); beyond, chunks of about 2^25.
        """
        if self.loss_chunk or tokens * vocabulary <= 1 << 26:
            return self.loss_chunk or tokens
        return max(1, (1 << 25) // vocabulary)


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
