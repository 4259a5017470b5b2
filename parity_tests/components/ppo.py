"""Declarations of PPO's rewards, advantages, losses and statistics."""

import numpy as np

import numpy_ref.ppo.advantages as numpy_advantages
import numpy_ref.ppo.objective as numpy_objective
import torch_impl.ppo.advantages as torch_advantages
import torch_impl.ppo.objective as torch_objective
from parity_tests.components.masked import DTYPES, MASK_EVENTS, draw_mask, hidden, shapes, size, sizes
from parity_tests.harness.declaration import Bug, Case, Component


def draw_rewards(source):
    mask = draw_mask(source, *sizes(source))
    kl, = hidden(source, mask, source.array("kl", mask.shape, ("one", "small", "sixteen")))
    scores = source.array("scores", mask.shape[:1], ("one", "ties", "sixteen"))
    source.event("no token left", bool((~mask.any(-1)).any()))
    source.event("padding behind the end", bool((~mask[:, -1] & mask.any(-1)).any()))
    source.layouts["kl"] = "transposed"
    return source.case({"scores": scores, "kl": kl, "mask": mask}, coefficient=source.choice(0.0, 0.05, 0.5))


def rewards_shape(rows, length):
    def build(rng):
        arrays = {"scores": rng.standard_normal(rows), "kl": rng.standard_normal((rows, length))}
        return Case(arrays | {"mask": np.arange(length) < rng.integers(1, length + 1, (rows, 1))}, {"coefficient": 0.05})

    return build


TOKEN_REWARDS = Component(
    name="token_rewards",
    numpy=numpy_advantages.token_rewards,
    torch=torch_advantages.token_rewards,
    compiles=False,
    draw=draw_rewards,
    dtypes=DTYPES,
    elementwise=True,
    events=(*MASK_EVENTS, "no token left", "padding behind the end"),
    shapes={"small": rewards_shape(3, 5), "showcase": rewards_shape(256, 32), "wide": rewards_shape(1024, 256)},
    flops=lambda case: 2 * size(case),
    bytes=lambda case, width: (2 * width + 1) * size(case),
    bugs=(
        Bug("score on the first padding (TRL)", "numpy", "position == last", "position == np.minimum(last + 1, mask.shape[1] - 1)"),
        Bug("score at every token", "numpy", "mask & (position == last)", "mask"),
        Bug("score at the end of the row", "numpy", "mask & (position == last)", "position == mask.shape[1] - 1"),
        Bug("paid for distance", "numpy", "-coefficient * np.where", "coefficient * np.where"),
        Bug("no price at the last token", "numpy", "rewards + np.where(mask & (position == last), scores[:, None], 0.0)", "np.where(mask & (position == last), scores[:, None], rewards)"),
        Bug("NaN from behind the mask", "torch", "torch.where(mask, -coefficient * kl, 0)", "-coefficient * kl * mask"),
        Bug("score at the first token", "torch", "torch.where(mask, position, -1).amax(-1", "torch.where(mask, position, 1000).amin(-1"),
        Bug("length of the mask for its last token", "torch", "last = torch.where(mask, position, -1).amax(-1, keepdim=True)", "last = mask.sum(-1, keepdim=True) - 1"),
    ),
)


def draw_gae(source):
    mask = draw_mask(source, *sizes(source))
    rewards = source.array("rewards", mask.shape, ("one", "small", "ties"))
    values = source.array("values", mask.shape, ("one", "small", "sixteen"))
    rewards, values = hidden(source, mask, rewards, values)
    final = source.array("final", mask.shape[:1], ("one", "sixteen")) if source.flag() else None
    gamma, lam = source.choice(1.0, 1.0, 0.9, 0.0), source.choice(0.95, 1.0, 0.5, 0.0)
    source.event("gamma = lambda = 1", gamma == lam == 1)
    source.event("lambda = 0", lam == 0)
    source.event("cut off", final is not None)
    source.layouts |= {"rewards": "transposed", "values": "sliced"}
    arrays = {"rewards": rewards, "values": values, "mask": mask, "final": final}
    return source.case(arrays, gamma=gamma, lam=lam)


