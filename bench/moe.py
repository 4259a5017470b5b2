"""A layer of experts, forward and backward: sorted and grouped, against a loop, Hugging Face, and a dense layer.

One layer of width 256 whose SwiGLU experts have 512 hidden features. The dense layer is as wide as the experts that a
token goes to, so it does the same products in one piece: what is slower than it is routing, sorting and small matrices.
Every token's logits are a permutation of the same numbers, far enough apart that no number format chooses otherwise than
the float64 reference; loads are then equal but for chance.
"""

import time

import numpy as np

from bench import clock, gate, rows, sides
from bench.report_parts import NAMES, factor, select, size, table
from bench.work import to_bfloat16
from numpy_ref.config import ModelConfig

WIDTH, HIDDEN, ROW = 256, 512, 1024  # ROW: tokens of a sequence
TOKENS = (1024, 4096, 16384, 65536)
MIDDLE = {"experts": 8, "k": 2}
AROUND = [(4, 2), (16, 2), (64, 2), (8, 1), (8, 4), (8, 8)]  # experts, k: at SOME tokens
SOME = 4096
WHO = {
    "torch": "sorted and grouped",
    "loop": "our loop",
    "hf": "Mixtral's block",
    "hf grouped": 'the same, "grouped_mm"',
    "dense": "dense layer of equal active width",
}


def groups(options):
    """All ways of a shape take turns. A process measures all its numbers of tokens."""
    from bench.plan import job

    if options.quick:
        return []
    shapes = [(MIDDLE["experts"], MIDDLE["k"], TOKENS), *((*shape, (SOME,)) for shape in AROUND)]
    peers, found = ("hf", "hf grouped") if options.peers else (), []
    for experts, k, tokens in shapes:
        modes = [f"both {count}" for count in tokens]
        shape = {"experts": experts, "k": k, "width": WIDTH, "hidden": HIDDEN}
        who = ["torch", "loop", *peers, "dense"]
        found.append(
            [
                job("moe", f"{experts} experts, {k} a token", name, dtype, options.device, modes, **shape) | {"rounds": 2}
                for dtype in ("float32", "bfloat16")
                for name in who
            ]
        )
    return found


# -- in the worker ------------------------------------------------------------------------------------------------


def measure(job):
    """Every number of tokens that ``modes`` names, the smallest first."""
    modes, worst = {}, None
    for mode in job["modes"]:
        tokens = int(mode.split()[1])
        arrays = inputs(job["shape"], tokens)
        both = ways(job, arrays)
        label = f"moe {job['shape']} {tokens} {job['implementation'] == 'dense'}"
        wanted = gate.cached(job.get("cache"), label, lambda: reference(job, arrays))
        parity = gate.compare(sides.flatten(both(), ""), wanted, job["dtype"], slack=4)
        worst = max(worst or parity, parity, key=lambda one: one["worst"])
        del wanted
        start = time.perf_counter()
        memory = clock.peak_memory(both, job["device"])
        long = time.perf_counter() - start > 1
        seconds = clock.timed(both, job["device"], job.get("budget", 1.0), least=2 if long else 3, warm=not long)
        flops, traffic = work(job, tokens)
        modes[mode] = {"seconds": clock.summary(seconds), "memory": memory, "flops": flops, "bytes": traffic, "tokens": tokens}
    return {"modes": modes, "parity": worst}


def config(shape):
    """The layer as a model's config has it."""
    return ModelConfig(
        width=shape["width"], activation="swiglu", feed_forward_bias=False, experts=shape["experts"],
        experts_per_token=shape["k"], expert_width=shape["hidden"], gate="raw" if shape["k"] == 1 else "renormalised",
    )  # fmt: skip


def inputs(shape, tokens):
    """{name: array} of what goes in, float32 of few bits: every format gets the same numbers."""
    rng, experts, width, hidden = np.random.default_rng(8), shape["experts"], shape["width"], shape["hidden"]
    router = np.linalg.qr(rng.normal(size=(width, experts)))[0].T
    x = rng.normal(size=(tokens, width))
    wanted = rng.permuted(np.tile(np.linspace(-2, 2, experts), (tokens, 1)), axis=1)
    x += (wanted - x @ router.T) @ router
    found = {"x": x, "dy": rng.normal(size=x.shape), "router.weight": router}
    found["experts.gate_up.weight"] = 0.06 * rng.normal(size=(experts, 2 * hidden, width))
    found["experts.down.weight"] = 0.06 * rng.normal(size=(experts, width, hidden))
    return {name: to_bfloat16(value).astype(np.float32) for name, value in found.items()}


