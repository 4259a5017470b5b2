"""What a model is made of and what it costs, from its config alone: tree, parameters, FLOPs, memory."""

import math

from numpy_ref.config import parameter_count, parameter_shapes

DEFINITION = "counting: no arrays"

FORMULAS = {
    "flops_forward": "2 x weights of the matrix products + layers x 4 width x (T + 1) / 2: causal, half the text",
    "flops_training": "3 x forward: the backward pass computes two matrix products for each one",
    "embedding": "looking a token up is no arithmetic",
    "activations": "batch x T x (layers x (8 width + 2 feed_forward + heads x T) + 2 width + 2 vocabulary) numbers",
    "inference": "parameters + T x (4 width + feed_forward + heads x T + vocabulary) numbers: one layer at a time",
}


def describe(model, train, size=4):
    """Everything ``inspect`` prints, as a dict that JSON can carry.

    ``model`` ModelConfig, ``train`` TrainConfig (optimiser and batch), ``size`` bytes a number (4: float32).
    FLOPs are for one token in a text of T = context tokens; memory is in bytes.
    """
    total = parameter_count(model)
    forward = flops_forward(model)
    training = {
        "parameters": size * total,
        "gradients": size * total,
        "optimiser": size * optimiser_numbers(model, train),
        "activations": size * train.batch * activation_numbers(model),
    }
    T = model.context
    working = T * (4 * model.width + model.feed_forward + model.heads * T + model.vocab_size)
    inference = {"parameters": size * total, "activations": size * working}
    return {
        "parameters": total,
        "parts": parts(model),
        "shapes": {name: list(shape) for name, shape in parameter_shapes(model).items()},
        "context": T,
        "batch": train.batch,
        "optimizer": train.optimizer,
        "flops_per_token": {"forward": forward, "training": 3 * forward},
        "memory_training": training | {"total": sum(training.values())},
        "memory_inference": inference | {"total": sum(inference.values())},
        "formulas": FORMULAS,
    }


def flops_forward(model):
    """Floating-point operations of the forward pass for one token, averaged over a text of ``context`` tokens.

    A weight of a matrix product is one multiplication and one addition. Attention: query times key and weight times
    value are 2 x width each for every token seen, (T + 1) / 2 of them on average.
    """
    d = model.width
    weights = model.layers * (3 * d * d + d * d + 2 * d * model.feed_forward) + d * model.vocab_size
    return 2 * weights + model.layers * 2 * d * (model.context + 1)


def activation_numbers(model):
    """Numbers that the forward pass keeps for the backward pass, for one sequence of ``context`` tokens.

    Each layer: inputs and outputs of two norms (4 width), queries, keys and values (3 width), the heads' output
    (width), hidden features before and after the activation (2 feed_forward), attention weights (heads x T; a fused
    kernel keeps none). Around the layers: final norm (2 width), logits and their softmax (2 vocabulary).
    """
    T = model.context
    layer = 8 * model.width + 2 * model.feed_forward + model.heads * T
    return T * (model.layers * layer + 2 * model.width + 2 * model.vocab_size)


def optimiser_numbers(model, train):
    """Numbers that the optimiser remembers: AdamW two a parameter; Muon one for each matrix of a block."""
    numbers = 0
    for name, shape in parameter_shapes(model).items():
        muon = train.optimizer == "muon" and name.startswith("blocks.") and len(shape) == 2
        numbers += (1 if muon else 2) * math.prod(shape)
    return numbers


def parts(model):
    """Parameters by part of the model: part -> number."""
    found = {}
    for name, shape in parameter_shapes(model).items():
        pieces = name.split(".")
        part = pieces[2] if pieces[0] == "blocks" else pieces[0]
        part = "norms" if part.endswith("norm") else part
        found[part] = found.get(part, 0) + math.prod(shape)
    return found


def text(facts):
    """The facts of ``describe`` for people."""
    total = facts["parameters"]
    lines = [f"{total:,} parameters", "", *tree(facts["shapes"]), "", "parameters by part"]
    for part, number in sorted(facts["parts"].items(), key=lambda item: -item[1]):
        lines.append(f"  {part:<20} {number:>13,} {number / total:>7.1%}")
    flops, T = facts["flops_per_token"], facts["context"]
    lines += [
        "",
        f"FLOPs a token, in a text of {T} tokens",
        f"  forward              {flops['forward']:>13,}   {FORMULAS['flops_forward']}",
        f"  training             {flops['training']:>13,}   {FORMULAS['flops_training']}",
        f"  ({FORMULAS['embedding']})",
        "",
        f"memory to train: float32, batch {facts['batch']} x {T} tokens, {facts['optimizer']}",
        *_memory(facts["memory_training"]),
        f"  (activations: {FORMULAS['activations']})",
        "",
        f"memory to infer: float32, one text of {T} tokens",
        *_memory(facts["memory_inference"]),
        f"  ({FORMULAS['inference']})",
    ]
    return "\n".join(lines)


def _memory(parts):
    return [f"  {part:<20} {number / 2**20:>10,.1f} MiB" for part, number in parts.items()]


def tree(shapes):
    """Lines of the module tree with shapes and sizes; equal blocks are shown once."""
    blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    nodes = {}
    for name, shape in shapes.items():
        pieces = name.split(".")
        if pieces[0] == "blocks":
            if pieces[1] != "0":
                continue
            pieces[:2] = [f"blocks (each of {len(blocks)})"]
        place = nodes
        for piece in pieces[:-1]:
            place = place.setdefault(piece, {})
        place[pieces[-1]] = shape
    return ["transformer", *_branches(nodes, "")]


def _branches(nodes, indent):
    lines = []
    for i, (name, node) in enumerate(nodes.items()):
        last = i == len(nodes) - 1
        head = f"{indent}{'└─ ' if last else '├─ '}{name}"
        if isinstance(node, dict):
            lines += [head, *_branches(node, indent + ("   " if last else "│  "))]
        else:
            shape = " x ".join(map(str, node))
            lines.append(f"{head:<40} {shape:>12} {math.prod(node):>12,}")
    return lines
