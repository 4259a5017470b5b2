"""Exercises of lesson 9: groups of answers instead of a critic (GRPO)."""

from dataclasses import replace

import numpy as np

from lessons.catalogue.part_08 import completions
from lessons.exercise import Exercise
from parity_tests.components.grpo import CISPO_LOSS, GROUP_ADVANTAGES, GSPO_LOSS, INFORMATIVE
from parity_tests.components.kl import ADAPTED_COEFFICIENT
from parity_tests.components.masked import AGGREGATE, EXPLAINED_VARIANCE, LOSS_DENOMINATOR
from parity_tests.harness.declaration import Bug


def draw_ratios(source):
    """Whole answers with one advantage each; steps of every size."""
    mask = completions(source)
    step = source.rng.standard_normal(mask.shape) * source.choice(0.0, 0.1, 0.5, 1.5)
    logprobs = -np.abs(source.rng.standard_normal(mask.shape))
    advantages = source.rng.standard_normal((len(mask), 1))
    return {"logprobs": logprobs, "old_logprobs": logprobs - step, "advantages": advantages, "mask": mask}


def draw_gspo(source):
    low, high = source.choice((3e-4, 4e-4), (0.1, 0.2))
    return source.case(draw_ratios(source), clip_low=low, clip_high=high)


def draw_cispo(source):
    return source.case(draw_ratios(source), largest=source.choice(5.0, 1.2))


def draw_advantages(source):
    shape = (source.integer(1, 4), source.integer(2, 8))
    kind = source.choice("any", "right or wrong", "equal")
    rewards = {
        "any": source.rng.standard_normal(shape),
        "right or wrong": source.rng.integers(0, 2, shape).astype(float),
        "equal": np.full(shape, 0.1),
    }[kind]
    return source.case({"rewards": rewards}, kind=source.choice("deviation", "mean", "rloo"))