GAE = Component(
    name="gae",
    numpy=numpy_advantages.gae,
    torch=torch_advantages.gae,
    draw=draw_gae,
    dtypes=DTYPES,
    events=(*MASK_EVENTS, "gamma = lambda = 1", "lambda = 0", "cut off"),
    shapes=shapes(("rewards", "values")),
    flops=lambda case: 6 * size(case),
    bytes=lambda case, width: (4 * width + 1) * size(case),
    bugs=(
        Bug("a masked value leaks into the token before (ROLL)", "numpy", "next_value = np.where(here, values[:, t], next_value)", "next_value = values[:, t]", needs=("mask: gaps",)),
        Bug("nothing is carried over a gap (OpenRLHF)", "numpy", "next_advantage = np.where(here, advantage, next_advantage)", "next_advantage = np.where(here, advantage, 0.0)", needs=("mask: gaps",)),
        Bug("value after the token for the one before", "numpy", "delta = rewards[:, t] + gamma * next_value - values[:, t]", "delta = rewards[:, t] + gamma * values[:, t] - next_value"),
        Bug("lambda forgotten", "numpy", "gamma * lam * next_advantage", "gamma * next_advantage"),
        Bug("gamma forgotten", "numpy", "gamma * next_value", "next_value"),
        Bug("returns are the advantages", "numpy", "advantages, advantages + values", "advantages, advantages"),
        Bug("the cut-off text's value forgotten", "numpy", "np.zeros_like(values[:, 0]) if final is None else final", "np.zeros_like(values[:, 0])", needs=("cut off",)),
        Bug("advantages behind the mask", "numpy", "np.where(here, advantage, 0.0)", "advantage"),
        Bug("NaN from behind the mask", "numpy", "rewards, values = np.where(mask, rewards, 0.0), np.where(mask, values, 0.0)", "pass"),
        Bug("moved back to the wrong places", "torch", "torch.empty_like(both).scatter_(2, order.expand(2, -1, -1), both)", "both", needs=("mask: gaps",)),
        Bug("the row's last column taken for its last token", "torch", "last = there & ~torch.nn.functional.pad(there[:, 1:], (0, 1))", "last = place_of_last = torch.arange(length) == length - 1", needs=("cut off", "mask: completions")),
        Bug("sum over the past", "torch", "ahead >= 0", "ahead <= 0"),
        Bug("decay too far by one", "torch", "** ahead.clamp(min=0)", "** (ahead + 1).clamp(min=0)"),
    ),
)


def draw_ratios(source, wide=False):
    """Log-probabilities, older ones, advantages and a mask: from the first step, where all ratios are 1, to far beyond."""
    mask = draw_mask(source, *sizes(source))
    old = -np.abs(source.array("old_logprobs", mask.shape, ("one", "small")))
    where = source.choice("on policy", "a step away", "a step away", "clipped", "beyond the guard")
    spread = {"on policy": 0.0, "a step away": 0.1, "clipped": 0.6, "beyond the guard": 40.0}[where]
    logprobs = old + spread * source.rng.standard_normal(mask.shape)
    source.event(where)
    columns = mask.shape[1] if not wide and source.flag() else 1
    advantages = source.array("advantages", (len(mask), columns), ("one", "ties", "zero", "sixteen"))
    source.event("one advantage a row", columns == 1)
    logprobs, old = hidden(source, mask, logprobs, old)
    source.layouts |= {"old_logprobs": "transposed", "advantages": "contiguous"}
    return {"logprobs": logprobs, "old_logprobs": old, "advantages": advantages, "mask": mask}


RATIO_EVENTS = (*MASK_EVENTS, "on policy", "a step away", "clipped", "beyond the guard")
THREE = ("logprobs", "old_logprobs", "advantages")


