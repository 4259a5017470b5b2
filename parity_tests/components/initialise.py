"""Declaration of initialise."""

import numpy_ref.model.initialise as numpy_initialise
import torch_impl.model.initialise as torch_initialise
from numpy_ref.config import NORM_POSITIONS, POSITIONS, ModelConfig, parameter_shapes
from numpy_ref.presets import preset
from numpy_ref.rng import STREAM_INIT
from parity_tests.components.rng import phase_error, seed_or_stream
from parity_tests.harness.declaration import DTYPE, Bug, Case, Component


def draw(source):
    heads = source.integer(1, 3)
    config = ModelConfig(
        vocab_size=source.size(20),
        context=source.size(9),
        layers=source.integer(1, 3),
        width=2 * heads * source.integer(1, 4),
        heads=heads,
        feed_forward=source.size(17),
        positions=source.choice(*POSITIONS),
        norm_position=source.choice(*NORM_POSITIONS),
        norm_bias=source.flag(),
        attention_bias=source.flag(),
        feed_forward_bias=source.flag(),
        tie_embeddings=source.flag(),
        init_std=source.choice(0.02, 0.3, 1.0),
        **source.choice({}, {"experts": 3, "shared_experts": source.choice(0, 1), "router_bias": True}),
    )
    source.event("experts", config.experts > 0)
    source.event(config.positions)
    source.event(config.norm_position)
    source.event("several layers", config.layers > 1)
    source.event("biases", config.attention_bias and config.feed_forward_bias and config.norm_bias)
    source.event("tied", config.tie_embeddings)
    return source.case({}, config=config, seed=seed_or_stream(source, "seed"), dtype=DTYPE)


def angles(arguments, dy, unit):
    """The rounding of the angle in every normal number, times the deviation at most."""
    config = arguments["config"]
    return {
        f"value[{name}]": config.init_std * phase_error(arguments["seed"], STREAM_INIT + number, shape)
        for number, (name, shape) in enumerate(parameter_shapes(config).items())
    }


INITIALISE = Component(
    name="initialise",
    numpy=numpy_initialise.initialise,
    torch=torch_initialise.initialise,
    draw=draw,
    inside="float64",
    elementwise=True,
    cancellation=angles,
    events=(*POSITIONS, *NORM_POSITIONS, "several layers", "biases", "tied", "experts", "64-bit seed"),
    weight=4,
    compiles=False,
    shapes={"showcase": lambda rng: Case({}, {"config": preset("showcase")[0], "seed": 1, "dtype": DTYPE})},
    bugs=(
        Bug("residual scale missing", "numpy", "if residual else", "if False else", "_deviation"),
        Bug("sqrt(layers)", "numpy", "math.sqrt(2 * config.layers)", "math.sqrt(config.layers)", "_deviation"),
        Bug("divided by 2 layers", "numpy", "math.sqrt(2 * config.layers)", "(2 * config.layers)", "_deviation"),
        Bug("init_std ignored", "numpy", "else config.init_std", "else 0.02", "_deviation"),
        Bug("all parameters from one stream", "numpy", "STREAM_INIT + number", "STREAM_INIT"),
        Bug("stream of the data order", "numpy", "STREAM_INIT + number", "2 * STREAM_INIT + number"),
        Bug("norms begin at 0", "numpy", "np.ones(", "np.zeros("),
        Bug("biases drawn", "numpy", 'name.endswith(".bias")', 'name.endswith("norm.bias")'),
        Bug(
            "feed-forward writes unscaled",
            "torch",
            '("attention.output.weight", ".down.weight")',
            '"attention.output.weight"',
        ),
        Bug("the head counts as a writer", "torch", '("attention.output.weight", ', '("output.weight", '),
        Bug("drawn in bfloat16", "torch", "number, shape, device=device)", "number, shape, torch.bfloat16, device=device)"),
        Bug("seed ignored", "torch", "normal(seed, ", "normal(0, "),
    ),
)

COMPONENTS = (INITIALISE,)