EXERCISES = (
    Exercise(
        name="09_group_advantages",
        title="Better than its siblings",
        component=replace(GROUP_ADVANTAGES, draw=draw_advantages),
        minutes=20,
        hints=(
            "Subtract each group's mean (axis=-1, keepdims=True).",
            '"deviation" divides by the deviation over n - 1, plus eps; "rloo" multiplies by n / (n - 1): the mean of the others.',
            "A group whose rewards are all equal has advantages of exactly 0, whatever rounding leaves of the mean: compare largest and smallest.",
        ),
        mistakes={
            "biased deviation": "the deviation of a group divides by n - 1.",
            "over all groups": "each prompt has a mean of its own.",
            "leave-one-out as the mean": '"rloo" compares with the mean of the others: n / (n - 1) times the distance from the mean of all.',
            "Dr. GRPO divided by the deviation": '"mean" does not divide by the deviation.',
            Bug("rounding blown up", "numpy", "np.where(informative(rewards, valid)[:, None], centred, 0.0)", "centred"): (
                "where all rewards are equal, rounding leaves something of the mean, and dividing by eps blows it up: these are exactly 0."
            ),
        },
    ),
    Exercise(
        name="09_informative",
        title="Which groups teach anything?",
        component=INFORMATIVE,
        minutes=10,
        hints=(
            "A group teaches something where its largest reward is above its smallest, among the valid ones.",
            "Hide invalid rewards by -inf for the largest and by inf for the smallest.",
        ),
        mistakes={
            "groups without a success": "two different rewards are enough; none has to be above 0.",
            "equal ones too": "a group whose rewards are all equal teaches nothing.",
            "invalid rewards compared": "rewards that are not valid must not be compared.",
        },
    ),
    Exercise(
        name="09_denominator",
        title="A mean over what?",
        component=LOSS_DENOMINATOR,
        minutes=10,
        hints=(
            "token: how many tokens count. sequence: how many rows have any. length: rows times `length`, or the number of columns.",
            "Never 0: at least 1. Another `by` is a UserError.",
        ),
        mistakes={
            "zero": "where nothing counts the divisor is 1, not 0.",
            "empty rows counted": "rows without a token that counts are not counted.",
            "rows forgotten": "length: rows times the longest possible row.",
        },
    ),
    Exercise(
        name="09_aggregate",
        title="One number from the losses of all tokens",
        component=AGGREGATE,
        minutes=25,
        cases=100,
        hints=(
            "token and length: the sum over the tokens that count, divided by loss_denominator(mask, by) or by the denominator that is given.",
            "sequence: each row's own mean first, then the mean of those: a token's share is 1 / (tokens of its row).",
            "Backward: share * dy / divisor. Hidden places may hold NaN: np.where before anything is added up.",
        ),
        mistakes={
            "mean of means: each part by its own number of tokens": "a denominator that is given is that of the whole step: use it.",
            "multiplied by the mask": "NaN * 0 is NaN: hide with np.where, not with a product.",
            "padding counted": "the mean is over the tokens that count.",
            "empty rows counted": "rows without any token count as nothing.",
            "0/0 where nothing counts": "where nothing counts the result is 0, not 0/0.",
            "row means over the padding too": "a row's mean is over the tokens that count in it.",
            "gradient not divided": "the gradient is divided like the value.",
        },
    ),
    Exercise(
        name="09_gspo",
        title="One ratio for a whole answer",
        component=replace(GSPO_LOSS, draw=draw_gspo),
        minutes=35,
        hints=(
            "s = exp(mean over the answer's tokens of logprobs - old_logprobs), a number for each row.",
            "The loss of a row is max(-A s, -A clip(s)); the mean over the rows that have tokens.",
            "ds/dlogprobs_t = s / n for each of its n tokens; 0 where it is clipped.",
        ),
        mistakes={
            "product of the ratios, not their mean": "the log-ratios are averaged over the tokens, not summed.",
            "each token has the whole gradient": "ds/dlogprobs is s / n: each token has its share.",
            "clipped completions have a gradient": "a clipped answer has no gradient.",
            "mean over the padding": "the mean is over the tokens of the answer.",
        },
    ),
    Exercise(
        name="09_cispo",
        title="No token left out",
        component=replace(CISPO_LOSS, draw=draw_cispo),
        minutes=25,
        hints=(
            "The weight w = min(r, largest) is taken for a constant: no gradient flows through it.",
            "The loss of a token is -w A logprobs, its mean over the tokens that count; the gradient is -w A.",
        ),
        mistakes={
            "no largest weight": "the weight is held at `largest`.",
            "clipped tokens left out": "a token whose weight is held still has a gradient: that is the point.",
            "minus forgotten": "what is good is to become likelier: the loss is -w A logprobs.",
        },
    ),
    Exercise(
        name="09_explained_variance",
        title="Is the critic any good?",
        component=EXPLAINED_VARIANCE,
        minutes=15,
        hints=(
            "1 - var(returns - values) / var(returns), variances over the tokens that count.",
            "Where all returns are equal it is 0; compare the largest and the smallest, as rounding may leave a variance.",
        ),
        mistakes={
            "squared error for variance": "the mean is taken out: a constant offset costs nothing here.",
            "upside down": "what is missed stands over what there is.",
            "share that is missed": "it is the share that is explained: 1 minus the share that is missed.",
            "0/0 where all returns are equal": "where all returns are equal the result is 0, not 0/0.",
        },
    ),
    Exercise(
        name="09_adapted_coefficient",
        title="A price that finds its distance",
        component=ADAPTED_COEFFICIENT,
        minutes=10,
        hints=(
            "e = kl / target - 1, held within -0.2 and 0.2.",
            "coefficient * (1 + e * sequences / horizon). A target that is not above 0 is a UserError.",
        ),
        mistakes={
            "wrong direction": "too far away makes distance dearer: 1 + e.",
            "not held within a fifth": "e is held within -0.2 and 0.2.",
            "in batches, not in sequences": "the change is in sequences seen: e * sequences / horizon.",
        },
    ),
)
