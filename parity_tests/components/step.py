"""Declaration of loss_and_grads: the whole model at once, over drawn configurations."""

import numpy_ref.training.step as numpy_step
import torch_impl.training.step as torch_step
from numpy_ref.config import ACTIVATIONS, NORM_POSITIONS, NORMS, POSITIONS, ModelConfig, TrainConfig, parameter_shapes
from parity_tests.components.block import KERNELS, draw_config
from parity_tests.components.losses import CROSS_ENTROPY, LINEAR_CROSS_ENTROPY, WEIGHTS, draw_weights
from parity_tests.components.multi_head_attention import EVENTS, documents
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    config = draw_config(
        source,
        vocab_size=source.integer(2, 20),
        context=source.integer(1, 9),
        layers=source.integer(1, 3),
        feed_forward=source.integer(8, 24),
        positions=source.choice(*POSITIONS),
        tie_embeddings=source.flag(),
        embedding_scale=source.choice(1.0, 3.0),
        logit_softcap=source.choice(0.0, 3.0),
        dropout=source.choice(0.3, 0.0),
    )
    accumulate = source.choice(1, 1, 1, 2, 3)
    train = TrainConfig(
        dtype=source.dtype,
        label_smoothing=source.choice(0.2, 0.0),
        z_loss=source.choice(1e-2, 0.0),
        seed=source.seed,
        batch=accumulate,
        accumulate=accumulate,
        loss_chunk=source.choice(0, 0, 2, 7),
        recompute=source.choice(False, False, True),
        balance_loss=source.choice(0.0, 0.5),
        sequence_balance_loss=source.choice(0.0, 0.5),
        router_z_loss=source.choice(0.0, 0.1),
        capacity_factor=source.choice(None, 0.5, 1.0),
    )
    source.event("micro-batches", accumulate > 1)
    source.event("logits in chunks", train.loss_chunk > 0)
    source.event("recomputed", train.recompute)
    for name in ("balance_loss", "sequence_balance_loss", "router_z_loss", "capacity_factor"):
        source.event(name, config.experts > 0 and bool(getattr(train, name)))
    source.event("capped in chunks", config.logit_softcap > 0 and 0 < train.loss_chunk < 3)
    source.event("noise", config.experts > 0 and config.noisy_router)
    source.event("two layers with experts", len(config.moe_layers) > 1)
    source.event("tied", config.tie_embeddings)
    source.event(config.positions)
    return case(config, train, source.rng, source, source.seed)


def case(config, train, rng, source=None, seed=0):
    """Random weights everywhere: unit norms and zero biases would hide that a gradient forgets them."""
    params = {
        name: rng.standard_normal(shape) * 0.4 + name.endswith("norm.weight")
        for name, shape in parameter_shapes(config).items()
    }
    rows = train.accumulate if train.accumulate > 1 else int(rng.integers(1, 4))
    shape = rows, int(rng.integers(1, config.context + 1))
    weights = source and draw_weights(source, shape)
    events = frozenset(source.events) if source else frozenset()
    inputs, targets = rng.integers(0, config.vocab_size, (2, *shape))
    targets[rng.random(shape) < 0.2] = -100
    ids = documents(rng, *shape) if rng.random() < 0.3 else None
    if ids is not None:
        targets[ids < 0] = -100  # the logits of padding mean nothing
        events |= {"documents"}
    if (targets == -100).all():
        events |= {"nothing to predict"}
    arrays = {"params": params, "inputs": inputs, "targets": targets, "documents": ids, "weights": weights}
    return Case(arrays, {"model_config": config, "train_config": train, "step": 3}, events, seed=seed)


def fixed(rng):
    return case(ModelConfig(vocab_size=11, context=8, layers=2, width=8, heads=2, feed_forward=16), TrainConfig(), rng)


