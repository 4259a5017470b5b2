"""The router of a mixture of experts: which experts a token goes to, and how much each of them counts.

Scores and gates are computed in float32 also where the model computes in 16 bits: a rounded logit would send tokens to
other experts (arXiv:2101.03961, section 2.4). The choice itself has no derivative; only the gates carry gradient.
"""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.softmax import softmax
from numpy_ref.precision import plain, stored_like

NONE = -1  # the index of a slot that goes to no expert


def router_logits(x, weight):
    """One score an expert, by a linear map that is never rounded to 16 bits.

        l = x W^T

    Shapes: x (..., d), weight W (E, d) -> logits (..., E), float32 where x is stored in 16 bits.
    vjp: dlogits (..., E) -> dx (..., d), dweight (E, d).

    Backward, as for ``linear``: dx = dl W, dW = dl^T x.
    """
    rows, matrix = plain(x).reshape(-1, x.shape[-1]), plain(weight)

    def vjp(dlogits):
        dlogits = dlogits.reshape(-1, dlogits.shape[-1])
        return stored_like((dlogits @ matrix).reshape(x.shape), x), dlogits.T @ rows

    return (rows @ matrix.T).reshape(*x.shape[:-1], -1), vjp


def noisy_logits(logits, spread, noise):
    """Logits with noise whose size each token learns (arXiv:1701.06538, eq. 4): rare experts get tokens by chance.

        h = l + n softplus(r),    softplus(r) = ln(1 + exp(r))

    noise n: standard normal numbers. Computed as max(r, 0) + ln(1 + exp(-|r|)), which never overflows.

    Shapes: logits l, spread r, noise n (..., E) -> h (..., E);  vjp: dh (..., E) -> dlogits, dspread (..., E).

    Backward: dl = dh;  softplus' is the logistic function, so dr = dh n / (1 + exp(-r)).
    """
    size = np.where(spread.real > 0, spread, -spread)
    softplus = np.where(spread.real > 0, spread, 0.0) + np.log1p(np.exp(-size))

    def vjp(dh):
        return +dh, dh * noise * _logistic(spread)

    return logits + noise * softplus, vjp


def router_scores(logits, scoring="softmax"):
    """What experts are chosen by: a share of one each (softmax) or a number of its own between 0 and 1 (sigmoid).

        softmax (arXiv:1701.06538, eq. 2):   s_i = exp(l_i) / sum_j exp(l_j)
        sigmoid (arXiv:2412.19437, eq. 15):  s_i = 1 / (1 + exp(-l_i))

    Shapes: logits (..., E) -> scores (..., E);  vjp: ds (..., E) -> dlogits (..., E).

    Backward: softmax as in `softmax.py`; the sigmoid has the slope s (1 - s), with 1 - s(l) = s(-l).
    """
    if scoring == "softmax":
        return softmax(logits)
    s = _logistic(logits)

    def vjp(ds):
        return ds * s * _logistic(-logits)

    return s, vjp


