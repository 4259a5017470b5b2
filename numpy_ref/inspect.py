"""What a model is made of and what it costs, from its config alone: tree, parameters, FLOPs, memory."""

import math

from numpy_ref.config import GATED, active_parameter_count, is_router, parameter_count, parameter_shapes

DEFINITION = "counting: no arrays"

CHUNK = 512  # tokens of a prompt that ``generate`` reads at a time

FORMULAS = {
    "flops_forward": "2 x weights that a token meets in matrix products + 4 x heads x head width x keys seen, in each layer",
    "flops_training": "3 x forward: the backward pass computes two matrix products for each one",
    "embedding": "looking a token up is no arithmetic; a causal token sees (T + 1) / 2 keys on average, or its window",
    "activations": "rows x T x (layers x (4 width + 2 (heads + kv heads) x head width + hidden + heads x T) + 2 width), and logits",
    "inference": f"one layer at a time, {CHUNK} tokens of the prompt at a time; the cache has a key and a value a token and layer",
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
        "activations": size * activation_numbers(model, train),
    }
    T = model.context
    most = max(hidden_numbers(model, layer) for layer in range(model.layers))
    working = min(T, CHUNK) * (4 * model.width + most + model.heads * T) + model.vocab_size
    inference = {"parameters": size * total, "cache": size * cache_numbers(model), "activations": size * working}
    return {
        "parameters": total,
        "active_parameters": active_parameter_count(model),
        "parts": parts(model),
        "shapes": {name: list(shape) for name, shape in parameter_shapes(model).items()},
        "context": T,
        "batch": train.batch,
        "accumulate": train.accumulate,
        "optimizer": train.optimizer,
        "flops_per_token": {"forward": forward, "training": 3 * forward},
        "memory_training": training | {"total": sum(training.values())},
        "memory_inference": inference | {"total": sum(inference.values())},
        "formulas": FORMULAS,
    }


def flops_forward(model):
    """Floating-point operations of the forward pass for one token, averaged over a text of ``context`` tokens.

    A weight of a matrix product is one multiplication and one addition. Attention: query times key and weight times
    value are 2 x head width each, for every head and every token seen. Of stacked experts a token meets a few.
    """
    share = model.experts_per_token / max(1, model.experts)
    matrices = [
        math.prod(shape) * (share if len(shape) == 3 else 1)
        for name, shape in parameter_shapes(model).items()
        if name.startswith("blocks.") and name.endswith(".weight") and len(shape) >= 2
    ]
    seen = sum(keys_seen(model, layer) for layer in range(model.layers))
    weights = round(sum(matrices)) + model.width * model.vocab_size  # the head, tied or not
    return 2 * weights + round(4 * model.heads * model.attended_features * seen)


def keys_seen(model, layer):
    """How many keys a token of this layer sees on average over a text of ``context`` tokens.

    Token t sees min(t, W) of them, with W all of its past or the window and the sinks before it.
    """
    T, window = model.context, model.layer_window(layer)
    most = min(T, window + model.sinks) if window else T
    return (most * (most + 1) / 2 + (T - most) * most) / T


def hidden_numbers(model, layer=0):
    """Features of a feed-forward network before and after its activation; a gated one has two halves before.

    A layer of experts has those of each that a token goes to, and keeps its input and output in the order of experts.
    """
    sides = 3 if model.activation in GATED else 2
    if layer not in model.moe_layers:
        return sides * model.feed_forward
    many = model.experts_per_token
    return sides * (many + model.shared_experts) * model.expert_features + 2 * many * model.width + 2 * model.experts


def cache_numbers(model):
    """Numbers in the key-value cache of one text of ``context`` tokens; a layer with a window keeps that alone."""
    entries = 0
    for layer in range(model.layers):
        window = model.layer_window(layer)
        entries += min(model.context, window + model.sinks) if window else model.context
    return 2 * model.key_value_heads * model.attended_features * entries


def activation_numbers(model, train):
    """Numbers that the forward pass keeps for the backward pass, for one micro-batch of texts of ``context`` tokens.

    Each layer: inputs and outputs of two norms (4 width), queries and the heads' output (2 heads x head width), keys and
    values (2 kv heads x head width), hidden features before and after the activation, attention weights (heads x T; a
    fused kernel keeps none). With ``recompute`` one layer has them at a time, the others keep their input. Around the
    layers: final norm (2 width); logits and their softmax (2 vocabulary) of as many tokens as the loss holds at once.
    """
    T, tokens = model.context, train.batch // train.accumulate * model.context
    projected = 2 * (model.heads + model.key_value_heads) * model.head_features
    each = [4 * model.width + projected + hidden_numbers(model, layer) + model.heads * T for layer in range(model.layers)]
    layers = max(each) + (model.layers - 1) * model.width if train.recompute else sum(each)
    return tokens * (layers + 2 * model.width) + 2 * model.vocab_size * train.loss_rows(tokens, model.vocab_size)


def optimiser_numbers(model, train):
    """Numbers that the optimiser remembers: AdamW two a parameter; Muon one for each matrix of a block, router left out."""
    numbers = 0
    for name, shape in parameter_shapes(model).items():
        muon = train.optimizer == "muon" and name.startswith("blocks.") and name.endswith(".weight") and len(shape) >= 2
        muon = muon and not is_router(name)
        numbers += (1 if muon else 2) * math.prod(shape)
    return numbers


def parts(model):
    """Parameters by part of the model: part -> number."""
    found = {}
    for name, shape in parameter_shapes(model).items():
        pieces = name.split(".")
        part = pieces[2] if pieces[0] == "blocks" else pieces[0]
        part = "norms" if part.endswith("norm") else part
        part = pieces[3] if pieces[0] == "blocks" and pieces[3] in ("experts", "shared", "router", "noise") else part
        found[part] = found.get(part, 0) + math.prod(shape)
    return found


def text(facts):
    """The facts of ``describe`` for people."""
    total = facts["parameters"]
    active = facts["active_parameters"]
    met = f", of which a token meets {active:,}" if active < total else ""
    lines = [f"{total:,} parameters{met}", "", *tree(facts["shapes"]), "", "parameters by part"]
    for part, number in sorted(facts["parts"].items(), key=lambda item: -item[1]):
        lines.append(f"  {part:<20} {number:>13,} {number / total:>7.1%}")
    flops, T, accumulate = facts["flops_per_token"], facts["context"], facts["accumulate"]
    parts = "" if accumulate == 1 else f" in {accumulate} parts"
    lines += [
        "",
        f"FLOPs a token, in a text of {T} tokens",
        f"  forward              {flops['forward']:>13,}   {FORMULAS['flops_forward']}",
        f"  training             {flops['training']:>13,}   {FORMULAS['flops_training']}",
        f"  ({FORMULAS['embedding']})",
        "",
        f"memory to train: float32, batch {facts['batch']} x {T} tokens{parts}, {facts['optimizer']}",
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
    """Lines of the module tree with shapes and sizes; of equal blocks one is shown."""
    blocks, nodes, titles = {}, {}, {}
    for name, shape in shapes.items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            blocks.setdefault(number, []).append((rest, *shape))
    kinds = list(dict.fromkeys(map(tuple, blocks.values())))
    for kind in kinds:
        same = [number for number, own in blocks.items() if tuple(own) == kind]
        titles[same[0]] = f"blocks (each of {len(same)})" + (f": {', '.join(same)}" if len(kinds) > 1 else "")
    for name, shape in shapes.items():
        pieces = name.split(".")
        if pieces[0] == "blocks":
            if pieces[1] not in titles:
                continue
            pieces[:2] = [titles[pieces[1]]]
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