def draw_policy(source):
    arrays = draw_ratios(source)
    high, dual = source.choice(0.2, 0.28), source.choice(0.0, 0.0, 3.0, 1.2)
    source.event("upper bound higher", high > 0.2)
    source.event("dual clip", bool(dual))
    static = {"clip_high": high, "dual_clip": dual, "by": source.choice("token", "sequence", "length")}
    return source.case(arrays, denominator=source.choice(None, None, 9), **static)


POLICY_LOSS = Component(
    name="policy_loss",
    numpy=numpy_objective.policy_loss,
    torch=torch_objective.policy_loss,
    draw=draw_policy,
    differentiable=("logprobs",),
    dtypes=DTYPES,
    events=(*RATIO_EVENTS, "one advantage a row", "upper bound higher", "dual clip"),
    shapes=shapes(THREE, dual_clip=3.0),
    flops=lambda case: 10 * size(case),
    bytes=lambda case, width: (4 * width + 1) * size(case),
    bugs=(
        Bug("maximised", "numpy", "plain, bound = -advantages * ratio, -advantages *", "plain, bound = advantages * ratio, advantages *"),
        Bug("ratio upside down", "numpy", "logprobs - old_logprobs, 0.0)\n    inside", "old_logprobs - logprobs, 0.0)\n    inside", "_ratio"),
        Bug("always clipped: no token comes back from outside", "numpy", "counts = _moves(ratio, advantages, clip_low, clip_high)", "counts = (ratio.real >= 1.0 - clip_low) & (ratio.real <= 1.0 + clip_high)"),
        Bug("bounds exchanged", "numpy", "1.0 - clip_low, 1.0 + clip_high)\n    counts", "1.0 - clip_high, 1.0 + clip_low)\n    counts"),
        Bug("one bound for both sides", "numpy", "advantages > 0, ratio.real <= 1.0 + clip_high", "advantages > 0, ratio.real <= 1.0 + clip_low", "_moves", needs=("upper bound higher", "clipped")),
        Bug("clipped tokens have a gradient", "numpy", "np.where(counts & inside, plain, 0.0)", "np.where(inside, plain, 0.0)"),
        Bug("gradient of the ratio is taken for 1", "numpy", "np.where(counts & inside, plain, 0.0)", "np.where(counts & inside, -advantages, 0.0)"),
        Bug("dual clip for good tokens too", "numpy", "(advantages < 0) & (losses.real > most)", "(losses.real > most)", needs=("dual clip",)),
        Bug("held tokens have a gradient", "numpy", "counts, losses = counts & ~held,", "counts, losses = counts,", needs=("dual clip", "beyond the guard")),
        Bug("no guard (TRL): inf", "numpy", "inside = np.abs(log_ratio.real) <= GUARD", "inside = log_ratio.real == log_ratio.real", "_ratio", needs=("beyond the guard",)),
        Bug("never clipped", "torch", "torch.where(clipped, held, ratio)", "ratio", needs=("clipped",)),
        Bug("worse of the two exchanged for the better", "torch", "torch.where(advantages > 0, ratio > held, ratio < held)", "torch.where(advantages > 0, ratio < held, ratio > held)"),
        Bug("no dual clip", "torch", "if dual_clip:", "if False:", needs=("dual clip", "beyond the guard")),
        Bug("mean over everything", "torch", "aggregate(losses, mask, by, denominator)", "aggregate(losses, mask | True, by, denominator)"),
        Bug("denominator of this part", "torch", "mask, by, denominator)", "mask, by, None)"),
    ),
)


def draw_value(source):
    mask = draw_mask(source, *sizes(source))
    old = source.array("old_values", mask.shape, ("one", "small", "sixteen"))
    moved = source.choice("nothing moved", "a step away", "far away")
    spread = {"nothing moved": 0.0, "a step away": 0.1, "far away": 2.0}[moved]
    values = old + spread * source.rng.standard_normal(mask.shape)
    returns = old + source.rng.standard_normal(mask.shape)
    clip = source.choice(0.2, 0.2, 0.37, 0.0)
    source.event(moved)
    source.event("no clip", not clip)
    values, old, returns = hidden(source, mask, values, old, returns)
    source.layouts |= {"old_values": "transposed"}
    arrays = {"values": values, "old_values": old, "returns": returns, "mask": mask}
    by, denominator = source.choice("token", "sequence", "length"), source.choice(None, None, 9)
    return source.case(arrays, clip=clip, by=by, denominator=denominator)


