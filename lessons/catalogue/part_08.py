"""Exercises of lesson 8: learning from rewards, a careful step at a time (PPO)."""

from dataclasses import replace

import numpy as np

from lessons.exercise import Exercise
from parity_tests.components.kl import KL_ESTIMATE
from parity_tests.components.masked import WHITEN
from parity_tests.components.ppo import GAE, POLICY_LOSS, TOKEN_REWARDS, VALUE_LOSS
from parity_tests.components.token_logprobs import TOKEN_ENTROPY, TOKEN_LOGPROBS

KIND = ("one", "small", "sixteen", "ties")


def completions(source):
    """Which tokens count (B, T): each row from some token on to some other."""
    rows, length = source.integer(1, 3), source.size(9)
    start, stop = source.rng.integers(0, length, (2, rows, 1))
    place = np.arange(length)
    return (place >= np.minimum(start, stop)) & (place <= np.maximum(start, stop))


def draw_logprobs(source):
    shape, vocabulary = (source.integer(1, 3), source.size(6)), source.size(9, least=2)
    arrays = {"logits": source.array("logits", (*shape, vocabulary), KIND), "targets": source.tokens(shape, vocabulary).astype(np.int64)}
    return source.case(arrays, temperature=source.choice(1.0, 0.6, 2.0))


def draw_entropy(source):
    shape = (source.integer(1, 3), source.size(6), source.size(9))
    return source.case({"logits": source.array("logits", shape, KIND)}, temperature=source.choice(1.0, 0.6, 2.0))


def draw_kl(source):
    shape = (source.integer(1, 3), source.size(9))
    logprobs = -np.abs(source.rng.standard_normal(shape))
    distance = source.rng.standard_normal(shape) * source.choice(0.0, 0.1, 1.0)
    return source.case({"logprobs": logprobs, "reference": logprobs - distance}, kind=source.choice("k1", "k2", "k3"))


def draw_policy(source):
    """Steps of every size, advantages of both signs."""
    mask = completions(source)
    step = source.rng.standard_normal(mask.shape) * source.choice(0.0, 0.1, 0.5)
    logprobs = -np.abs(source.rng.standard_normal(mask.shape))
    arrays = {"logprobs": logprobs, "old_logprobs": logprobs - step, "advantages": source.rng.standard_normal(mask.shape), "mask": mask}
    return source.case(arrays, clip_low=0.2, clip_high=source.choice(0.2, 0.28))


def draw_value(source):
    mask = completions(source)
    old, returns, moved = source.rng.standard_normal((3, *mask.shape))
    return source.case({"values": old + moved * source.choice(0.05, 1.0), "old_values": old, "returns": returns, "mask": mask}, clip=source.choice(0.2, 0.0))


