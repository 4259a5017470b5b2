"""Declarations of the schedule of noise, of vectors with noise, and of the steps that a sampler visits."""

import numpy as np

import numpy_ref.concepts.noise_schedule as numpy_schedule
import torch_impl.concepts.noise_schedule as torch_schedule
from parity_tests.harness.declaration import Bug, Component


def draw_levels(source):
    steps, offset = source.choice(2, 3, 10, 100, 1000), source.choice(0.008, 0.008, 0.1)
    source.event("two steps", steps == 2)
    return source.case({}, steps=steps, offset=offset)


COSINE_LEVELS = Component(
    name="cosine_levels",
    numpy=numpy_schedule.cosine_levels,
    torch=torch_schedule.cosine_levels,
    draw=draw_levels,
    dtypes=("float64",),
    elementwise=True,
    # The cosine falls to 0 at the end: what an angle near pi / 2 has lost is all that a level there has.
    cancellation=lambda arguments, dy, unit: {"value": arguments["steps"] * numpy_schedule.cosine_levels(**arguments)},
    events=("two steps",),
    weight=2,
    compiles=False,
    bugs=(
        Bug("one step late", "numpy", "f[1:] / f[:-1]", "np.concatenate([[1.0], f[1:-1] / f[:-2]])"),
        Bug("cosine not squared", "numpy", " ** 2", " ** 1"),
        Bug("offset forgotten in the denominator", "numpy", "(1 + offset)", "1"),
        Bug("a step takes everything", "numpy", "LARGEST_BETA", "1.0"),
        Bug("one step less", "numpy", "np.arange(steps + 1) / steps", "np.arange(steps + 1) / (steps + 1)"),
        Bug("levels of single steps", "torch", ".cumprod(0)", ""),
        Bug("sine", "torch", "torch.cos(", "torch.sin("),
    ),
)  # fmt: skip


def draw_bent(source):
    steps = source.choice(2, 3, 17, 100)
    levels = np.sort(source.rng.uniform(0.01, 0.99, steps))[::-1].copy()
    levels[-1] *= 0.5
    source.event("two steps", steps == 2)
    return source.case({"levels": levels})


ZERO_TERMINAL_SNR = Component(
    name="zero_terminal_snr",
    numpy=numpy_schedule.zero_terminal_snr,
    torch=torch_schedule.zero_terminal_snr,
    draw=draw_bent,
    dtypes=("float64", "float32"),
    events=("two steps",),
    compiles=False,
    bugs=(
        Bug("levels for their roots", "numpy", "np.sqrt(levels)", "levels.copy()"),
        Bug("not scaled back", "numpy", "* (roots[0] / (roots[0] - roots[-1]))", "* 1.0"),
        Bug("not squared", "numpy", "return roots * roots", "return roots"),
        Bug("the last step alone", "numpy", "(roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))", "np.concatenate([roots[:-1], 0 * roots[-1:]])"),
        Bug("scaled to begin with 1", "torch", "first / (first - last)", "1 / (first - last)"),
        Bug("not shifted", "torch", "(roots - last)", "roots"),
    ),
)  # fmt: skip


def draw_noised(source):
    lead, width = source.leading(), source.size(17)
    levels = source.rng.uniform(0, 1, lead)
    if source.flag() and lead:
        levels.flat[0] = source.choice(0.0, 1.0)
    source.event("noise alone", bool((levels == 0).any()))
    source.event("no noise", bool((levels == 1).any()))
    arrays = {name: source.array(name, (*lead, width), ("one", "small", "sixteen", "heavy")) for name in ("x", "noise")}
    return source.case(arrays | {"levels": np.asarray(levels)})


NOISED = Component(
    name="noised",
    numpy=numpy_schedule.noised,
    torch=torch_schedule.noised,
    draw=draw_noised,
    differentiable=("x",),
    events=("noise alone", "no noise", "heavy"),
    compiles=False,
    bugs=(
        Bug("levels for their roots", "numpy", "np.sqrt(levels)[..., None]", "levels[..., None]"),
        Bug("shares exchanged", "numpy", "kept * x + added * noise", "added * x + kept * noise"),
        Bug("shares add up to one", "numpy", "np.sqrt(1.0 - levels)", "(1.0 - np.sqrt(levels))"),
        Bug("gradient of the noise", "numpy", "return dy * kept", "return dy * added"),
        Bug("noise taken away", "torch", "* noise,", "* -noise,"),
        Bug("no gradient", "torch", "[..., None], x)", "[..., None], x.detach()) + 0 * x"),
    ),
)  # fmt: skip


def draw_steps(source):
    steps = source.choice(1, 7, 100, 1000)
    samples = source.integer(1, steps)
    source.event("all steps", samples == steps)
    source.event("a half", steps * 2 % samples == 0 and steps % samples != 0)
    return source.case({}, steps=steps, samples=samples)


TRAILING_STEPS = Component(
    name="trailing_steps",
    numpy=numpy_schedule.trailing_steps,
    torch=torch_schedule.trailing_steps,
    draw=draw_steps,
    dtypes=("float64",),
    exact=True,
    events=("all steps",),
    compiles=False,
    bugs=(
        Bug("leading", "numpy", "np.arange(samples, 0, -1)", "np.arange(samples - 1, -1, -1)"),
        Bug("one too far", "numpy", "(2 * samples) - 1", "(2 * samples)"),
        Bug("rounded down", "numpy", "left + samples)", "left)"),
        Bug("from the first on", "numpy", "np.arange(samples, 0, -1)", "np.arange(1, samples + 1)"),
        Bug("rounded up", "torch", "left + samples,", "left + 2 * samples - 1,"),
    ),
)  # fmt: skip

COMPONENTS = (COSINE_LEVELS, ZERO_TERMINAL_SNR, NOISED, TRAILING_STEPS)
