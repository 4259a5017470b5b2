"""Exercises of lesson 4: tokenizers, number formats and optimisers of larger runs."""

from dataclasses import replace

import numpy as np

import numpy_ref.tokenizers.bpe as numpy_bpe
from lessons.exercise import Exercise, as_array
from parity_tests.components.bpe import TRAIN
from parity_tests.components.ema import EMA
from parity_tests.components.loss_scaling import UPDATE_SCALE
from parity_tests.components.losses import LINEAR_CROSS_ENTROPY
from parity_tests.components.masks import DOCUMENT_POSITIONS
from parity_tests.components.muon import MUON, ORTHOGONALISE
from parity_tests.components.precision import ROUND_TO
from parity_tests.components.schedules import STABLE
from parity_tests.harness.declaration import Bug, Component

WORDS = ("low", "lower", "lowest", "new", "newer", "banana", "aaaa", "the", "then", "there")


def draw_word(source):
    """A short word over few ids, so that pairs occur, overlap and repeat."""
    word = tuple(int(i) for i in source.rng.integers(0, source.choice(1, 2, 3), source.size(9)))
    return source.case({}, word=word, pair=(int(source.integer(0, 2)), int(source.integer(0, 2))), new=300)


MERGED = Component(
    name="merged", numpy=numpy_bpe.merged, torch=None, draw=draw_word, call=as_array, exact=True, dtypes=("float64",)
)


def draw_training(source):
    texts = [" ".join(source.choice(*WORDS) for _ in range(source.integer(1, 6))) for _ in range(source.integer(1, 3))]
    return source.case({}, texts=texts, vocab_size=256 + source.integer(0, 12), min_frequency=source.choice(1, 2))


def merges(function, arguments):
    return np.array(function(**arguments).merges, np.int64).reshape(-1, 2)


def draw_bfloat16(source):
    while True:
        case = ROUND_TO.draw(source)
        if case.static["name"] == "bfloat16":
            return case


def draw_chunks(source):
    tokens, vocabulary, width = source.size(9), source.size(9, least=2), source.size(5)
    targets = source.tokens((tokens,), vocabulary)
    targets = np.where(source.rng.random(tokens) < source.choice(0.0, 0.3), -100, targets)
    arrays = {
        "x": source.array("x", (tokens, width), ("one", "small", "sixteen")),
        "weight": source.rng.standard_normal((vocabulary, width)),
        "targets": targets,
    }
    return source.case(arrays, chunk=source.choice(1, 2, 3, 5))


def draw_matrix(source):
    shape = (source.integer(1, 6), source.integer(1, 6))
    return source.case({"matrix": source.array("matrix", shape, ("one", "small", "sixteen"))}, steps=source.choice(1, 2, 5))


