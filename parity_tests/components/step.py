"""Declaration of loss_and_grads: the whole model at once, over drawn configurations."""

import numpy_ref.training.step as numpy_step
import torch_impl.training.step as torch_step
from numpy_ref.config import ACTIVATIONS, NORM_POSITIONS, POSITIONS, ModelConfig, TrainConfig, parameter_shapes
from parity_tests.components.activations import GELU, GELU_TANH
from parity_tests.components.attention import ATTENTION
from parity_tests.components.losses import CROSS_ENTROPY
from parity_tests.components.norms import LAYER_NORM
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    heads = source.integer(1, 4)
    config = ModelConfig(
        vocab_size=source.integer(2, 20),
        context=source.integer(1, 9),
        layers=source.integer(1, 3),
        width=2 * heads * source.integer(-(-4 // heads), 4),
        heads=heads,
        feed_forward=source.integer(8, 24),
        activation=source.choice(*ACTIVATIONS),
        positions=source.choice(*POSITIONS),
        norm_position=source.choice(*NORM_POSITIONS),
        norm_eps=source.choice(1e-5, 1e-2),
        norm_bias=source.flag(),
        attention_bias=source.flag(),
        feed_forward_bias=source.flag(),
        tie_embeddings=source.flag(),
        embedding_scale=source.choice(1.0, 3.0),
        dropout=source.choice(0.3, 0.0),
    )
    train = TrainConfig(
        dtype=source.dtype, label_smoothing=source.choice(0.2, 0.0), z_loss=source.choice(1e-2, 0.0), seed=source.seed
    )
    for name in (config.norm_position, config.positions, config.activation):
        source.event(name)
    source.event("tied", config.tie_embeddings)
    source.event("dropout", config.dropout > 0)
    return case(config, train, source.rng, frozenset(source.events), source.seed)


def case(config, train, rng, events=frozenset(), seed=0):
    """Random weights everywhere: unit norms and zero biases would hide that a gradient forgets them."""
    params = {
        name: rng.standard_normal(shape) * 0.4 + name.endswith("norm.weight")
        for name, shape in parameter_shapes(config).items()
    }
    shape = int(rng.integers(1, 4)), int(rng.integers(1, config.context + 1))
    inputs, targets = rng.integers(0, config.vocab_size, (2, *shape))
    targets[rng.random(shape) < 0.2] = -100
    if (targets == -100).all():
        events |= {"nothing to predict"}
    arrays = {"params": params, "inputs": inputs, "targets": targets}
    return Case(arrays, {"model_config": config, "train_config": train, "step": 3}, events, seed=seed)


def fixed(rng):
    return case(ModelConfig(vocab_size=11, context=8, layers=2, width=8, heads=2, feed_forward=16), TrainConfig(), rng)


LOSS_AND_GRADS = Component(
    name="loss_and_grads",
    numpy=numpy_step.loss_and_grads,
    torch=torch_step.loss_and_grads,
    draw=draw,
    dtypes=("float64", "float32"),
    events=(*NORM_POSITIONS, *POSITIONS, *ACTIVATIONS, "tied", "dropout", "nothing to predict"),
    weight=5,
    kernels=(LAYER_NORM, ATTENTION, GELU, GELU_TANH, CROSS_ENTROPY),
    shapes={"small": fixed},
    compiles=False,  # the step calls autograd itself; the transformer is compiled on its own
    bugs=(
        Bug("label smoothing forgotten", "numpy", "label_smoothing=train_config.label_smoothing, ", ""),
        Bug("dropout of another step", "numpy", "train_config.seed, step)", "train_config.seed, step + 1)"),
        Bug("loss counted twice in the gradient", "numpy", "loss_vjp(1.0)", "loss_vjp(2.0)"),
        Bug("z-loss forgotten", "torch", ", z_loss=train_config.z_loss", ""),
        Bug("weights rounded to 16 bits", "torch", "leaf.to(dtype)", "leaf.to(torch.bfloat16).to(dtype)"),
        Bug("dropout left out", "torch", "keep=keep", "keep=None"),
    ),
)

COMPONENTS = (LOSS_AND_GRADS,)
