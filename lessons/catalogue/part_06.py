"""Exercises of lesson 6: fine-tuning on answers."""

from dataclasses import replace

import numpy as np

from lessons.exercise import Exercise
from parity_tests.components.curriculum import COMPETENCE
from parity_tests.components.lora import LOW_RANK
from parity_tests.components.losses import CROSS_ENTROPY
from parity_tests.components.objective import DPO, IPO
from parity_tests.components.packing import BEST_FIT_DECREASING, CONVERSATION_BATCH, ROW_WIDTH
from parity_tests.components.widen import WIDEN
from parity_tests.harness.declaration import Bug

KIND = ("one", "small", "sixteen", "ties", "zero")


def draw_weighted(source):
    """Prompts count little or nothing, answers 1."""
    shape, vocabulary = (source.integer(1, 3), source.size(9)), source.size(17, least=2)
    weights = source.rng.choice(source.choice((0.0, 1.0), (0.0, 0.1, 1.0)), shape)
    arrays = {
        "logits": source.array("logits", (*shape, vocabulary), KIND),
        "targets": source.tokens(shape, vocabulary).astype(np.int64),
        "weights": weights.astype(float),
    }
    return source.case(arrays)


def draw_batch(source):
    """Conversations side by side, filled up on the right; no micro-batches."""
    while True:
        case = CONVERSATION_BATCH.draw(source)
        if case.static["side"] == "right" and case.static["packed"] and case.static["multiple"] == 1:
            return replace(case, static={"width": case.static["width"]})


def rows_of(function, arguments):
    """The rows without the documents, which are None where each row is one text."""
    return function(**arguments)[:3]


def draw_pairs(source):
    pairs = source.size(9)
    names = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
    arrays = {name: source.array(name, (pairs,), KIND) for name in names}
    if source.flag():  # as at the start of a run
        arrays["policy_chosen"], arrays["policy_rejected"] = arrays["reference_chosen"] * 1.0, arrays["reference_rejected"] * 1.0
        source.layouts.clear()
    return source.case(arrays, beta=source.choice(0.1, 0.5))


