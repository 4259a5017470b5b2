"""Declarations of the sampler's step and of guidance."""

import numpy as np

import numpy_ref.concepts.ddim as numpy_ddim
import torch_impl.concepts.ddim as torch_ddim
from parity_tests.harness.declaration import Bug, Component

PLAIN = ("one", "small", "sixteen")


def draw_step(source):
    shape = (*source.leading(), source.size(17))
    level = source.choice(0.0, 0.01, 0.5, 0.99)
    next_level = source.choice(level, 0.5 * (1 + level), 1.0)
    source.event("from noise alone", level == 0)
    source.event("to the end", next_level == 1)
    arrays = {name: source.array(name, shape, PLAIN) for name in ("x", "clean", "fresh")}
    scale, eta = source.choice(1.0, 1.0, 1.01), source.choice(0.0, 0.5, 1.0)
    source.event("scaled noise", scale != 1)
    source.event("fresh noise", eta > 0 and level < next_level < 1)
    return source.case(arrays, level=level, next_level=next_level, noise_scale=scale, eta=eta)


def step_terms(arguments, dy, unit):
    """x and the clean vector enter with weights of their own, so that equal parts no longer cancel before the division."""
    level, following = arguments["level"], arguments["next_level"]
    ratio = np.sqrt((1 - following) / (1 - level))
    return {"value": abs(arguments["clean"]) * (1 + 2 * ratio) + ratio * (abs(arguments["x"]) + abs(arguments["fresh"]))}


DDIM_STEP = Component(
    name="ddim_step",
    numpy=numpy_ddim.ddim_step,
    torch=torch_ddim.ddim_step,
    draw=draw_step,
    cancellation=step_terms,
    events=("from noise alone", "to the end", "scaled noise", "fresh noise"),
    compiles=False,
    bugs=(
        Bug("levels for their roots", "numpy", "math.sqrt(next_level) * clean", "next_level * clean"),
        Bug("the noise of the step before", "numpy", "max(0.0, 1.0 - next_level - variance)", "max(0.0, 1.0 - level - variance)"),
        Bug("fresh noise on top of all the old", "numpy", "1.0 - next_level - variance", "1.0 - next_level", needs=("fresh noise",)),
        Bug("eta for its square", "numpy", "eta**2", "eta", needs=("fresh noise",)),
        Bug("variance for deviation", "numpy", "math.sqrt(variance) * fresh", "variance * fresh", needs=("fresh noise",)),
        Bug("the noisy vector for the clean one", "numpy", "math.sqrt(next_level) * clean", "math.sqrt(next_level) * x"),
        Bug("noise not divided", "numpy", "(1.0 / (math.sqrt(1.0 - level) * noise_scale))", "1.0", needs=()),
        Bug("multiplied by the scale", "numpy", "* noise_scale))", "/ noise_scale))", needs=("scaled noise",)),
        Bug("signal left in the noise", "torch", "(math.sqrt(next_level) - noise * math.sqrt(level))", "math.sqrt(next_level)"),
        Bug("levels exchanged", "torch", "math.sqrt(max(0, 1 - next_level - variance))", "math.sqrt(max(0, 1 - level - variance))"),
        Bug("nothing drawn anew", "torch", "if variance else y", "if variance < 0 else y", needs=("fresh noise",)),
    ),
)  # fmt: skip


def draw_guided(source):
    shape = (*source.leading(), source.size(17, least=2))
    conditional, unconditional = (source.rng.standard_normal(shape) * source.choice(0.1, 1.0, 8.0) for _ in range(2))
    guidance, rescale = source.choice(0.0, 1.0, 1.5, 3.0), source.choice(0.0, 0.7, 1.0)
    source.event("plain", guidance == 1)
    source.event("rescaled", rescale > 0)
    return source.case({"conditional": conditional, "unconditional": unconditional}, guidance=guidance, rescale=rescale)


GUIDED = Component(
    name="guided",
    numpy=numpy_ddim.guided,
    torch=torch_ddim.guided,
    draw=draw_guided,
    cancellation=lambda arguments, dy, unit: {
        "value": 4 * (1 + arguments["guidance"]) * (abs(arguments["conditional"]) + abs(arguments["unconditional"]))
        * (1 + arguments["rescale"] * _gain(**arguments))
    },
    events=("plain", "rescaled"),
    compiles=False,
    bugs=(
        Bug("away from the context", "numpy", "(conditional - unconditional)\n", "(unconditional - conditional)\n"),
        Bug("one more", "numpy", "guidance * (c", "(1.0 + guidance) * (c"),
        Bug("rescaled the wrong way", "numpy", "wanted / np.where(flat, 1.0, spread)", "spread / wanted"),
        Bug("spread of the whole batch", "numpy", "np.mean(centred * centred, axis=-1, keepdims=True)", "np.mean(centred * centred)", "_deviation"),
        Bug("shares exchanged", "torch", "torch.ones_like(factor), factor, rescale)", "factor, torch.ones_like(factor), rescale)"),
        Bug("the other's spread", "torch", "for x in (g, conditional)", "for x in (g, unconditional)"),
    ),
)  # fmt: skip


def _gain(conditional, unconditional, guidance, rescale):
    g = unconditional + guidance * (conditional - unconditional)
    return conditional.std(-1, keepdims=True) / np.maximum(g.std(-1, keepdims=True), 1e-300)


COMPONENTS = (DDIM_STEP, GUIDED)
