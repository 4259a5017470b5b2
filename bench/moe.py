"""A layer of experts, forward and backward: sorted and grouped, against a loop, Hugging Face, and a dense layer.

One layer of width 256 whose SwiGLU experts have 512 hidden features. The dense layer is as wide as the experts that a
token goes to, so it does the same products in one piece: what is slower than it is routing, sorting and small matrices.
Every token's logits are a permutation of the same numbers, far enough apart that no number format chooses otherwise than
the float64 reference; loads are then equal but for chance.
"""

import time

import numpy as np

from bench import clock, gate, rows, sides
from bench.report_parts import factor, milliseconds, select, size, table
from bench.work import to_bfloat16
from numpy_ref.config import ModelConfig

WIDTH, HIDDEN, ROW = 256, 512, 1024  # ROW: tokens of a sequence
TOKENS = (1024, 4096, 16384, 65536)
MIDDLE, AROUND = "8 2", ("4 2", "16 2", "64 2", "8 1", "8 4", "8 8")  # experts, k: those around at SOME tokens
SOME = 4096
FORMATS = ("float32", "bfloat16")
WHO = {
    "torch": "ours, sorted and grouped",
    "loop": "ours, in a loop",
    "hf": "Mixtral's block",
    "hf grouped": 'Mixtral\'s block, "grouped_mm"',
    "dense": "dense",
}


def groups(options):
    """All ways take turns; a process measures every shape: "8 2 1024" are experts, k, tokens.

    Mixtral's block has no 1 expert a token: it would weigh it by 1, and its router would learn nothing.
    """
    from bench.plan import job

    if options.quick:
        return []
    modes = [f"{MIDDLE} {tokens}" for tokens in TOKENS] + [f"{shape} {SOME}" for shape in AROUND]
    who = ["torch", "loop", *(("hf", "hf grouped") if options.peers else ()), "dense"]
    shape = {"width": WIDTH, "hidden": HIDDEN}
    return [
        [
            job("moe", "layer of experts", name, dtype, options.device, own, allocator(name), **shape)
            for name in who
            for own in [[mode for mode in modes if mode.split()[1] != "1" or not name.startswith("hf")]]
        ]
        for dtype in FORMATS
    ]


def allocator(who):
    return "default" if who.startswith("hf") else "tuned"


# -- in the worker ------------------------------------------------------------------------------------------------


def measure(job):
    """Every shape that ``modes`` names."""
    modes, worst = {}, None
    for mode in job["modes"]:
        shape = sizes(job, mode)
        arrays = inputs(shape)
        both = ways(job, shape, arrays)
        label = f"moe {shape} {job['implementation'] == 'dense'}"
        wanted = gate.cached(job.get("cache"), label, lambda: reference(job, shape, arrays))
        parity = gate.compare(compared(both()), wanted, job["dtype"], slack=4)
        worst = max(worst or parity, parity, key=lambda one: one["worst"])
        del wanted
        start = time.perf_counter()
        memory = clock.peak_memory(both, job["device"])
        long = time.perf_counter() - start > 1
        seconds = clock.timed(both, job["device"], job.get("budget", 0.4), least=1 if long else 3, warm=not long)
        modes[mode] = {"seconds": clock.summary(seconds), "memory": memory, "tokens": shape["tokens"]} | work(job, shape)
    return {"modes": modes, "parity": worst}


def sizes(job, mode):
    """{"width", "hidden", "experts", "k", "tokens"}."""
    return job["shape"] | dict(zip(("experts", "k", "tokens"), map(int, mode.split())))


def config(shape):
    """The layer as a model's config has it."""
    return ModelConfig(
        width=shape["width"], activation="swiglu", feed_forward_bias=False, experts=shape["experts"],
        experts_per_token=shape["k"], expert_width=shape["hidden"], gate="raw" if shape["k"] == 1 else "renormalised",
    )  # fmt: skip


def inputs(shape):
    """{name: array} of what goes in, float32 of few bits: every format gets the same numbers."""
    experts, tokens, width, hidden = (shape[name] for name in ("experts", "tokens", "width", "hidden"))
    rng = np.random.default_rng(8)
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