LOSS_AND_GRADS = Component(
    name="loss_and_grads",
    numpy=numpy_step.loss_and_grads,
    torch=torch_step.loss_and_grads,
    draw=draw,
    dtypes=("float64", "float32"),
    events=(
        *NORMS, *NORM_POSITIONS, *POSITIONS, *ACTIVATIONS, *EVENTS, "tied", "dropout", "documents", "nothing to predict",
        "experts", "balance_loss", "sequence_balance_loss", "router_z_loss", "capacity_factor", "noise", "micro-batches",
        "logits in chunks", "recomputed", *WEIGHTS,
    ),
    weight=5,
    kernels=(*KERNELS, CROSS_ENTROPY, LINEAR_CROSS_ENTROPY),
    shapes={"small": fixed},
    compiles=False,  # the step calls autograd itself; the transformer is compiled on its own
    bugs=(
        Bug("label smoothing forgotten", "numpy", '"label_smoothing": train_config.label_smoothing, ', "", "_loss"),
        Bug("dropout of another step", "numpy", "train_config.seed, step,", "train_config.seed, step + 1,"),
        Bug("loss counted twice in the gradient", "numpy", "vjp(scale)", "vjp(2.0 * scale)"),
        Bug("mean of means", "numpy", "own, denominator, share, routed", "own, train_config.accumulate * max(1, int(np.sum(targets[rows] != IGNORED))), share, routed"),
        Bug("every micro-batch drops alike", "numpy", "train_config.seed, step, rows.start)", "train_config.seed, step, 0)"),
        Bug("gradient of the last micro-batch", "numpy", "{name: grads[name] + grad for name, grad in part_grads.items()}", "part_grads"),
        Bug("head's gradient in place of the embedding's", "numpy", "grads[head] + dweight", "dweight", "_loss"),
        Bug("tokens counted, not their weights", "numpy", "counts if weights is None else counts * weights", "counts", needs=("any weights",)),
        Bug("weights of the first rows", "numpy", "array[rows] for array in (documents, weights)", "array[: rows.stop - rows.start] for array in (documents, weights)", needs=("any weights", "micro-batches")),
        Bug("every micro-batch divides by its own weight", "numpy", "own, denominator, share, routed\n", "own, float(np.sum((targets[rows] != IGNORED) * (1 if share is None else share))) or 1.0, share, routed\n", needs=("any weights", "micro-batches")),
        Bug("weights forgotten in Torch", "torch", "weights=weights, **settings", "weights=None if weights is None else weights.sign(), **settings", "loss_share", needs=("any weights",)),
        Bug("tokens counted in Torch", "torch", "counts if weights is None else counts * weights", "counts", "loss_denominator", needs=("any weights",)),
        Bug("softcap forgotten in chunks", "torch", "config.logit_softcap,", "0.0,", "loss_share", needs=("capped in chunks",)),
        Bug("z-loss forgotten", "torch", ', "z_loss": train_config.z_loss', "", "loss_share"),
        Bug("weights rounded to 16 bits", "torch", "param.detach().to(param.dtype if", "param.detach().to(torch.bfloat16).to(param.dtype if"),
        Bug("documents forgotten", "torch", "keep=keep, documents=documents", "keep=keep", "loss_share"),
        Bug("documents of the first rows", "torch", "tensor[rows] for", "tensor[:size] for", needs=("documents", "micro-batches")),
        Bug("dropout left out", "torch", "keep=keep", "keep=None", "loss_share"),
        Bug("balance of a micro-batch as if it were the step's", "numpy", "max(1, inputs.size if documents is None else int(np.sum(documents >= 0)))", "max(1, inputs[rows].size if documents is None else int(np.sum(documents[rows] >= 0)))", needs=("micro-batches", "experts", "balance_loss")),
        Bug("balancing left out in chunks", "numpy", "grads = model_vjp(dx, asked_vjp(dy))", "grads = model_vjp(dx)", "_loss", needs=("logits in chunks", "experts", "router_z_loss")),
        Bug("every micro-batch has the same noise", "torch", "inputs.shape[1], step, first, inputs.device)\n        routed", "inputs.shape[1], step, 0, inputs.device)\n        routed", needs=("micro-batches", "noise")),
        Bug("routers' terms in the loss but not in its gradient", "torch", "asked = routing_loss(routes, config, train_config, routed[1])", "asked = routing_loss(routes, config, train_config, routed[1]).detach()", "loss_share", needs=("experts", "router_z_loss")),
        Bug("losses of micro-batches not added", "torch", "total += loss.detach()", "total = loss.detach()"),
    ),
)

COMPONENTS = (LOSS_AND_GRADS,)