def top_experts(scores, k):
    """The k experts with the largest scores, largest first. Of equal scores the lower index goes first.

    Shapes: scores (..., E), which may be -inf where an expert must not be taken -> (..., k) int64. No gradient.
    Raises UserError for k outside 1 ... E and for a score that is NaN or +inf.
    """
    _check_choice(scores, k)
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def limit_groups(scores, groups, kept):
    """Group-limited choice (arXiv:2412.19437, section 2.1.2): experts of all but a token's best groups get -inf.

    Experts lie in ``groups`` groups of neighbours, in practice one a machine. A group is as good as the sum of its two
    largest scores (its largest, where it has one expert); ``kept`` groups stay, of equal ones the lower. -inf, and not
    0: biased scores may be negative, and 0 would win over them.

    Shapes: scores (..., E) -> (..., E). No gradient. Raises UserError where the groups do not divide the experts.
    """
    experts = scores.shape[-1]
    if groups < 1 or experts % groups or not 1 <= kept <= groups:
        raise UserError(
            f"{experts} experts can't be limited to {kept} of {groups} groups; take a number of groups that divides "
            f"{experts}, and keep 1 to all of them"
        )
    grouped = scores.reshape(*scores.shape[:-1], groups, experts // groups)
    best = np.sort(grouped, axis=-1)[..., -2:]
    order = np.argsort(-np.sum(best, axis=-1), axis=-1, kind="stable")[..., :kept]
    chosen = np.any(order[..., None] == np.arange(groups), axis=-2)
    return np.where(chosen[..., None], grouped, -np.inf).reshape(scores.shape)


def gate_weights(logits, indices, scoring="softmax", gate="renormalised", scale=1.0):
    """How much each chosen expert counts.

        raw            w_i = a s_i                        Switch (arXiv:2101.03961, eq. 2), OLMoE (arXiv:2409.02060)
        renormalised   w_i = a s_i / sum_chosen s_j       DeepSeek-V3 (arXiv:2412.19437, eq. 13)
        chosen         w = a softmax(l over the chosen)   Mixtral (arXiv:2401.04088, eq. 1): first top-k, then softmax

    s: ``router_scores``; a: scale. With softmax scores the last two are the same numbers. With one expert a token they are
    1, and the router learns nothing from what the expert did.

    Shapes: logits (..., E), indices (..., K), NONE for an empty slot, which has weight 0 -> weights (..., K).
    vjp: dw (..., K) -> dlogits (..., E).

    Backward. Raw: ds_i = a dw_i where i was chosen, and back through the scores. Renormalised, with S = sum s_j + 1e-20
    and v = s / S: ds_i = a (dw_i - sum_j dw_j v_j) / S. Chosen: dl = w (dw - sum dw w / a) on the chosen.
    """
    taken = indices != NONE
    places = np.where(taken, indices, 0)

    def back(dchosen):
        """Values at the chosen places of (..., E) zeros; no expert is chosen twice by a token."""
        onto = (places[..., None] == np.arange(logits.shape[-1])) & taken[..., None]
        return np.sum(np.where(onto, dchosen[..., None], 0.0), axis=-2)

    if gate == "chosen":
        picked = np.where(taken, np.take_along_axis(logits, places, -1), -np.inf)
        weights, softmax_vjp = softmax(picked)
        return scale * weights, lambda dw: back(softmax_vjp(scale * dw))
    scores, scores_vjp = router_scores(logits, scoring)
    s = np.where(taken, np.take_along_axis(scores, places, -1), 0.0)
    if gate == "raw":
        return scale * s, lambda dw: scores_vjp(back(scale * dw))
    total = np.sum(s, axis=-1, keepdims=True) + 1e-20
    share = s / total

    def vjp(dw):
        dw = scale * dw
        return scores_vjp(back((dw - np.sum(dw * share, axis=-1, keepdims=True)) / total))

    return scale * share, vjp


def expert_choice(scores, capacity):
    """Experts choose tokens (arXiv:2202.09368, eq. 1): each takes the ``capacity`` tokens that score highest with it.

    Every expert has the same load, tokens have from none to all experts. Who is chosen depends on later tokens, so a
    model that predicts the next token must not train with it.

    Shapes: scores (T, E) -> indices (T, E): e in column e where expert e takes the token, else NONE. No gradient.
    Of equal scores the earlier token goes first. Raises UserError for a capacity outside 1 ... T.
    """
    tokens, experts = scores.shape
    if not 1 <= capacity <= tokens:
        raise UserError(f"an expert can't choose {capacity} of {tokens} tokens; take a capacity from 1 to {tokens}")
    order = top_experts(scores.T, capacity)
    taken = np.any(order[..., None] == np.arange(tokens), axis=-2).T
    return np.where(taken, np.arange(experts), NONE)


def _logistic(x):
    """1 / (1 + exp(-x)) without overflow."""
    positive = x.real > 0
    e = np.exp(np.where(positive, -x, x))
    return np.where(positive, 1.0, e) / (1.0 + e)


def _check_choice(scores, k):
    experts = scores.shape[-1]
    if not 1 <= k <= experts:
        raise UserError(f"{k} of {experts} experts can't be chosen; take from 1 to {experts} for each token")
    if scores.size and not np.max(scores) < np.inf:
        raise UserError("router scores are not finite, so no expert can be chosen; lower the learning rate")
