"""Exercises of lesson 5: many networks, of which each token passes through a few."""

from dataclasses import replace

import numpy as np

from lessons.exercise import Exercise
from parity_tests.components.balance import (
    BALANCE_LOSS,
    DROP_OVERFLOW,
    EXPERT_CAPACITY,
    EXPERT_LOAD,
    ROUTER_Z_LOSS,
    UPDATE_BIAS,
)
from parity_tests.components.moe import EXPERTS, expert_parameters
from parity_tests.components.router import GATE_WEIGHTS, TOP_EXPERTS
from parity_tests.harness.declaration import Bug


def draw_gates(source):
    """Softmax scores, renormalised over the chosen; no empty slots."""
    experts = source.integer(1, 6)
    logits = source.array("logits", (source.integer(1, 4), experts), ("one", "small", "sixteen", "ties"))
    k = source.integer(1, experts)
    return source.case({"logits": logits, "indices": np.argsort(-logits, axis=-1, kind="stable")[..., :k]})


def draw_experts(source):
    experts, rows, width = source.integer(1, 4), source.integer(1, 5), source.integer(1, 4)
    k = source.integer(1, experts)
    arrays = {
        "x": source.array("x", (rows, width), ("one", "small", "ties")),
        "indices": np.argsort(source.rng.random((rows, experts)), axis=-1)[:, :k],
        "weights": source.rng.standard_normal((rows, k)),
        "params": expert_parameters(source.rng, experts, width, source.integer(1, 4)),
    }
    return source.case(arrays, activation="gelu")


def draw_balance(source):
    """One group of tokens, no padding: scores are softmax's."""
    experts, tokens = source.integer(1, 6), source.integer(1, 9)
    logits = source.rng.standard_normal((tokens, experts)) * source.choice(0.1, 1.0, 4.0)
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return source.case({"scores": scores, "indices": np.argsort(-logits, axis=-1)[:, : source.integer(1, experts)]})


def draw_drop(source):
    while True:
        case = DROP_OVERFLOW.draw(source)
        if case.static["policy"] == "position":
            return case