EXERCISES = (
    Exercise(
        name="04_bpe_merge",
        title="Byte pair encoding: join a pair",
        component=MERGED,
        minutes=10,
        hints=(
            "Walk from left to right with an index: where word[i : i + 2] == pair, append the new id and go on two further.",
            "After a join the next pair begins behind it: aaa joined by (a, a) is (aa, a), not (aa, aa).",
        ),
        mistakes={
            Bug("an overlap joined twice", "numpy", "i += 2", "i += 1"): "a token that was just joined can't be joined again in the same pass: go on behind both.",
            Bug("only the first", "numpy", "if word[i : i + 2] == pair:", "if word[i : i + 2] == pair and new not in joined:"): "every occurrence is joined, not only the first.",
            Bug("either order", "numpy", "if word[i : i + 2] == pair:", "if tuple(sorted(word[i : i + 2])) == tuple(sorted(pair)):"): "the pair has an order: left, then right.",
        },
    ),
    Exercise(
        name="04_bpe_train",
        title="Byte pair encoding: learn the merges",
        component=replace(TRAIN, draw=draw_training, call=merges),
        minutes=30,
        hints=(
            "Count every pair of neighbours in every word, times how often the word occurs.",
            "Of pairs with the same count the one with the smallest ids comes first: min over (-count, pair).",
            "Stop when there is no pair left, or when the best one occurs less than min_frequency times.",
            "The new id is 256 + number of merges so far; then join the pair in every word.",
        ),
        mistakes={
            "of equal pairs the one met first": "ties go to the pair with the smallest ids, so that training does not depend on the order of the texts.",
            "of equal pairs the largest ids": "ties go to the pair with the *smallest* ids.",
            "pieces counted once, however often they occur": "a word that occurs five times counts five times.",
            "overlapping pairs counted once": "a pair that occurs twice in a word counts twice.",
            "the least frequency is not enough": "a pair that occurs exactly min_frequency times is still joined.",
        },
    ),
    Exercise(
        name="04_document_positions",
        title="Several documents in a row: positions start again",
        component=DOCUMENT_POSITIONS,
        minutes=15,
        hints=(
            "A document begins where the id differs from the one before it, and at the start of the row.",
            "np.maximum.accumulate of (the place where one begins, else 0) is the start of the document that a token is in.",
            "position = place - start; padding (a negative id) has position -1.",
        ),
        mistakes={
            "positions go on": "positions start again at 0 with every document.",
            "from 1": "the first token of a document has position 0.",
            "padding at position 0": "padding has position -1: nobody is there.",
        },
    ),
    Exercise(
        name="04_bfloat16",
        title="Rounding to bfloat16, bit by bit",
        component=replace(ROUND_TO, draw=draw_bfloat16),
        minutes=30,
        hints=(
            "bfloat16 is the upper half of a float32: x.view(np.uint32) shows the bits. Cutting the lower half off rounds towards zero.",
            "Adding 0x7FFF before cutting carries into the upper half whenever the lower half is above one half.",
            "A tie has the lower half 0x8000. To send it to the even side add the last bit of the upper half as well: (bits >> 16) & 1.",
            "NaN must stay NaN: adding to its bits could carry into infinity.",
        ),
        mistakes={
            "cut off, not rounded": "the lower half was cut off: that rounds towards zero. Round to the nearest.",
            "ties away from zero": "a tie goes to the even neighbour, whose last bit is 0; always rounding up adds a drift.",
            "NaN carried into infinity": "NaN became infinity: it must stay NaN.",
        },
    ),
    Exercise(
        name="04_loss_scale",
        title="Dynamic loss scaling",
        component=UPDATE_SCALE,
        minutes=10,
        hints=(
            "Three cases: an overflow; a good step that does not complete the interval; one that does.",
            "An overflow halves the scale, never below 1, and the count of good steps starts again.",
            "The good step that makes growth_interval of them doubles the scale, up to 2^24, and the count starts again.",
        ),
        mistakes={
            "grows one step late": "the good step that completes the interval doubles the scale at once.",
            "grows one step early": "growth_interval good steps are needed; it grew one before.",
            "falls below 1": "the scale never falls below 1.",
            "good steps survive an overflow": "after an overflow the count of good steps starts again at 0.",
            "quartered": "an overflow halves the scale.",
        },
    ),
    Exercise(
        name="04_ema",
        title="An average of the weights",
        component=EMA,
        minutes=10,
        hints=(
            "a = d a + (1 - d) w for every weight.",
            "At first d is smaller: min(decay, (1 + step) / (10 + step)), with step from 0.",
        ),
        mistakes={
            "weights exchanged": "the average keeps the share d of itself, and takes 1 - d of the new weights.",
            "decay from the first step on": "early steps look back less: d = min(decay, (1 + step) / (10 + step)).",
            "begins one step late": "step counts from 0: (1 + step) / (10 + step).",
            "a mean of all steps": "d never exceeds `decay`.",
        },
    ),
    Exercise(
        name="04_warmup_stable_decay",
        title="Warm-up, stay, cool down",
        component=STABLE,
        minutes=15,
        hints=(
            "Four phases: warm-up, peak, cool-down, and final * peak after the end.",
            "The cool-down takes the last round(cooldown * steps) steps, and never begins before the warm-up ends.",
            "In it the rate falls with the root: peak * (final + (1 - final) * (1 - sqrt(t))), t from 0 to 1.",
        ),
        mistakes={
            "cools down from the warm-up on": "the rate stays at the peak until the last round(cooldown * steps) steps.",
            "cool-down is what stays": "`cooldown` is the share in which the rate falls, not the share before it.",
            "begins before the warm-up ends": "a cool-down that would begin inside the warm-up begins at its end.",
            "a straight line": "the fall goes with the root of t: 1 - sqrt(t).",
        },
    ),
    Exercise(
        name="04_orthogonalise",
        title="Muon's heart: make a matrix orthogonal without a decomposition",
        component=replace(ORTHOGONALISE, draw=draw_matrix),
        minutes=25,
        hints=(
            "Divide by the Frobenius norm (not below eps) first, so that no singular value is above 1.",
            "A step is X = a X + (b A + c A A) X with A = X X^T: each singular value s becomes a s + b s^3 + c s^5.",
            "A tall matrix is transposed before and after, so that A is the smaller product. The coefficients are in the task.",
        ),
        mistakes={
            "rows normalised": "the whole matrix is divided by one number, its Frobenius norm.",
            "eps added to the norm": "eps is the least norm to divide by: max(norm, eps), not norm + eps.",
            "one step too few": "`steps` steps are asked for.",
            "coefficients b and c exchanged": "b belongs to A, c to A A.",
            "cubic instead of quintic": "the term c A A is missing its second factor.",
        },
    ),
    Exercise(
        name="04_muon",
        title="One step of Muon",
        component=MUON,
        minutes=20,
        hints=(
            "The momentum is an average: mu B + (1 - mu) G. Nesterov looks ahead once more: mu B + (1 - mu) G with the new B.",
            "The step is orthogonalise(U), scaled by 0.2 sqrt(max(rows, columns)) so that it is as large as AdamW's usually is.",
            "Decay multiplies the parameter by 1 - lr * weight_decay, as in AdamW.",
        ),
        mistakes={
            "no Nesterov": "the update looks ahead: momentum * new buffer + (1 - momentum) * gradient.",
            "momentum not averaged": "the gradient enters the momentum with the share 1 - momentum.",
            "whole gradient added to the momentum": "looking ahead takes the share 1 - momentum of the gradient.",
            "scale by the shorter side": "the scale is 0.2 times the root of the *longer* side.",
            "scale of the original post": "here the scale is 0.2 sqrt(max(rows, columns)).",
            "decay without the learning rate": "the decay of a step is lr * weight_decay.",
        },
    ),
    Exercise(
        name="04_chunked_loss",
        title="A loss that never holds all logits",
        component=replace(LINEAR_CROSS_ENTROPY, draw=draw_chunks),
        minutes=40,
        hints=(
            "No token's loss depends on another's: go through the tokens `chunk` at a time, and keep losses, not logits.",
            "The denominator is the number of tokens that count in *all* chunks: compute it before the loop.",
            "Backward computes each chunk's logits again: linear, cross_entropy with reduction='none', their vjps.",
            "dx of the chunks are put one after the other, dweight of the chunks are added up.",
        ),
        mistakes={
            "last chunk left out of the weight's gradient": "the last chunk is missing in dweight.",
            "mean of the chunks' means": "chunks that are shorter count less: sum the losses, divide once.",
            "weight's gradient of the last chunk alone": "dweight is the sum over all chunks.",
            "targets of the first chunk for all": "every chunk has its own targets.",
            Bug("dy forgotten", "numpy", 'dy = dy / denominator if reduction == "mean" else dy', "dy = 1 / denominator + 0 * dy"): (
                "the gradient must be multiplied by dy, which is not always 1."
            ),
        },
    ),
)