def dense(params, k):
    """The first k experts as one network: the halves of ``gate_up`` one after the other, ``down`` side by side."""
    first, down = params["experts.gate_up.weight"][:k], params["experts.down.weight"][:k]
    halves = first.reshape(k, 2, -1, first.shape[-1]).swapaxes(0, 1)
    return {"gate_up.weight": halves.reshape(-1, first.shape[-1]), "down.weight": down.swapaxes(0, 1).reshape(down.shape[1], -1)}


def split(arrays):
    """(x, dy, the parameters)."""
    params = dict(arrays)
    return params.pop("x"), params.pop("dy"), params


def reference(job, arrays):
    """Output and gradients by the float64 reference, by name."""
    from numpy_ref.model.feed_forward import feed_forward
    from numpy_ref.model.moe import moe

    x, dy, params = split({name: value.astype(np.float64) for name, value in arrays.items()})
    if job["implementation"] == "dense":
        y, vjp = feed_forward(x, dense(params, job["shape"]["k"]), "swiglu")
    else:
        (y, _), vjp = moe(x[None], params, config(job["shape"]))
        dy = dy[None]
    dx, grads = vjp(dy)
    return sides.flatten({"y": y.reshape(x.shape), "dx": dx.reshape(x.shape), **grads}, "")


def ways(job, arrays):
    """A call without arguments: {"y", "dx", name: gradient} of one way to compute the layer."""
    import torch

    dtype, device, who = getattr(torch, job["dtype"]), job["device"], job["implementation"]
    x, dy, params = split(arrays)
    if who == "dense":
        params = dense(params, job["shape"]["k"])
    x, dy = (torch.from_numpy(value).to(device, dtype).view(-1, min(ROW, len(value)), value.shape[1]) for value in (x, dy))
    # A router keeps float32 in our models; Mixtral's takes the model's format.
    kept = torch.float32 if not who.startswith("hf") else dtype
    params = {
        name: torch.from_numpy(np.ascontiguousarray(value)).to(device, kept if name.startswith("router") else dtype)
        for name, value in params.items()
    }
    make = hugging_face if who.startswith("hf") else ours
    forward, leaves = make(job, params)
    x.requires_grad_()

    def both():
        y = forward(x)
        dx, *grads = torch.autograd.grad(y, [x, *leaves.values()], dy)
        return {"y": y.flatten(0, 1), "dx": dx.flatten(0, 1), **dict(zip(leaves, grads))}

    return both


def ours(job, leaves):
    """(forward, leaves) of the layer as it is, of the loop, and of the dense layer."""
    from torch_impl.model import moe
    from torch_impl.model.feed_forward import feed_forward
    from torch_impl.model.parameters import with_prefix
    from torch_impl.model.router import gate_weights, router_logits

    settings = config(job["shape"])

    def loop(x):
        logits = router_logits(x, leaves["router.weight"])
        indices = moe.choose(logits, None, settings)
        weights = gate_weights(logits, indices, settings.scoring, settings.gate)
        rows = (value.flatten(0, 1) for value in (x, indices, weights))
        return moe.experts_loop(*rows, with_prefix(leaves, "experts"), "swiglu").view_as(x)

    calls = {
        "torch": lambda x: moe.moe(x, leaves, settings)[0],
        "loop": loop,
        "dense": lambda x: feed_forward(x, leaves, "swiglu"),
    }
    for leaf in leaves.values():
        leaf.requires_grad_()
    return calls[job["implementation"]], leaves


def hugging_face(job, params):
    """The same of Mixtral's block, as it computes by itself or through its "grouped_mm"."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    shape = job["shape"]
    settings = MixtralConfig(
        hidden_size=shape["width"], intermediate_size=shape["hidden"], num_local_experts=shape["experts"],
        num_experts_per_tok=shape["k"],
    )  # fmt: skip
    settings._experts_implementation = "grouped_mm" if job["implementation"] == "hf grouped" else "eager"
    block = MixtralSparseMoeBlock(settings).to(job["device"], params["experts.down.weight"].dtype)
    theirs = {"gate.weight": "router.weight", "experts.gate_up_proj": "experts.gate_up.weight", "experts.down_proj": "experts.down.weight"}
    block.load_state_dict({own: params[name] for own, name in theirs.items()})
    own = dict(block.named_parameters())
    return block, {name: own[their] for their, name in theirs.items()}


def work(job, tokens):
    """(operations of the products that a token meets, without the router; unavoidable bytes), forward and backward."""
    shape, width = job["shape"], {"float32": 4, "bfloat16": 2}[job["dtype"]]
    matrices = 3 * shape["width"] * shape["hidden"]
    weights = matrices * (shape["k"] if job["implementation"] == "dense" else shape["experts"])
    return 6 * tokens * shape["k"] * matrices, width * 2 * (weights + 2 * tokens * shape["width"])


PICTURES = {}