EXERCISES = (
    Exercise(
        name="05_top_experts",
        title="Which experts? The k best, and what to do about ties",
        component=TOP_EXPERTS,
        minutes=10,
        hints=(
            "A stable sort of -scores keeps the lower index first among equals.",
            "The first k of np.argsort(-scores, axis=-1, kind='stable').",
        ),
        mistakes={
            "of equal scores the last": "of equal scores the lower index goes first; a sort that is not stable promises nothing.",
            "the smallest": "the experts with the *largest* scores are chosen.",
            "in the order of experts": "the best expert comes first, not the one with the lowest number.",
        },
    ),
    Exercise(
        name="05_gate_weights",
        title="How much does each chosen expert count?",
        component=replace(GATE_WEIGHTS, draw=draw_gates),
        minutes=25,
        hints=(
            "Softmax over all experts, take the chosen ones, divide by their sum.",
            "v = s / S: ds_i = (dw_i - sum_j dw_j v_j) / S on the chosen, 0 elsewhere; then through the softmax of all experts.",
            "np.put_along_axis puts the chosen gradients back into an array of zeros (no expert is chosen twice).",
            "Shorter: over the chosen, renormalised softmax scores are the softmax of the chosen logits alone.",
        ),
        mistakes={
            "raw scores without renormalisation": "the weights of the chosen experts sum to one: divide by their sum.",
            "a weight divided by itself, as if the sum were a constant": "the sum depends on the logits, too: the second term of the quotient is missing.",
            Bug("without the softmax's backward", "numpy", "return scores_vjp(back((dw - np.sum(dw * share, axis=-1, keepdims=True)) / total))", "return back((dw - np.sum(dw * share, axis=-1, keepdims=True)) / total)"): (
                "the scores are a softmax of the logits: its backward pass is missing."
            ),
        },
    ),
    Exercise(
        name="05_expert_load",
        title="Who has how much to do?",
        component=EXPERT_LOAD,
        minutes=10,
        hints=(
            "Compare the indices with np.arange(experts) on a new last axis, and sum over the tokens and slots.",
            "Leading axes are groups and stay; -1 is an empty slot and counts for nobody.",
        ),
        mistakes={
            "the first choice alone": "every slot counts, not only each token's first choice.",
            Bug("empty slots go to the last expert", "numpy", "flat[..., None] == np.arange(experts)", "flat[..., None] % experts == np.arange(experts)"): (
                "an index of -1 is an empty slot; it was counted for the last expert."
            ),
            "experts that have tokens, not how many": "how many slots go to each expert is asked for, not whether any does.",
        },
    ),
    Exercise(
        name="05_balance_loss",
        title="A loss that asks for balance",
        component=replace(BALANCE_LOSS, draw=draw_balance),
        minutes=30,
        hints=(
            "f_i = E c_i / sum c, with c_i the slots of expert i; P_i is the mean over the tokens of p_i = s_i / sum_j s_j.",
            "f counts, so it has no gradient: dp_ti = f_i / N.",
            "p = s / total brings ds_ti = (dp_ti - sum_j dp_tj p_tj) / total.",
        ),
        mistakes={
            "double softmax": "the scores are probabilities already: no second softmax.",
            "P over the chosen alone": "P is the mean over all tokens, chosen or not: that is where the gradient is.",
            "f sums to k": "f is over slots: divide by all slots, so that the loss is 1 at balance for any k.",
            "not times the number of experts": "f has a factor E, so that balance gives 1.",
            "sum of shares without gradient": "p = s / total: the total depends on the scores as well.",
        },
    ),
    Exercise(
        name="05_router_z_loss",
        title="Small logits",
        component=ROUTER_Z_LOSS,
        minutes=15,
        hints=(
            "lse = ln sum exp(l), with the largest logit subtracted first and added again.",
            "The gradient is 2 lse softmax_i / N for tokens that count.",
            "Where no token counts, divide by 1.",
        ),
        mistakes={
            "logsumexp of the shifted logits": "the largest logit was subtracted and has to be added again: here the size counts.",
            "slope halved": "the derivative of a square has a factor 2.",
            "not squared": "the loss is the mean of lse^2.",
        },
    ),
    Exercise(
        name="05_update_bias",
        title="Balance without a loss",
        component=UPDATE_BIAS,
        minutes=10,
        hints=(
            "Who has less than the mean load becomes easier to choose: sign(mean - load).",
            "With whole numbers: np.sign(load.sum() - len(load) * load), exactly 0 at the mean.",
        ),
        mistakes={
            "the busy become easier to choose": "the *idle* experts become easier to choose: sign(mean - load).",
            "by how much, not whether": "only the sign counts, not by how much.",
            "below the mean alone": "experts above the mean become harder to choose, too.",
        },
    ),
    Exercise(
        name="05_capacity",
        title="Room for how many?",
        component=replace(EXPERT_CAPACITY, call=lambda function, arguments: np.array(function(**arguments))),
        minutes=5,
        hints=("An equal share is k * tokens / experts; the factor gives some room above it, rounded up.", "Never more than there are tokens."),
        mistakes={
            "rounded down": "the capacity is rounded up.",
            "k forgotten": "each token takes k slots.",
            Bug("no limit", "numpy", "min(tokens, math", "min(10**9, math"): "an expert can't take more than there are tokens.",
        },
    ),
    Exercise(
        name="05_drop_overflow",
        title="Full experts turn tokens away",
        component=replace(DROP_OVERFLOW, draw=draw_drop),
        minutes=25,
        hints=(
            "Each group of tokens has the capacity for itself. Inside it, go through the slots in the order of the tokens.",
            "A slot's place in its expert's queue is how many slots before it (itself included) chose the same expert.",
            "cumsum of (flat[..., None] == np.arange(experts)) along the slots gives the queues; places beyond the capacity become -1.",
        ),
        mistakes={
            "capacity of the batch, not of each group": "each group has the capacity for itself.",
            "one too many": "an expert takes exactly `capacity` slots.",
            Bug("the last come first", "numpy", "order = np.broadcast_to(np.arange(flat.shape[-1]), flat.shape)", "order = np.broadcast_to(np.arange(flat.shape[-1])[::-1], flat.shape)"): (
                "the first tokens stay: else a token would depend on later ones."
            ),
        },
    ),
    Exercise(
        name="05_experts",
        title="Send, compute, collect",
        component=replace(EXPERTS, draw=draw_experts),
        minutes=45,
        hints=(
            "For each expert: which (row, slot) chose it, by np.nonzero(indices == number); one feed_forward on those rows.",
            "Keep the outputs of all slots, (N, K, d): y is their sum weighted over the slots.",
            "dweights[n, k] = sum over d of dy[n] * output[n, k]. Each expert's vjp gets w[n, k] dy[n].",
            "dx[n] adds up what the experts of its slots return. Parameters of experts that nobody chose have gradient 0.",
        ),
        mistakes={
            "weights forgotten in the backward": "what goes back through an expert is w dy, not dy.",
            "a weight's gradient without the output": "y = sum w o: the gradient of a weight is the product of dy with its expert's output.",
            "mean over the slots": "the outputs are added up, not averaged.",
            "dx of the last slot alone": "every slot read x: dx adds up over the slots.",
            "every expert has the weights of the first": "each expert has parameters of its own: value[number].",
        },
    ),
)