def reference(job, shape, arrays):
    """Output and gradients by the float64 reference, by name."""
    from numpy_ref.model.feed_forward import feed_forward
    from numpy_ref.model.moe import moe

    x, dy, params = split({name: value.astype(np.float64) for name, value in arrays.items()})
    if job["implementation"] == "dense":
        y, vjp = feed_forward(x, dense(params, shape["k"]), "swiglu")
    else:
        (y, _), vjp = moe(x[None], params, config(shape))
        dy = dy[None]
    dx, grads = vjp(dy)
    return compared({"y": y.reshape(x.shape), "dx": dx.reshape(x.shape), **grads})


def compared(results):
    """What the gate sees: every gradient of the weights, which all tokens make, and the rows of the first tokens."""
    return sides.flatten(results | {name: results[name][:SOME] for name in ("y", "dx")}, "")


def ways(job, shape, arrays):
    """A call without arguments: {"y", "dx", name: gradient} of one way to compute the layer."""
    import torch

    dtype, device, who = getattr(torch, job["dtype"]), job["device"], job["implementation"]
    x, dy, params = split(arrays)
    if who == "dense":
        params = dense(params, shape["k"])
    x, dy = (torch.from_numpy(value).to(device, dtype).view(-1, min(ROW, len(value)), value.shape[1]) for value in (x, dy))
    # A router keeps float32 in our models; Mixtral's takes the model's format.
    kept = torch.float32 if not who.startswith("hf") else dtype
    params = {
        name: torch.from_numpy(np.ascontiguousarray(value)).to(device, kept if name.startswith("router") else dtype)
        for name, value in params.items()
    }
    make = hugging_face if who.startswith("hf") else ours
    forward, leaves = make(who, shape, params)
    x.requires_grad_()

    def both():
        y = forward(x)
        dx, *grads = torch.autograd.grad(y, [x, *leaves.values()], dy)
        return {"y": y.flatten(0, 1), "dx": dx.flatten(0, 1), **dict(zip(leaves, grads))}

    return both


def ours(who, shape, leaves):
    """(forward, leaves) of the layer as it is, of the loop, and of the dense layer."""
    from torch_impl.model import moe
    from torch_impl.model.feed_forward import feed_forward
    from torch_impl.model.parameters import with_prefix
    from torch_impl.model.router import gate_weights, router_logits

    settings = config(shape)

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
    return calls[who], leaves


