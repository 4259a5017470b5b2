"""The shape of a byte model with patches, its parameters, and what it costs.

    bytes      a transformer over bytes, the baseline                               `byte_stack.py`
    blt        Byte Latent Transformer (arXiv:2412.09871)                           `blt.py`
    megabyte   MegaByte (arXiv:2305.07185)                                          `megabyte.py`
    hnet       H-Net with one stage of dynamic chunking (arXiv:2507.07955)          `hnet.py`

Every one may have hashed n-gram embeddings, so that none wins by these alone.
"""

import math
from dataclasses import dataclass

from numpy_ref import config as transformer
from numpy_ref.config import ModelConfig, option, require
from numpy_ref.errors import UserError

DEFINITION = "settings: no arrays"

KINDS = ("bytes", "blt", "megabyte", "hnet")
TABLES = ("byte_embedding.", "ngrams.", "patch_embedding.", "first_patch.")  # looked up, not multiplied
STACKS = {
    "bytes": ("decoder",), "blt": ("encoder", "global", "decoder"), "megabyte": ("global", "decoder"),
    "hnet": ("encoder", "global", "decoder"),
}  # fmt: skip


@dataclass(frozen=True)
class PatchConfig:
    """Widths are in numbers of features, ``context`` and ``window`` in bytes. A kind ignores what it has not."""

    kind: str = option("blt", "which model", KINDS)
    vocab_size: int = option(256, "different tokens: bytes, unless a tokenizer has made others of them")
    context: int = option(256, "bytes the model sees at once")
    width: int = option(64, "features of a byte")
    heads: int = option(4, "attention heads of the stacks over bytes")
    encoder_layers: int = option(1, "blocks over bytes before the patches")
    decoder_layers: int = option(2, "blocks over bytes behind the patches; all blocks of the kind bytes")
    window: int = option(0, "a byte sees the last window bytes of its stack, itself among them (0: all)")
    global_width: int = option(256, "features of a patch; blt, megabyte: a multiple of width, of patch")
    global_heads: int = option(4, "attention heads of the stack over patches")
    global_layers: int = option(4, "blocks over patches")
    patch: int = option(4, "megabyte: bytes of a patch")
    target: float = option(6.0, "hnet: bytes of a chunk that the ratio loss asks for")
    ratio_weight: float = option(0.03, "hnet: weight of the ratio loss")
    ngrams: str = option("", "sizes of hashed n-grams, such as 3,4,6 (none)")
    buckets: int = option(8192, "rows of each table of n-grams")
    init_std: float = option(0.02, "standard deviation of the initial weights")

    def __post_init__(self):
        require(self, "kind", lambda v: v in KINDS, "one of " + ", ".join(KINDS))
        names = ("vocab_size", "context", "width", "heads", "encoder_layers", "decoder_layers", "global_width")
        for name in (*names, "global_heads", "global_layers", "patch", "buckets"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "window", lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")
        require(self, "target", lambda v: math.isfinite(v) and v > 1, "a finite number above 1")
        require(self, "ratio_weight", lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        require(self, "init_std", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        for width, heads in ((self.width, self.heads), (self.global_width, self.global_heads)):
            if width % (2 * heads):
                raise UserError(f"{width} features do not go into {heads} heads of an even width; change one of both")
        part = {"blt": ("width", self.width), "megabyte": ("patch", self.patch)}.get(self.kind)
        if part and self.global_width % part[1]:
            raise UserError(f"global_width={self.global_width} is no multiple of {part[0]}={part[1]}; take one")
        self.ngram_sizes  # noqa: B018  raises for what is no list of sizes

    @property
    def ngram_sizes(self):
        """The sizes of the n-grams, a tuple of whole numbers."""
        sizes = [part.strip() for part in self.ngrams.split(",") if part.strip()]
        if not all(size.isdigit() and 1 <= int(size) <= 32 for size in sizes) or len(set(sizes)) < len(sizes):
            raise UserError(f"ngrams={self.ngrams!r} is not allowed; give different sizes from 1 to 32, such as 3,4,6")
        return tuple(map(int, sizes))

    @property
    def slices(self):
        """Into how many vectors of ``width`` the vector of a patch is cut (blt)."""
        return self.global_width // self.width

    def stack(self, name):
        """The ModelConfig of a stack of blocks: "encoder", "global" or "decoder"."""
        patches = name == "global"
        width, heads = (self.global_width, self.global_heads) if patches else (self.width, self.heads)
        layers = {"encoder": self.encoder_layers, "global": self.global_layers, "decoder": self.decoder_layers}[name]
        return ModelConfig(
            vocab_size=self.vocab_size, context=self.context, layers=layers, width=width, heads=heads,
            feed_forward=4 * width, positions="rope", norm="rms", feed_forward_bias=False,
            window=0 if patches else self.window, init_std=self.init_std,
        )  # fmt: skip


def parameter_shapes(config):
    """Every parameter: name -> shape; blocks as in ``numpy_ref.config.parameter_shapes``, under their stack's name."""
    d, g = config.width, config.global_width
    shapes = {"byte_embedding.weight": (config.vocab_size, d)}
    for size in config.ngram_sizes:
        shapes[f"ngrams.{size}.weight"] = (config.buckets, d)
    if config.kind == "megabyte":
        shapes |= {"patch_embedding.weight": (config.vocab_size, g // config.patch), "first_patch.weight": (1, g)}
    for name in STACKS[config.kind]:
        if name == "global":
            shapes |= _before_patches(config)
        blocks = transformer.parameter_shapes(config.stack(name))
        shapes |= {f"{name}.{key}": shape for key, shape in blocks.items() if key.startswith("blocks.")}
        if name == "global":
            shapes |= {"global_norm.weight": (g,)} | _behind_patches(config)
    return shapes | {"final_norm.weight": (d,), "output.weight": (config.vocab_size, d)}


def _before_patches(config):
    d, g = config.width, config.global_width
    if config.kind == "blt":
        return {"pool.weight": (g, d)} | _attention_shapes("gather", d)
    if config.kind == "hnet":
        router = {"route.query.weight": (d, d), "route.key.weight": (d, d)}
        return {"encoder_norm.weight": (d,)} | router | {"enlarge.weight": (g, d)}
    return {}


def _behind_patches(config):
    d, g = config.width, config.global_width
    if config.kind == "blt":
        return _attention_shapes("spread", d)
    if config.kind == "hnet":
        return {"reduce.weight": (d, g), "residual.weight": (d, d)}
    return {"unpatch.weight": (d, g // config.patch)}


def _attention_shapes(name, d):
    """A cross-attention between bytes and slices of patches."""
    shapes = {"query_norm.weight": (d,), "key_norm.weight": (d,), "query.weight": (d, d)}
    shapes |= {"key_value.weight": (2 * d, d), "output.weight": (d, d)}
    return {f"{name}.{key}": shape for key, shape in shapes.items()}


def parameter_count(config):
    """Number of parameters."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def flops_per_byte(config, bytes_per_patch=1.0):
    """Floating point operations of the forward pass for one byte, as products and sums of matrix products.

    A weight matrix costs 2 a number for each row that it sees, attention 4 d for each key that a query sees (scores and
    values), on average over a context. Look-ups in tables, norms and activations count nothing. The backward pass costs
    twice as much. Raises UserError for less than a byte a patch.
    """
    if bytes_per_patch < 1:
        raise UserError(f"{bytes_per_patch} bytes a patch are fewer than one; give their average number")
    shapes = parameter_shapes(config)
    matrices = [name for name, shape in shapes.items() if len(shape) == 2 and not name.startswith(TABLES)]
    total = sum(2 * math.prod(shapes[name]) * _rows(name, config, bytes_per_patch) for name in matrices)
    for name in STACKS[config.kind]:
        stack = config.stack(name)
        if name == "global":
            total += 4 * stack.width * stack.layers * _keys(config.context / bytes_per_patch, 0) / bytes_per_patch
        else:
            length = config.patch if config.kind == "megabyte" else config.context
            total += 4 * stack.width * stack.layers * _keys(length, stack.window)
    if config.kind == "blt":  # each byte is a key for the slices of its patch, and each byte sees those of one patch
        total += 2 * 4 * config.width * config.slices
    return total


def _rows(name, config, bytes_per_patch):
    """How often a weight matrix is used for each byte."""
    if name.startswith(("gather.query", "gather.output", "spread.key_value")):  # once for each slice of a patch
        return config.slices / bytes_per_patch
    return 1 / bytes_per_patch if name.startswith(("global.", "pool.", "enlarge.", "reduce.")) else 1.0


def _keys(length, window):
    """How many keys a position sees on average."""
    window = min(window or length, length)
    return window - (window - 1) * window / (2 * length)