EXERCISES = (
    Exercise(
        name="06_weighted_loss",
        title="The prompt is given: a loss on answers alone",
        component=replace(CROSS_ENTROPY, draw=draw_weighted),
        minutes=25,
        hints=(
            "Each token's loss is multiplied by its weight: 1 in an answer, 0 or a little in the prompt.",
            "The mean divides by the sum of the weights, not by the number of tokens; by 1 where all weights are 0.",
            "A token's gradient is w (p - onehot(target)), times dy, divided by the same sum.",
        ),
        mistakes={
            "weights forgotten in the gradient": "the loss is weighted, but the gradient is not: w (p - onehot).",
            "weights forgotten in the loss": "each token's loss must be multiplied by its weight.",
            "tokens counted, not their weights": "the mean divides by the sum of the weights, not by the number of tokens that count.",
            "a weight is yes or no": "a weight of 0.1 counts a tenth, not as a whole.",
            "ignored tokens counted": "the mean divides by the sum of the weights; here all tokens were counted.",
            "0/0 when all are ignored": "where all weights are 0 the loss is 0, not 0/0.",
            "gradient not divided": "the loss is a mean, so the gradient is divided by the sum of the weights.",
        },
    ),
    Exercise(
        name="06_best_fit",
        title="Packing: many texts in few rows",
        component=BEST_FIT_DECREASING,
        minutes=20,
        hints=(
            "Go through the texts from the longest to the shortest; a stable sort keeps the first of equals first.",
            "Of all rows with room enough take the one with the least room (of equals the first), else begin a new one.",
            "A text starts where its row is filled so far: capacity minus the room that is left.",
        ),
        mistakes={
            "first fit": "best fit takes the row with the least room that is enough, not the first one.",
            "worst fit": "take the row with the *least* room that is enough.",
            "shortest first": "the longest texts go first: small ones fill the gaps.",
            "in the order given": "the texts must be sorted by length, longest first.",
            "a full row is never full": "a text that fills a row exactly does fit: room >= length.",
            "placed from the end of the room": "a text starts behind those that are in the row already.",
        },
    ),
    Exercise(
        name="06_row_width",
        title="How wide should rows be?",
        component=ROW_WIDTH,
        minutes=15,
        hints=(
            "Candidates are 1, 2, 3 and 4 times the longest text, none above the context.",
            "The cost is rows x width x (6 features + width); the number of rows comes from best_fit_decreasing.",
            "Of equal costs the narrower: sorted candidates and min do that.",
        ),
        mistakes={
            "always the context": "the cheapest of four widths is asked for, not the widest.",
            "always the longest": "wider rows may be cheaper: they leave less room empty.",
            "attention costs nothing": "every token is compared with its whole row: the cost has the term (6 features + width).",
            "beyond the context": "no row may be wider than the context.",
        },
    ),
    Exercise(
        name="06_conversation_batch",
        title="Conversations as rows, and nothing learnt across a border",
        component=replace(CONVERSATION_BATCH, draw=draw_batch, call=rows_of),
        minutes=35,
        hints=(
            "A text of n tokens takes n - 1 places: each but the last is an input, each but the first a target.",
            "best_fit_decreasing(lengths, width) says which row and where, for lengths of n - 1.",
            "Empty places have input 0, target -100 and weight 0. The weight of a place is that of its target.",
        ),
        mistakes={
            "targets not shifted": "the target of a place is the next token of its text.",
            "weights not shifted": "the weight of a place is that of the token to be predicted there, its target.",
            "target across the border": "the last token of a text is no input: its target would be the first of the next text.",
            "padding is learnt": "empty places have the target -100, which the loss ignores.",
        },
    ),
    Exercise(
        name="06_widen",
        title="New tokens for an old model",
        component=WIDEN,
        minutes=15,
        hints=(
            "A new row is mean + deviation * z for each column, z = normal(seed, stream, (new rows, width)).",
            "Rows of zeros would have the logit 0 where all others are far below: they would get all the probability.",
            "Compute in float64, divide by n (not n - 1), cast to the weight's format, and put the new rows at the end.",
        ),
        mistakes={
            "rows of zeros": "rows near zero may get all of the probability at once; draw around the mean of the old rows.",
            "all new tokens alike": "each new row needs a draw of its own, or the new tokens can never be told apart.",
            "mean forgotten": "the mean of the columns is missing: new rows must lie among the old ones.",
            "deviation over n - 1": "the deviation here is over all n rows.",
            "one deviation for all columns": "each column has a deviation of its own.",
            "new rows first": "the old rows keep their ids: new ones come behind them.",
        },
    ),
    Exercise(
        name="06_competence",
        title="A curriculum: easy examples first",
        component=COMPETENCE,
        minutes=10,
        hints=(
            "At step 0 the share is c0, at step T it is 1, after that it stays 1.",
            "c^p goes from c0^p to 1 in a straight line; take the p-th root.",
        ),
        mistakes={
            "no end": "the share never exceeds 1.",
            "begins with nothing": "at step 0 the share is `start`, not 0.",
            "start not raised": "c0 is raised to p as well: the line is in c^p.",
        },
    ),
    Exercise(
        name="06_lora",
        title="LoRA: a small product beside a frozen matrix",
        component=LOW_RANK,
        minutes=10,
        hints=(
            "W' = W + scale * (B A): the inner axis is the rank.",
            "dW' flows to W unchanged (return a copy), and to the product like to any other: dA = scale * B^T dW', dB = scale * dW' A^T.",
        ),
        mistakes={
            "scale forgotten": "the product is multiplied by the scale.",
            "scale squared in the gradient of B": "dB = scale * dW' A^T: the scale stands there once.",
            "scale forgotten in the gradient of A": "dA = scale * B^T dW': the scale is missing.",
            "weight gets no gradient": "W' = W + ..., so dW = dW' (whether it is used is another matter).",
            "only the adapter": "the frozen matrix must stay in the sum.",
        },
    ),
    Exercise(
        name="06_dpo",
        title="Direct preference optimisation",
        component=replace(DPO, draw=draw_pairs),
        minutes=30,
        hints=(
            "h = (policy - reference) of the chosen answer, minus the same of the rejected one.",
            "-ln sigmoid(z) = softplus(-z); np.logaddexp(0, -z) never overflows.",
            "dl/dz = -sigmoid(-z), z = beta h, so dpolicy_chosen = -beta sigmoid(-z) dy / pairs, and dpolicy_rejected the opposite.",
        ),
        mistakes={
            "reference forgotten": "both answers are measured against the reference; one of them is not.",
            "references exchanged": "each answer has its own reference log-probability.",
            "beta forgotten in the gradient": "z = beta h: the gradient has a factor beta.",
            Bug("the rejected answer preferred", "numpy", "bradley_terry(\n        chosen, rejected,", "bradley_terry(\n        rejected, chosen,"): (
                "the chosen answer must get the higher reward; here the rejected one does."
            ),
            Bug("summed over the pairs", "numpy", "denominator=denominator\n", "denominator=1\n"): "the loss is a mean over the pairs.",
        },
    ),
    Exercise(
        name="06_ipo",
        title="IPO: a lead that is wide enough",
        component=replace(IPO, draw=draw_pairs),
        minutes=15,
        hints=(
            "h is the same lead as in DPO; the loss is the mean of (h - 1 / (2 beta))^2.",
            "dl/dh = 2 (h - 1 / (2 beta)) / pairs; chosen gets it, rejected its opposite.",
        ),
        mistakes={
            "1 / beta": "the lead that is wanted is 1 / (2 beta).",
            "beta / 2": "the lead that is wanted is 1 / (2 beta), not beta / 2.",
            "half the slope": "the derivative of a square has a factor 2.",
            "one sign for both": "what raises the chosen answer lowers the rejected one: opposite signs.",
        },
    ),
)