VALUE_LOSS = Component(
    name="value_loss",
    numpy=numpy_objective.value_loss,
    torch=torch_objective.value_loss,
    compiles=False,
    draw=draw_value,
    differentiable=("values",),
    dtypes=DTYPES,
    events=(*MASK_EVENTS, "nothing moved", "a step away", "far away", "no clip"),
    shapes=shapes(("values", "old_values", "returns")),
    flops=lambda case: 8 * size(case),
    bytes=lambda case, width: (4 * width + 1) * size(case),
    bugs=(
        Bug("not halved", "numpy", "losses = 0.5 * error * error", "losses = error * error"),
        Bug("the smaller of the two", "numpy", "error.real * error.real >= held * held", "error.real * error.real <= held * held", needs=("far away",)),
        Bug("clipped towards the return", "numpy", "old_values + np.clip(moved, -clip, clip) - returns", "np.clip(error.real, -clip, clip)", needs=("far away",)),
        Bug("clip=0 freezes the critic", "numpy", "if clip:", "if True:", needs=("no clip",)),
        Bug("the held value has a gradient", "numpy", "np.where(counts, error, 0.0)", "error", needs=("far away",)),
        Bug("never clipped", "numpy", "if clip:", "if False:", needs=("far away",)),
        Bug("gradient doubled", "torch", "0.5 * losses", "losses"),
        Bug("NaN from behind the mask", "torch", "values, old_values, returns = (torch.where(mask, x, 0) for x in (values, old_values, returns))", "pass"),
        Bug("the smaller of the two in Torch", "torch", "(held > losses)", "(held < losses)", needs=("far away",)),
        Bug("absolute error", "torch", "(values - returns).square()", "(values - returns).abs()"),
    ),
)


def draw_statistics(source):
    return source.case(draw_ratios(source), clip_high=source.choice(0.2, 0.28))


RATIO_STATISTICS = Component(
    name="ratio_statistics",
    numpy=numpy_objective.ratio_statistics,
    torch=torch_objective.ratio_statistics,
    draw=draw_statistics,
    dtypes=DTYPES,
    events=(*RATIO_EVENTS, "one advantage a row"),
    compiles=False,
    shapes=shapes(THREE),
    flops=lambda case: 12 * size(case),
    bytes=lambda case, width: (3 * width + 1) * size(case),
    bugs=(
        Bug("means over the padding too (TRL #6809)", "numpy", "max(1, int(np.sum(mask)))", "mask.size"),
        Bug("clipped counted whatever their advantage", "numpy", "(ratio < 1.0 - clip_low) & (advantages < 0)", "(ratio < 1.0 - clip_low)"),
        Bug("shares exchanged", "numpy", "(ratio > 1.0 + clip_high) & (advantages > 0)", "(ratio < 1.0 - clip_low) & (advantages < 0)", needs=("clipped",)),
        Bug("k1: may be negative", "numpy", "np.expm1(log_ratio) - log_ratio", "-log_ratio"),
        Bug("of the policy that has not drawn them", "numpy", "np.expm1(log_ratio) - log_ratio", "np.expm1(-log_ratio) + log_ratio"),
        Bug("mean for maximum", "numpy", "np.max(np.where(mask, ratio, 0.0), initial=0.0)", "np.mean(np.where(mask, ratio, 0.0))"),
        Bug("padding has a ratio of 1", "torch", "torch.where(mask, ratio, 0).amax()", "ratio.amax().clamp(min=1)"),
        Bug("no guard", "torch", ".clamp(-GUARD, GUARD)", "", needs=("beyond the guard",)),
    ),
)

COMPONENTS = (TOKEN_REWARDS, GAE, POLICY_LOSS, VALUE_LOSS, RATIO_STATISTICS)
