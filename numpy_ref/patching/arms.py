"""What the experiment on tokenizations compares, and how large each is: one recipe, cut in different ways.

    bytes            a transformer over bytes
    bytes-ngrams     the same with hashed n-grams: the baseline that patches have to beat
    bpe              a transformer over BPE tokens, as wide as makes a byte cost what it costs the byte transformer
    bpe-ngrams       the same with hashed n-grams of tokens
    megabyte         patches of a fixed size
    blt-space        BLT, patches that end with a space
    blt-entropy      BLT, patches that begin where a small model is unsure
    blt-rise         BLT, patches that begin where its entropy rises
    hnet             chunks that are learnt

All patch models have hashed n-grams. All have the same data, batch in bytes, context in bytes, optimiser and schedule;
training ends when as many floating point operations are spent.
"""

from dataclasses import dataclass

from numpy_ref.config import option, require
from numpy_ref.errors import UserError
from numpy_ref.patching.config import PatchConfig, flops_per_byte

DEFINITION = "settings: no arrays"

LABELS = {
    "bytes": "byte transformer",
    "bytes-ngrams": "byte transformer + n-grams",
    "bpe": "BPE transformer",
    "bpe-ngrams": "BPE transformer + n-grams",
    "megabyte": "MegaByte + n-grams",
    "blt-space": "BLT, space patches + n-grams",
    "blt-entropy": "BLT, entropy patches + n-grams",
    "blt-rise": "BLT, patches by the entropy's rise + n-grams",
    "hnet": "H-Net, one stage + n-grams",
}
ENTROPY = ("blt-entropy", "blt-rise")  # arms that need a model of entropies


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiment; ``SIZES`` has three sets of them."""

    flops: float = option(6e12, "training operations of each model")
    width: int = option(128, "features of the byte transformer; the others follow from it")
    layers: int = option(4, "blocks of the byte transformer and of the global models")
    heads: int = option(4, "attention heads")
    context: int = option(256, "bytes that a model sees")
    batch: int = option(8, "rows of a step")
    megabytes: float = option(6.0, "text to read, at most")
    vocab_size: int = option(1024, "tokens of the tokenizers")
    patch_bytes: float = option(5.0, "bytes a patch that entropy thresholds and H-Net aim at")
    patch: int = option(4, "bytes of MegaByte's patches")
    ngrams: str = option("3,4,6", "sizes of hashed n-grams of bytes")
    token_ngrams: str = option("2,3", "sizes of hashed n-grams of BPE tokens")
    buckets: int = option(8192, "rows of each table of n-grams")
    lr: float = option(3e-3, "peak learning rate")
    seeds: int = option(1, "runs of each model, with different weights and batches")
    eval_bytes: int = option(100_000, "held-out bytes to predict")

    def __post_init__(self):
        for name in ("width", "layers", "heads", "context", "batch", "vocab_size", "patch", "buckets", "seeds"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "eval_bytes", lambda v: isinstance(v, int) and v >= 256, "a whole number of at least 256")
        for name in ("flops", "megabytes", "lr"):
            require(self, name, lambda v: 0 < v < float("inf"), "a finite number above 0")
        require(self, "patch_bytes", lambda v: 1 < v < float("inf"), "a finite number above 1")
        if self.width % (4 * self.heads):
            raise UserError(f"width={self.width} is not allowed; it must be a multiple of 4 heads, {4 * self.heads}")
        if self.context < 2 * self.patch:
            raise UserError(f"context={self.context} holds no two patches of {self.patch} bytes; take a longer one")


SIZES = {
    "tiny": Settings(flops=1.5e9, width=32, layers=1, heads=2, context=48, batch=4, megabytes=0.1, vocab_size=600,
                     buckets=512, eval_bytes=2000),
    "cpu": Settings(),
    "gpu": Settings(flops=2e17, width=768, layers=12, heads=12, context=2048, batch=64, megabytes=40.0, vocab_size=16384,
                    buckets=1 << 17, lr=6e-4, eval_bytes=2_000_000),
}  # fmt: skip


def configs(settings, bytes_per_token):
    """{arm: PatchConfig}. bytes_per_token: of the BPE tokenizer on the training text."""
    s = settings
    plain = {"context": s.context, "width": s.width, "heads": s.heads, "decoder_layers": s.layers, "buckets": s.buckets}
    patches = plain | {
        "width": s.width // 2, "global_width": 2 * s.width, "global_heads": s.heads, "global_layers": s.layers,
        "decoder_layers": 2, "ngrams": s.ngrams, "window": 32,
    }  # fmt: skip
    baseline = PatchConfig(kind="bytes", **plain)
    found = {
        "bytes": baseline,
        "bytes-ngrams": PatchConfig(kind="bytes", **plain, ngrams=s.ngrams),
        "bpe": _bpe(s, bytes_per_token, flops_per_byte(baseline)),
        "bpe-ngrams": _bpe(s, bytes_per_token, flops_per_byte(baseline), ngrams=s.token_ngrams),
        "megabyte": PatchConfig(kind="megabyte", **patches | {"patch": s.patch, "window": 0}),
        "hnet": PatchConfig(kind="hnet", **patches | {"target": s.patch_bytes}),
    }
    return found | dict.fromkeys(("blt-space", *ENTROPY), PatchConfig(kind="blt", **patches))


def entropy_config(settings):
    """The small byte model whose entropies cut patches: half as wide and half as deep as the byte transformer."""
    return PatchConfig(
        kind="bytes", context=settings.context, width=settings.width // 2, heads=settings.heads,
        decoder_layers=max(1, settings.layers // 2), ngrams=settings.ngrams, buckets=settings.buckets,
    )  # fmt: skip


def _bpe(settings, bytes_per_token, cost, **more):
    """The BPE transformer that costs most like ``cost`` a byte, of the widths that fit the heads."""
    context = max(2, round(settings.context / bytes_per_token))

    def config(width):
        return PatchConfig(
            kind="bytes", vocab_size=settings.vocab_size, context=context, width=width, heads=settings.heads,
            decoder_layers=settings.layers, buckets=settings.buckets, **more,
        )  # fmt: skip

    widths = range(2 * settings.heads, 8 * settings.width, 2 * settings.heads)
    return config(min(widths, key=lambda width: abs(flops_per_byte(config(width)) / bytes_per_token - cost)))
