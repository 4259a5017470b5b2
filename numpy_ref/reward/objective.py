"""What a reward model minimises: the answer that people prefer must have the higher reward."""

import numpy as np


def bradley_terry(
    chosen, rejected, margin=0.0, ties=None, label_smoothing=0.0, centring=0.0, denominator=None
):
    """Negative log-likelihood of the preferences under the model of Bradley and Terry (1952).

    They say P(chosen beats rejected) = sigmoid(z), z = r_c - r_r. With a share p of votes for the chosen answer,

        l = -p ln sigmoid(z) - (1 - p) ln sigmoid(-z) + c (r_c + r_r)^2
          = softplus(-z) + (1 - p) z + c (r_c + r_r)^2,                          softplus(x) = ln(1 + exp(x))

    p is 1 - ``label_smoothing`` (arXiv:2305.18290 has it in its code; "conservative": some preferences are wrong), and
    1/2 for ``ties``: half a win for each. A ``margin`` m asks for more than a lead, z = r_c - r_r - m (Llama 2,
    arXiv:2307.09288, eq. 2); a tie has none. Only differences of rewards matter, so that their mean may drift;
    ``centring`` c pulls it to 0 (arXiv:2312.09244, section 3).

    The losses of the pairs are summed and divided by ``denominator``: the number of pairs, unless micro-batches share
    that of their step.

    Shapes: chosen, rejected (B,), margin a number or (B,), ties None or bool (B,) -> ();  vjp: dy -> dchosen, drejected (B,).

    Backward. softplus'(x) = sigmoid(x), so dl/dz = -sigmoid(-z) + (1 - p): a pair that is far right has next to no
    gradient, one that is far wrong has -1, and neither overflows. With s = r_c + r_r

        dr_c = dl/dz + 2 c s        dr_r = -dl/dz + 2 c s
    """
    tied = np.zeros(chosen.shape, bool) if ties is None else ties
    z = chosen - rejected - np.where(tied, 0.0, margin).astype(chosen.dtype)
    against = np.where(tied, 0.5, label_smoothing).astype(chosen.dtype)  # 1 - p
    total = chosen + rejected
    loss = _softplus(-z) + against * z + centring * total * total
    divisor = denominator or len(chosen)

    def vjp(dy):
        dloss = dy / divisor
        dz, dtotal = dloss * (against - _sigmoid(-z)), dloss * (2.0 * centring) * total
        return dz + dtotal, dtotal - dz

    return np.sum(loss) / divisor, vjp


def margin_ranking(chosen, rejected, margin=1.0, ties=None, denominator=None):
    """The hinge: a pair costs what its lead lacks to the margin, and nothing beyond (Joachims 2002, ranking SVM).

        l = max(0, m - (r_c - r_r))        and for a tie    l = max(0, |r_c - r_r| - m)

    Shapes and arguments as of ``bradley_terry``. A gradient is 1 or 0 in size, so a few wrong labels weigh no more than others.

    Backward: dr_c = -1 where r_c - r_r < m, dr_r the opposite; for a tie the sign of the lead, where that is above m in
    size. At the bend itself, where there is no derivative, it is 0.
    """
    lead = chosen - rejected
    tied = np.zeros(chosen.shape, bool) if ties is None else ties
    side = np.where(tied, np.sign(lead.real), -1.0).astype(lead.real.dtype)
    short = np.where(tied, side * lead - margin, margin - lead)
    active = short.real > 0
    divisor = denominator or len(chosen)

    def vjp(dy):
        dlead = dy / divisor * (side * active)
        return dlead, -dlead

    return np.sum(np.where(active, short, 0.0)) / divisor, vjp


def plackett_luce(rewards, mask=None, denominator=None):
    """Negative log-likelihood of whole rankings, best answer first (Plackett 1975, Luce 1959; arXiv:2305.18290, app. A.3).

    Each place is won against all that are left, by a softmax:

        l = sum_k (lse_k - r_k),    lse_k = ln sum_{j >= k} exp(r_j)

    The last place is won against nobody and costs 0; a list of two is ``bradley_terry``.

    Shapes: rewards (B, K), mask None or bool (B, K), True for the answers of lists shorter than K (they come first)
    -> ();  vjp: dy -> drewards (B, K), 0 where there is no answer. Divided by the number of lists, or ``denominator``.

    Backward. With p_kj = exp(r_j - lse_k), the chance of j to win place k,

        dr_j = sum_{k <= j} p_kj - 1
    """
    there, place = np.ones(rewards.shape, bool) if mask is None else mask, np.arange(rewards.shape[1])
    left = (place >= place[:, None]) & there[:, None, :] & there[:, :, None]  # (B, place, answer)
    # Shifted so that the best of those who are left has 0: no overflow, and a sure winner keeps its digits.
    peak = np.max(np.where(left, rewards.real[:, None, :], -np.inf), axis=-1, keepdims=True)
    shifted = rewards[:, None, :] - np.where(there[:, :, None], peak, 0.0).astype(rewards.dtype)
    weights = np.where(left, np.exp(np.where(left, shifted, 0.0)), 0.0)
    total = np.sum(weights, axis=-1) + ~there  # 1 where there is no answer
    loss = np.where(there, np.log(total) - shifted[:, place, place], 0.0)
    divisor = denominator or len(rewards)

    def vjp(dy):
        return dy / divisor * (np.sum(weights / total[:, :, None], axis=1) - there)

    return np.sum(loss) / divisor, vjp


def _softplus(x):
    """ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|)), which never overflows."""
    positive = x.real > 0
    return np.where(positive, x, 0.0) + np.log1p(np.exp(np.where(positive, -x, x)))


def _sigmoid(x):
    positive = x.real > 0
    e = np.exp(np.where(positive, -x, x))
    return np.where(positive, 1.0, e) / (1.0 + e)
