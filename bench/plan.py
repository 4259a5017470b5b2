"""What is measured: groups of jobs. The jobs of a group take turns, round after round, so that they can be compared."""

from dataclasses import dataclass

from bench import components, kinds, machine, work
from numpy_ref.presets import preset

PEERS = ("hf", "litgpt", "plain")


@dataclass(frozen=True)
class Options:
    """What the command line asks for. ``checkpoint`` and ``draft``: trained runs, for what needs a trained model;
    ``data``: the text of the speedrun."""

    device: str = "cpu"
    peers: bool = False
    quick: bool = False
    batch: int = 32
    only: tuple = ()
    checkpoint: str | None = None
    draft: str | None = None
    data: str = "pydoc"


def groups(options=Options()):
    """Lists of jobs. ``only`` keeps the groups with that name, kind, or kind/name; limits and controls stay."""
    device, peers, batch = options.device, options.peers, options.batch
    if options.quick:
        found = _quick(device)
    else:
        found = [training("showcase", batch, device, peers), training("small", max(1, batch // 4), device, peers)]
        found += [generation("showcase", 100, device, peers)]
        found += [component(name, "showcase", batch, device) for name in components.cases("showcase", batch)]
        found += modern_training(batch, device, peers)
    found += [group for module in kinds.modules() for group in module.groups(options)]
    kept = [group for group in found if not options.only or _labels(group) & set(options.only)]
    found = [controls(), limits(device, 256 if options.quick else None), *kept]
    return [[job | {"budget": 0.05} for job in group] for group in found] if options.quick else found


def _labels(group):
    name, kind = group[0]["name"], group[0]["kind"]
    return {name, kind, f"{kind}/{name}"}


def job(kind, name, implementation, dtype, device, modes, allocator="tuned", compiled=False, **shape):
    return {
        "kind": kind,
        "name": name,
        "implementation": implementation,
        "dtype": dtype,
        "compiled": compiled,
        "allocator": allocator,
        "shape": shape,
        "modes": list(modes),
        "device": device,
    }


def controls():
    """A candidate that sleeps, one that sleeps twice as long, and one whose result is wrong by a thousandth."""
    return [
        job("control", "control", name, "float32", "cpu", ["forward"], "default")
        for name in ("known", "twice", "wrong")
    ]


def limits(device, size=None):
    """Matrix products and copies: what everything else is held against."""
    size = size or (1536 if device == "cpu" else 8192)
    products = [
        job("machine", "matmul", "torch", dtype, device, ["forward"], size=size) for dtype in ("float32", "bfloat16")
    ]
    products.append(
        job("machine", "matmul", "numpy", "float32", "cpu", ["forward"], size=size) if device == "cpu" else None
    )
    streams = [
        job("machine", name, "torch", "float32", device, [str(size) for size in machine.COPIES])
        for name in ("copy", "read")
    ]
    return [*filter(None, products), *streams]


def component(name, preset_name, batch, device):
    """A component in NumPy and, in each number format it has, in Torch."""
    case = components.cases(preset_name, batch)[name]
    sides = [("numpy", case.dtypes[0], "cpu"), *(("torch", dtype, device) for dtype in case.dtypes)]
    return [job("component", name, *side, case.modes, preset=preset_name, batch=batch) for side in sides]


def training(name, batch, device, peers):
    """A training step in both wings, and of the peers: number formats, eager and compiled."""
    shape = {"preset": name, "batch": batch, "context": preset(name)[0].context}
    kinds = [(dtype, compiled) for compiled in (False, True) for dtype in work.FLOATS]

    def step(implementation, dtype, compiled=False, allocator="tuned", on=device):
        return job("training", name, implementation, dtype, on, ["step"], allocator, compiled, **shape)

    found = [step("numpy", "float32", on="cpu"), *(step("torch", *kind) for kind in kinds)]
    if peers:
        found += [step(peer, *kind, "default") for kind in kinds for peer in PEERS]
        if device == "cpu":  # how much of the difference is only the allocator?
            found += [step("plain", dtype) for dtype in work.FLOATS]
    return found


def modern_training(batch, device, peers):
    """The same of the modern block at two sizes, and on CUDA at 124M: fewer cells, for they are larger."""
    found = [("llama-1m", batch), ("llama-10m", max(1, batch // 8))]
    if device == "cuda":
        found.append(("llama-124m", max(1, batch // 4)))
    left_out = {("litgpt", True), ("plain", True)}
    return [
        [
            one
            for one in training(name, rows, device, peers)
            if (one["implementation"], one["compiled"]) not in left_out
            and (one["implementation"] != "plain" or one["allocator"] == "default")
            and (one["implementation"] != "numpy" or name == "llama-1m")
        ]
        for name, rows in found
    ]


def generation(name, tokens, device, peers):
    """Greedy text, one row, in both wings and by transformers."""

    def text(implementation, dtype, allocator="tuned", on=device):
        return job(
            "generation",
            name,
            implementation,
            dtype,
            on,
            ["generate"],
            allocator,
            preset=name,
            tokens=tokens,
            context=preset(name)[0].context,
        )

    found = [text("numpy", "float32", on="cpu"), *(text("torch", dtype) for dtype in work.FLOATS)]
    return found + [text("hf", dtype, "default") for dtype in work.FLOATS if peers]


def _quick(device):
    """Two components, a training step and a text of the tiny model: enough to see that everything works."""
    chosen = [component(name, "tiny", 4, device)[:2] for name in ("layer_norm", "scaled_dot_product_attention")]
    return [*chosen, training("tiny", 4, device, False)[:2], generation("tiny", 8, device, False)[1:2]]
