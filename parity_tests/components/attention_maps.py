"""Declaration of attention_maps."""

import numpy_ref.inference.attention_maps as numpy_maps
import torch_impl.inference.attention_maps as torch_maps
from numpy_ref.config import NORM_POSITIONS, POSITIONS, parameter_shapes
from parity_tests.components.block import KERNELS, draw_config, random_parameters
from parity_tests.components.multi_head_attention import EVENTS
from parity_tests.harness.declaration import Bug, Component


def draw(source):
    positions, scale = source.choice(*POSITIONS), source.choice(1.0, 3.0)
    size = {"vocab_size": 7, "context": source.integer(2, 9), "layers": source.choice(2, 3, 1)}
    config = draw_config(source, positions=positions, embedding_scale=scale, **size)
    source.event(positions)
    source.event("alternating", config.full_attention_every == 2 and config.layers > 1 and config.context > 4)
    arrays = {
        "tokens": source.tokens((config.context - source.choice(0, 0, 1),), config.vocab_size),
        "params": random_parameters(source.rng, parameter_shapes(config)),
    }
    return source.case(arrays, config=config)


ATTENTION_MAPS = Component(
    name="attention_maps",
    numpy=numpy_maps.attention_maps,
    torch=torch_maps.attention_maps,
    draw=draw,
    kernels=KERNELS,
    events=(*NORM_POSITIONS, *POSITIONS, *EVENTS),
    weight=5,
    compiles=False,
    bugs=(
        Bug("the future is seen", "numpy", "attention_weights(query, key, mask,", "attention_weights(query, key, None,"),
        Bug("every layer shows the first", "numpy", 'f"blocks.{layer}"', '"blocks.0"'),
        Bug("every window is the first layer's", "numpy", "config.layer_window(layer)", "config.layer_window(0)", needs=('alternating',)),
        Bug("RoPE left out", "numpy", "config, phases)", "config, None)", needs=('rope',)),
        Bug("softcap left out", "numpy", "softcap=config.attention_softcap", "softcap=0.0", needs=('capped scores',)),
        Bug("norm left out", "torch", 'config.norm_position == "pre"', "False"),
        Bug("stream not carried on", "torch", "x = block(x, own,", "block(x, own,"),
        Bug("ALiBi left out", "torch", "bias=bias", "bias=None", needs=('alibi',)),
        Bug("sinks left out", "torch", ", config.sinks)", ")", needs=('sinks',)),
    ),
)

COMPONENTS = (ATTENTION_MAPS,)