def hugging_face(who, shape, params):
    """The same of Mixtral's block, as it computes by itself or through its "grouped_mm"."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    down = params["experts.down.weight"]
    settings = MixtralConfig(
        hidden_size=shape["width"], intermediate_size=shape["hidden"], num_local_experts=shape["experts"],
        num_experts_per_tok=shape["k"],
    )  # fmt: skip
    settings._experts_implementation = "grouped_mm" if who == "hf grouped" else "eager"
    block = MixtralSparseMoeBlock(settings).to(down.device, down.dtype)
    theirs = {"gate.weight": "router.weight", "experts.gate_up_proj": "experts.gate_up.weight", "experts.down_proj": "experts.down.weight"}
    block.load_state_dict({own: params[name] for own, name in theirs.items()})
    own = dict(block.named_parameters())
    return block, {name: own[their] for their, name in theirs.items()}


def work(job, shape):
    """Operations of the products that a token meets, without the router, and unavoidable bytes, forward and backward."""
    width = {"float32": 4, "bfloat16": 2}[job["dtype"]]
    matrices = 3 * shape["width"] * shape["hidden"]
    weights = matrices * (shape["k"] if job["implementation"] == "dense" else shape["experts"])
    bytes_ = width * 2 * (weights + 2 * shape["tokens"] * shape["width"])
    return {"flops": 6 * shape["tokens"] * shape["k"] * matrices, "bytes": bytes_}


# -- the report ---------------------------------------------------------------------------------------------------


def sections(found, drawn):
    """Time, memory, and what the dense layer's speed leaves of it."""
    measured = select(found, kind="moe")
    lines = []
    for ours in (row for row in measured if row["implementation"] == "torch"):
        others = {row["implementation"]: row for row in measured if _cell(row) == _cell(ours) and row["run"] == ours["run"]}
        times = [factor(rows.ratio(others[who], ours)[1]) if who in others else "" for who in ("loop", "hf", "hf grouped")]
        shares = [f"{100 * share(others, who):.0f} %" if {who, "dense"} <= set(others) else "" for who in ("torch", "hf")]
        peaks = [_memory(others.get(who)) for who in ("torch", "hf", "dense")]
        experts, k, tokens = map(int, ours["mode"].split())
        lines.append((ours["dtype"], experts, k, f"{tokens:,}", milliseconds(ours), *times, *shares, *peaks))
    if not lines:
        return
    titles = (
        "format", "experts", "k", "tokens", "ms", "times the loop", "times Mixtral's block", 'times its "grouped_mm"',
        "of dense", "Mixtral's of dense", "memory", "Mixtral's", "dense",
    )  # fmt: skip
    words = (
        f"{' '.join(__doc__.split(chr(10) * 2, 1)[1].split())} Times: how many times as fast as each is ours. Of dense: the "
        "share of the dense layer's rate of operations, which is that layer's time over the layer's of experts."
    )
    picture = "\n\n![experts](moe.png)" if "moe.png" in drawn else ""
    yield f"## A layer of experts\n\n{words}\n\n{table(titles, lines)}{picture}"


def share(others, who):
    """The rate of one way as a share of the dense layer's, both of one run."""
    return rows.ratio(others["dense"], others[who])[1]


def _cell(row):
    return row["dtype"], *map(int, row["mode"].split())


def _memory(row):
    return size(row["memory"]) if row and row["memory"] is not None else "-"


def picture(measured):
    """Shares of the dense layer's rate, over tokens, experts and experts a token; a line of panels for each format."""
    from bench.pictures import INK, figure_with_panels

    groups = {}
    for row in (row for row in measured if row["kind"] == "moe"):
        groups.setdefault(_cell(row), {})[row["implementation"]] = row
    groups = {cell: others for cell, others in groups.items() if "dense" in others}
    if not groups:
        return None
    middle = tuple(map(int, MIDDLE.split()))
    axes_of = (
        ("tokens", lambda experts, k, tokens: (experts, k) == middle and tokens),
        ("experts", lambda experts, k, tokens: (k, tokens) == (middle[1], SOME) and experts),
        ("experts a token", lambda experts, k, tokens: (experts, tokens) == (middle[0], SOME) and k),
    )
    figure, panels = figure_with_panels(10.5, 6.0, nrows=2, ncols=3, squeeze=False, sharey=True)
    for line, dtype in zip(panels, FORMATS):
        for axes, (name, place) in zip(line, axes_of):
            for who, (colour, marker) in STYLES.items():
                points = sorted(
                    (place(*cell[1:]), 100 * share(others, who))
                    for cell, others in groups.items()
                    if cell[0] == dtype and place(*cell[1:]) and who in others
                )
                if points:
                    axes.plot(*zip(*points), color=colour, marker=marker, markersize=5, label=WHO[who])
            ticks = sorted({place(*cell[1:]) for cell in groups if place(*cell[1:])})
            axes.axhline(100, color=INK, linewidth=0.9)
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [f"{n // 1024}k" if n >= 1024 else n for n in ticks])
            axes.set_xticks([], minor=True)
            axes.set(xlabel=name, ylim=(0, 120))
            axes.grid(axis="y")
        line[0].set_ylabel("% of the dense layer's rate")
        line[0].set_title(dtype, loc="left")
    panels[0][2].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


STYLES = {"torch": ("#1f4e9c", "o"), "loop": ("#8fb3e3", "s"), "hf": ("#d9822b", "^"), "hf grouped": ("#868d99", "v")}
PICTURES = {"moe.png": picture}
