"""Presets: models and the way each is trained well. The command line overrides single fields."""

import math

from numpy_ref.config import ModelConfig, TrainConfig
from numpy_ref.errors import UserError

DEFINITION = "settings: no arrays"


def _gpt2(layers, width, heads):
    """The shapes of GPT-2 (Radford et al. 2019, table 2; the number of heads from the published models)."""
    model = ModelConfig(
        vocab_size=50257,
        context=1024,
        layers=layers,
        width=width,
        heads=heads,
        feed_forward=4 * width,
        activation="gelu_tanh",
        positions="learned",
        attention_bias=True,
        tie_embeddings=True,
    )
    return model, TrainConfig(steps=600_000, batch=480, accumulate=40, lr=6e-4, warmup=2000, final_lr=0.1)


def _llama(layers, width, heads, kv_heads, feed_forward, **changes):
    """The architecture of Llama (arXiv:2302.13971, section 2.2; grouped queries as in arXiv:2307.09288)."""
    shape = {"vocab_size": 32000, "context": 2048, "norm_eps": 1e-5} | changes
    return ModelConfig(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=feed_forward,
        activation="swiglu",
        positions="rope",
        norm="rms",
        feed_forward_bias=False,
        **shape,
    )


_LONG_RUN = TrainConfig(steps=100_000, batch=256, accumulate=32, lr=3e-4, warmup=2000, final_lr=0.1)

PRESETS = {
    # 856,832 parameters: the smallest model here whose samples read as English.
    "showcase": (
        ModelConfig(embedding_scale=math.sqrt(128)),
        TrainConfig(steps=800, batch=32, lr=8e-3, optimizer="muon"),
    ),
    # As low as possible in a minute of two cores, on a megabyte of text; `bench/speedrun.py` says what each setting buys.
    "speedrun": (
        _llama(
            4, 128, 4, 0, 384, vocab_size=256, context=128, embedding_scale=math.sqrt(128), init_std=0.05, qk_norm=True
        ),
        TrainConfig(
            steps=1000, batch=16, lr=0.02, warmup=10, optimizer="muon", momentum=0.9, eval_every=50, save_every=0
        ),
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
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    # The first two read bytes, and train on a laptop.
    "llama-1m": (
        _llama(4, 128, 4, 2, 384, vocab_size=256, context=128, embedding_scale=math.sqrt(128)),
        TrainConfig(steps=800, batch=32, lr=8e-3, optimizer="muon"),
    ),
    "llama-10m": (
        _llama(6, 384, 6, 2, 1024, vocab_size=256, context=512),
        TrainConfig(steps=5000, batch=16, lr=1e-3),
    ),
    "llama-124m": (_llama(12, 768, 12, 4, 2048), _LONG_RUN),
    "llama-350m": (_llama(24, 1024, 16, 4, 2816), _LONG_RUN),
    "llama-1b": (_llama(22, 2048, 32, 4, 5632), _LONG_RUN),
    "llama-7b": (_llama(32, 4096, 32, 32, 11008, context=4096), _LONG_RUN),
    # Mistral (arXiv:2310.06825, table 1): every layer sees the last 4096 tokens. The small one reads bytes.
    "mistral-10m": (
        _llama(6, 384, 6, 2, 1024, vocab_size=256, context=1024, window=128),
        TrainConfig(steps=5000, batch=8, lr=1e-3),
    ),
    "mistral-7b": (_llama(32, 4096, 32, 8, 14336, context=32768, window=4096), _LONG_RUN),
}


def preset(name):
    """(ModelConfig, TrainConfig) of a preset. Raises UserError with the names that exist."""
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
