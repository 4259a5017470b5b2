"""Declarations of kl_estimate and adapted_coefficient."""

import numpy as np

import numpy_ref.rl.kl as numpy_kl
import torch_impl.rl.kl as torch_kl
from parity_tests.harness.declaration import Bug, Case, Component


def draw(source):
    shape = (source.integer(1, 4), source.size(17))
    logprobs = -np.abs(source.array("logprobs", shape, ("one", "sixteen")))
    far = source.choice("near", "near", "same", "100 nats above", "100 nats below", "some far")
    distance = source.rng.standard_normal(shape) * source.choice(0.1, 1.0)
    if far == "same":
        distance = np.zeros(shape)
    elif far == "some far":
        distance = np.where(source.rng.random(shape) < 0.5, 20 * distance, distance)
    elif far.startswith("100"):
        distance = distance + (100 if far.endswith("above") else -100)
    kind = source.choice("k1", "k2", "k3", "k3")
    source.event(far)
    source.event(kind)
    limit = source.choice(10.0, 10.0, 2.0)
    source.event("beyond the limit", kind == "k3" and bool((distance < -limit).any()))
    return source.case({"logprobs": logprobs, "reference": logprobs - distance}, kind=kind, limit=limit)


def fixed(rows, length):
    def build(rng):
        return Case({name: -np.abs(rng.standard_normal((rows, length))) for name in ("logprobs", "reference")})

    return build


KL_ESTIMATE = Component(
    name="kl_estimate",
    numpy=numpy_kl.kl_estimate,
    torch=torch_kl.kl_estimate,
    compiles=False,
    draw=draw,
    differentiable=("logprobs",),
    dtypes=("float64", "float32"),
    elementwise=True,
    events=("near", "same", "100 nats above", "100 nats below", "some far", "k1", "k2", "k3", "beyond the limit"),
    shapes={"small": fixed(3, 5), "showcase": fixed(256, 32), "wide": fixed(1024, 256)},
    flops=lambda case: 4 * case.arrays["logprobs"].size,
    bytes=lambda case, size: 3 * size * case.arrays["logprobs"].size,
    bugs=(
        Bug("the other way round (RLHF book: its k1 is -KL, its k3 is chi^2 - KL)", "numpy", "d = logprobs - reference", "d = reference - logprobs"),
        Bug("k3 overflows (TRL)", "numpy", "far = d.real < -limit", "far = d.real < -1e30", needs=("100 nats below",)),
        Bug("clamped: no gradient far out (verl)", "numpy", "np.where(far, slope * (d + limit), 0.0)\n", "0.0\n        slope = np.where(far, 0.0, slope)\n", needs=("beyond the limit",)),
        Bug("k3 without its linear term", "numpy", "np.expm1(-near) + near +", "np.expm1(-near) +"),
        Bug("k2 not halved", "numpy", "0.5 * d * d", "d * d"),
        Bug("k3's gradient is that of k2", "numpy", "slope = -np.expm1(-near)", "slope = near"),
        Bug("clamped after the exponential (OpenRLHF: gradient NaN)", "torch", "near - slope + slope * (fixed - near) + slope * (d - fixed)", "(torch.expm1(-d) + d).clamp(max=1e4)", needs=("100 nats below",)),
        Bug("no gradient beyond the limit", "torch", "slope * (d - fixed)", "slope * (d.clamp(min=-limit) - near)", needs=("beyond the limit",)),
        Bug("the other way round in Torch", "torch", "d = logprobs - reference", "d = reference - logprobs"),
        Bug("absolute value for k2", "torch", "0.5 * d.square()", "d.abs()"),
    ),
)


def draw_coefficient(source):
    target = source.choice(6.0, 0.5)
    kl = target * source.choice(0.0, 0.5, 0.9, 1.0, 1.1, 1.3, 10.0, -0.1)
    source.event("too far", kl > 1.2 * target)
    source.event("nearer than the target", kl < 0.8 * target)
    source.event("at the target", kl == target)
    source.event("in between", 0.8 * target < kl < 1.2 * target)
    static = {"kl": kl, "target": target, "sequences": source.choice(1, 256), "horizon": source.choice(10000, 512)}
    return source.case({}, coefficient=source.choice(0.05, 0.2), **static)


ADAPTED_COEFFICIENT = Component(
    name="adapted_coefficient",
    numpy=numpy_kl.adapted_coefficient,
    torch=torch_kl.adapted_coefficient,
    draw=draw_coefficient,
    dtypes=("float64",),  # Python numbers
    exact=True,
    compiles=False,
    events=("too far", "nearer than the target", "at the target", "in between"),
    shapes={
        "showcase": lambda rng: Case({}, {"coefficient": 0.1, "kl": 7.0, "target": 6.0, "sequences": 256}),
    },
    bugs=(
        Bug("wrong direction", "numpy", "1.0 + error", "1.0 - error"),
        Bug("not held within a fifth", "numpy", "min(max(kl / target - 1.0, -0.2), 0.2)", "kl / target - 1.0"),
        Bug("target upside down", "numpy", "kl / target - 1.0", "target / kl - 1.0 if kl else 0.2"),
        Bug("in batches, not in sequences", "numpy", "error * sequences / horizon", "error / horizon"),
        Bug("difference, not ratio", "torch", "kl / target - 1.0", "kl - target"),
        Bug("only ever dearer", "torch", "max(-0.2, ", "max(0.0, "),
    ),
)

COMPONENTS = (KL_ESTIMATE, ADAPTED_COEFFICIENT)
