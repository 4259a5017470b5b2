"""Exercises of lesson 7: a number for an answer, learnt from preferences."""

from dataclasses import replace

from lessons.exercise import Exercise
from parity_tests.components.model import ENSEMBLE, SCALAR_HEAD
from parity_tests.components.objective import BRADLEY_TERRY, PLACKETT_LUCE
from parity_tests.components.rows import PADDED
from parity_tests.components.shaping import MISSING_END_PENALTY, POTENTIAL_SHAPING, UPDATE_MOMENTS
from parity_tests.harness.declaration import Bug

KIND = ("one", "small", "sixteen", "ties", "zero")


def draw_pairs(source):
    """Rewards of chosen and rejected answers, some of them far apart."""
    pairs = source.size(9)
    arrays = {name: source.array(name, (pairs,), (*KIND, "above exp")) for name in ("chosen", "rejected")}
    return source.case(arrays, margin=source.choice(0.0, 0.5))


def draw_rankings(source):
    return source.case({"rewards": source.array("rewards", (source.integer(1, 4), source.size(6)), (*KIND, "above exp"))})


EXERCISES = (
    Exercise(
        name="07_padded",
        title="Texts of several lengths in one batch",
        component=PADDED,
        minutes=20,
        hints=(
            "The width is that of the longest text; a mask of the places that hold tokens does everything else.",
            "documents is 0 where there is a token and -1 where there is padding: a token may have the id 0.",
            "The last token of a row is at length - 1, or in the last column where rows are filled up on the left.",
        ),
        mistakes={
            "always on the right": "with left=True the padding comes first.",
            "end of the row": "the last token of a text is at length - 1, not at the end of the row.",
            "end behind the text": "the place of the last token is length - 1: places count from 0.",
            "padding found by its id": "id 0 may be a token that exists: padding is known by its place, not by its id.",
            "texts are not told from padding": "padding has the document -1.",
        },
    ),
    Exercise(
        name="07_scalar_head",
        title="One number for a text",
        component=SCALAR_HEAD,
        minutes=10,
        hints=(
            "y = x w^T + b with one output: y (N,), so weight[0] and a matrix-vector product.",
            "dx[n] = dy[n] w, dw = sum over n of dy[n] x[n] as (1, d), db = sum of dy as (1,).",
        ),
        mistakes={
            "no bias": "the bias is missing.",
            "bias from the mean": "every row used the bias: dbias is a sum.",
            "one gradient for all rows": "each row has its own dy.",
            "mean over rows": "dweight is a sum over the rows, not a mean.",
        },
    ),
    Exercise(
        name="07_bradley_terry",
        title="Learning from preferences",
        component=replace(BRADLEY_TERRY, draw=draw_pairs),
        minutes=25,
        hints=(
            "z = chosen - rejected - margin, and the loss of a pair is -ln sigmoid(z) = softplus(-z).",
            "softplus(x) = max(x, 0) + log1p(exp(-|x|)), or np.logaddexp(0, x): neither overflows.",
            "dl/dz = -sigmoid(-z) = -1 / (1 + exp(z)), computed so that exp can't overflow. Chosen gets it, rejected its opposite.",
        ),
        mistakes={
            "log of 1 + exp, which overflows": "exp(-z) overflows where a pair is far wrong: use max(x, 0) + log1p(exp(-|x|)).",
            "the worse answer preferred": "the chosen answer must have the higher reward: z = chosen - rejected.",
            "margin ignored": "the margin must be subtracted from the lead.",
            "margin added to the lead": "the margin asks for more: it is subtracted from the lead.",
            "gradient of both answers alike": "what raises the chosen answer lowers the rejected one: opposite signs.",
            Bug("summed over the pairs", "numpy", "divisor = denominator or len(chosen)", "divisor = denominator or 1"): "the loss is a mean over the pairs.",
        },
    ),
    Exercise(
        name="07_plackett_luce",
        title="Learning from whole rankings",
        component=replace(PLACKETT_LUCE, draw=draw_rankings),
        minutes=35,
        hints=(
            "Place k is won against all answers from k on: lse over j >= k, minus r_k. Sum over the places, mean over the lists.",
            "Subtract the largest reward of those that are left before exp, for each place anew: a loser may be 1000 below the winner.",
            "With p[k, j] = exp(r_j - lse_k) for j >= k, dr_j is the sum over k <= j of p[k, j], minus 1.",
        ),
        mistakes={
            "places won against all": "place k is won against those that are left, not against those placed already.",
            "worst first": "the best answer comes first.",
            "only the first place counts": "every place counts, not only the first.",
            Bug("summed over the lists", "numpy", "divisor = denominator or len(rewards)", "divisor = denominator or 1"): "the loss is a mean over the lists.",
        },
    ),
    Exercise(
        name="07_update_moments",
        title="Running mean and spread without cancellation",
        component=UPDATE_MOMENTS,
        minutes=20,
        hints=(
            "Keep the count, the mean and the sum of squared deviations from the mean: never a sum of squares.",
            "With d the distance of both means, the new mean is m + d k / (n + k).",
            "The squares add up, plus d^2 n k / (n + k): what both groups lie apart.",
        ),
        mistakes={
            "mean of means": "the new mean weighs both groups by their counts.",
            "distance of the means forgotten": "two groups that lie apart spread more than each of them: d^2 n k / (n + k) is missing.",
            "squares of the rewards": "squared deviations from the batch's mean are added, not squared rewards.",
            "distance counted for the batch alone": "the distance counts d^2 n k / (n + k).",
        },
    ),
    Exercise(
        name="07_ensemble",
        title="Several judges: how to be sceptical",
        component=ENSEMBLE,
        minutes=10,
        hints=(
            "Rewards are (models, answers): everything goes over the first axis.",
            '"lower" is mean - k * deviation, the deviation over all models: mean of squares, then the root.',
            "Another rule is a UserError.",
        ),
        mistakes={
            "the best of them": '"worst" takes the least reward.',
            "over answers": "each answer has its own reward: the mean goes over the models.",
            "variance for deviation": "the root is missing: k deviations, not k variances.",
            "upper bound": '"lower" subtracts: it is sceptical where models disagree.',
        },
    ),
    Exercise(
        name="07_missing_end",
        title="Answers that never end",
        component=MISSING_END_PENALTY,
        minutes=5,
        hints=("np.where(ended, rewards, ...): those that ended keep their reward.", "With replace=True the others get -penalty, whatever they had."),
        mistakes={
            "those that ended pay": "answers that ended keep their reward; the others pay.",
            "a bonus": "the penalty is subtracted.",
            "always replaced": "only with replace=True the reward is forgotten.",
        },
    ),
    Exercise(
        name="07_potential_shaping",
        title="Hints that don't change what is best",
        component=POTENTIAL_SHAPING,
        minutes=20,
        hints=(
            "f_t = gamma phi(next state) - phi(this state), for tokens of the answer; 0 elsewhere.",
            "Behind the last token the potential is 0, so that the discounted sum of all hints is -phi(s_0).",
        ),
        mistakes={
            "the end keeps its potential": "after the answer has ended the potential is 0; else there is a reward for ending in a likeable place.",
            "padding has a potential": "where there is no token there is no potential.",
            "backwards": "gamma phi(next) - phi(here), not the other way round.",
            "discount on the wrong side": "gamma belongs to the next state.",
        },
    ),
)
