"""Declaration of attention_maps."""

import numpy_ref.inference.attention_maps as numpy_maps
import torch_impl.inference.attention_maps as torch_maps
from numpy_ref.config import NORM_POSITIONS, POSITIONS, parameter_shapes
from parity_tests.components.activations import GELU, GELU_TANH
from parity_tests.components.attention import ATTENTION
from parity_tests.components.block import draw_config, random_parameters
from parity_tests.components.norms import LAYER_NORM
from parity_tests.harness.declaration import Bug, Component


def draw(source):
    positions, scale = source.choice(*POSITIONS), source.choice(1.0, 3.0)
    size = {"vocab_size": 7, "context": source.size(9), "layers": source.integer(1, 3)}
    config = draw_config(source, positions=positions, embedding_scale=scale, **size)
    source.event(positions)
    arrays = {
        "tokens": source.tokens((source.integer(1, config.context),), config.vocab_size),
        "params": random_parameters(source.rng, parameter_shapes(config)),
    }
    return source.case(arrays, config=config)


ATTENTION_MAPS = Component(
    name="attention_maps",
    numpy=numpy_maps.attention_maps,
    torch=torch_maps.attention_maps,
    draw=draw,
    kernels=(LAYER_NORM, ATTENTION, GELU, GELU_TANH),
    events=(*NORM_POSITIONS, *POSITIONS, "no biases"),
    weight=5,
    compiles=False,
    bugs=(
        Bug("the future is seen", "numpy", "causal=True", "causal=False"),
        Bug("every layer shows the first", "numpy", 'f"blocks.{layer}"', '"blocks.0"'),
        Bug("heads and positions mixed", "numpy", ".transpose(1, 2, 0, 3)", ".reshape(3, config.heads, length, -1)"),
        Bug("norm left out", "torch", 'config.norm_position == "pre"', "False"),
        Bug("stream not carried on", "torch", "x = block(x, p, config)", "block(x, p, config)"),
        Bug("sinusoids for learned positions", "torch", 'config.positions == "sinusoidal"', "config.width % 2 == 0"),
    ),
)

COMPONENTS = (ATTENTION_MAPS,)