EXERCISES = (
    Exercise(
        name="08_token_logprobs",
        title="How likely was what it said?",
        component=replace(TOKEN_LOGPROBS, draw=draw_logprobs),
        minutes=20,
        hints=(
            "Divide the logits by the temperature that the sampler used, then log-softmax, then take the target's entry.",
            "dl/ds_j = [j = target] - p_j, and s = logits / temperature brings a factor 1 / temperature.",
        ),
        mistakes={
            "temperature forgotten (policy-gradients scores at 1 what it samples at 0.6)": (
                "the sampler divides by its temperature; a score at temperature 1 belongs to another distribution, and the first ratio is not 1."
            ),
            "temperature forgotten in the gradient": "s = logits / temperature: the gradient has the factor 1 / temperature.",
            "gradient of the surprise": "the value is the log-probability, not its negative: [j = target] - p_j.",
            "targets of the next row": "each row has its own target.",
        },
    ),
    Exercise(
        name="08_token_entropy",
        title="How undecided is the policy?",
        component=replace(TOKEN_ENTROPY, draw=draw_entropy),
        minutes=25,
        hints=(
            "H = -sum p ln p with p = softmax(logits / temperature); with shifted scores ln p = s - ln sum exp(s).",
            "dH/ds_j = -p_j (ln p_j + H). The temperature divides once more.",
        ),
        mistakes={
            "negative": "entropy is not negative: there is a minus in front of the sum.",
            "gradient of the cross-entropy": "the gradient is -p_j (ln p_j + H); the H is missing.",
            "gradient's sign": "the gradient is -p_j (ln p_j + H): the sign is wrong.",
            "in bits": "entropy here is in nats: the natural logarithm.",
            "temperature forgotten in the gradient": "s = logits / temperature: the gradient has the factor 1 / temperature.",
        },
    ),
    Exercise(
        name="08_kl",
        title="Three estimates of a distance",
        component=replace(KL_ESTIMATE, draw=draw_kl),
        minutes=15,
        hints=(
            "d = logprobs - reference. k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d.",
            "np.expm1(-d) keeps its digits where d is small.",
            "Slopes: 1, d, and 1 - exp(-d). The reference is frozen.",
        ),
        mistakes={
            "the other way round (RLHF book: its k1 is -KL, its k3 is chi^2 - KL)": "d is the policy's log-probability minus the reference's, not the other way round.",
            "k3 without its linear term": "k3 = exp(-d) - 1 + d; the + d is missing.",
            "k2 not halved": "k2 is d^2 / 2.",
            "k3's gradient is that of k2": "the slope of k3 is 1 - exp(-d).",
        },
    ),
    Exercise(
        name="08_token_rewards",
        title="What each token earns",
        component=TOKEN_REWARDS,
        minutes=15,
        hints=(
            "Every token that counts pays coefficient * kl; the last of them gets the score of the whole answer on top.",
            "The last one is the largest position where the mask is True; a row without any has none.",
            "What the mask hides may be NaN: np.where, not a product with the mask (NaN * 0 is NaN).",
        ),
        mistakes={
            "score on the first padding (TRL)": "the score belongs to the last token that counts, not to the place behind it.",
            "score at every token": "the score is paid once, at the last token that counts.",
            "score at the end of the row": "the last token that counts is not the last column.",
            "paid for distance": "distance from the reference costs: -coefficient * kl.",
            "no price at the last token": "the last token pays for its distance, too.",
        },
    ),
    Exercise(
        name="08_gae",
        title="Generalised advantage estimation",
        component=GAE,
        minutes=35,
        hints=(
            "Go backwards: delta_t = r_t + gamma V_next - V_t, A_t = delta_t + gamma lam A_next.",
            "Where the mask hides a token, V_next and A_next stay as they are: it is passed over.",
            "After the last token V is 0, or `final` where the text was only cut off. Returns are advantages + values.",
            "Hidden places may hold NaN: replace them by 0 first (np.where).",
        ),
        mistakes={
            "a masked value leaks into the token before (ROLL)": "a hidden token's value must not become V_next.",
            "nothing is carried over a gap (OpenRLHF)": "a gap is passed over: the advantage behind it still counts for the token before it.",
            "value after the token for the one before": "delta is r + gamma V_next - V: the two values are exchanged.",
            "lambda forgotten": "A_next is multiplied by gamma lam.",
            "gamma forgotten": "V_next is discounted by gamma.",
            "returns are the advantages": "the critic learns the returns: advantages + values.",
            "the cut-off text's value forgotten": "a text that was cut off goes on: V after its last token is `final`.",
            "advantages behind the mask": "hidden tokens have advantage 0.",
        },
    ),
    Exercise(
        name="08_policy_loss",
        title="PPO's clipped surrogate",
        component=replace(POLICY_LOSS, draw=draw_policy),
        minutes=35,
        hints=(
            "r = exp(logprobs - old_logprobs); the loss of a token is max(-A r, -A clip(r, 1 - low, 1 + high)), its mean over the tokens that count.",
            "Where the first form is the larger, the gradient is -A r (dr/dlogprobs = r); where the clipped one is, it is 0.",
            "The first form counts where r <= 1 + high for A > 0 and where r >= 1 - low for A < 0: a token outside that would come back still has a gradient.",
            "Divide by the number of tokens that count, at least 1; hidden tokens have gradient 0.",
        ),
        mistakes={
            "maximised": "the surrogate is to be maximised, so the loss is its negative: -A r.",
            "ratio upside down": "the ratio is new over old: exp(logprobs - old_logprobs).",
            "always clipped: no token comes back from outside": "a token that is outside on the wrong side must come back: only where clipping makes the loss larger is the gradient 0.",
            "bounds exchanged": "clip_low belongs to 1 - clip_low, clip_high to 1 + clip_high.",
            "clipped tokens have a gradient": "a clipped token has no gradient: going further wins nothing.",
            "gradient of the ratio is taken for 1": "dr/dlogprobs is r, not 1.",
        },
    ),
    Exercise(
        name="08_value_loss",
        title="The critic's error",
        component=replace(VALUE_LOSS, draw=draw_value),
        minutes=25,
        hints=(
            "Half the squared error, or half that of the value held within clip of its old one, whichever is larger. clip = 0: only the first.",
            "Where the first is the larger (or equal), the gradient is V - R; else 0, as the held value is a constant.",
            "The mean is over the tokens that count.",
        ),
        mistakes={
            "not halved": "half the squared error is meant.",
            "the smaller of the two": "the larger of the two errors counts: it is pessimistic.",
            "clip=0 freezes the critic": "clip=0 means no clipping.",
            "the held value has a gradient": "where the held error is the larger it is a constant: gradient 0.",
            "never clipped": "with clip > 0 the value is held within clip of its old one.",
        },
    ),
    Exercise(
        name="08_whiten",
        title="Advantages of one size",
        component=WHITEN,
        minutes=15,
        hints=(
            "Mean and variance over the tokens that count, the variance with n - 1 (and 0 for a single token).",
            "(x - mean) / sqrt(var + eps); with shift_mean=False only divide. Hidden places give 0, whatever they hold.",
        ),
        mistakes={
            "shift_mean inverted (torchtune)": "shift_mean=True is the one that centres.",
            "biased variance": "the variance here divides by n - 1.",
            "masked tokens pull the mean": "the mean is over the tokens that count.",
            "masked tokens add to the variance": "hidden tokens must not add to the variance.",
            "eps outside the root": "eps belongs inside the root: sqrt(var + eps).",
            "a row at a time": "one mean for the whole batch, not one for each row.",
        },
    ),
)
