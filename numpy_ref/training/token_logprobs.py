"""How likely a policy finds each token that was chosen, and how undecided it was: what reinforcement learning reads."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.activations import softcap as bend
from numpy_ref.model.linear import linear
from numpy_ref.precision import stored_once


@stored_once(value=False)
def token_logprobs(logits, targets, temperature=1.0, kept=None, ignore_index=-100):
    """Log-probability in nats of each target under the distribution that a sampler with these settings draws from.

        l = s_y - ln sum_j exp(s_j),    s = logits / temperature

    A sampler divides by its temperature and drops unlikely tokens (top-k, top-p, min-p). A score that leaves either out
    belongs to another distribution, and the ratio of PPO (arXiv:1707.06347, eq. 6) is then not 1 at the first step.
    kept: None, or bool, the tokens that were left to draw from; the others have probability 0.

    Shapes: logits (..., V), targets (...) of whole numbers, kept (..., V), at least one in each row -> (...).
    vjp: dl (...) -> dlogits (..., V). Targets that are ``ignore_index`` have 0 and no gradient; a target that was not
    kept has -inf. 16-bit logits: computed in float32, and so is the value. Raises UserError for a target outside range(V)
    and for a temperature that is not above 0.

    Backward. dl/ds_j = [j = y] - p_j with p = softmax(s), so dl/dlogits_j = ([j = y] - p_j) / temperature.
    """
    rows, labels = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    valid, labels = _checked(labels, ignore_index, rows.shape[-1])
    row = np.arange(len(labels))
    shifted, visible, p, log_total = _scores(rows, _flat(kept), temperature)
    logprobs = np.where(visible[row, labels], shifted[row, labels] - log_total, -np.inf)
    logprobs = np.where(valid, logprobs, 0.0)

    def vjp(dy):
        dlogprobs = (dy.reshape(-1) * valid / temperature)[:, None]
        dx = -p * dlogprobs
        dx[row, labels] += dlogprobs[:, 0]
        return (dx * visible).reshape(logits.shape).astype(logits.dtype, copy=False)

    return logprobs.reshape(targets.shape), vjp


@stored_once(value=False)
def token_entropy(logits, temperature=1.0, kept=None):
    """Entropy in nats of the distribution that each next token is drawn from (see ``token_logprobs``).

        H = -sum_j p_j ln p_j = ln sum_j exp(s_j) - sum_j p_j s_j,    p = softmax(s), s = logits / temperature

    Shapes: logits (..., V), kept (..., V) bool or None -> (...);  vjp: dH (...) -> dlogits (..., V).

    Backward. d ln sum/ds_j = p_j and d(sum_k p_k s_k)/ds_j = p_j + p_j (s_j - sum_k p_k s_k), so with ln p_j = s_j - ln sum

        dH/ds_j = -p_j (s_j - sum_k p_k s_k) = -p_j (ln p_j + H)        dH/dlogits_j = -p_j (ln p_j + H) / temperature
    """
    shifted, _, p, log_total = _scores(logits.reshape(-1, logits.shape[-1]), _flat(kept), temperature)
    entropy = log_total - np.sum(p * shifted, axis=-1)

    def vjp(dy):
        dx = -p * (shifted - log_total[:, None] + entropy[:, None]) * (dy.reshape(-1) / temperature)[:, None]
        return dx.reshape(logits.shape).astype(logits.dtype, copy=False)

    return entropy.reshape(logits.shape[:-1]), vjp


@stored_once(value=False)
def linear_token_logprobs(x, weight, targets, softcap=0.0, temperature=1.0, ignore_index=-100, chunk=1024):
    """The output head with ``token_logprobs`` and ``token_entropy`` of its logits, of which ``chunk`` tokens' exist at
    a time (as in ``linear_cross_entropy``). The entropy is that of ignored tokens, too.

        logits = c tanh(x W^T / c)        without the tanh where softcap c is 0

    Shapes: x (..., d), weight W (V, d), targets (...) -> (2, ...): log-probabilities, entropies.
    vjp: dy (2, ...) -> dx (..., d), dweight (V, d). Errors are those of ``token_logprobs``.

    Backward: the logits of each chunk are computed again; both gradients of the logits add up and go on at once,

        dx_n = dlogits_n W        dW = sum over the chunks of dlogits^T x
    """
    rows, labels = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    parts = [slice(start, start + chunk) for start in range(0, max(1, len(rows)), chunk)]

    def both(part):
        """Log-probabilities and entropies (2, n) of one chunk;  vjp: (2, n) -> dx, dweight."""
        cap_vjp = None
        logits, linear_vjp = linear(rows[part], weight)
        if softcap:
            logits, cap_vjp = bend(logits, softcap)
        logprobs, logprobs_vjp = token_logprobs(logits, labels[part], temperature, None, ignore_index)
        entropy, entropy_vjp = token_entropy(logits, temperature)

        def vjp(dy):
            dlogits = logprobs_vjp(dy[0]) + entropy_vjp(dy[1])
            return linear_vjp(dlogits if cap_vjp is None else cap_vjp(dlogits))[:2]

        return np.stack((logprobs, entropy)), vjp

    def vjp(dy):
        dy = dy.reshape(2, -1)
        dx, dweight = [], 0.0
        for part in parts:
            dx_part, dweight_part = both(part)[1](dy[:, part])
            dx.append(dx_part)
            dweight = dweight + dweight_part
        return np.concatenate(dx).reshape(x.shape), dweight

    return np.concatenate([both(part)[0] for part in parts], axis=1).reshape(2, *targets.shape), vjp


def _scores(rows, kept, temperature):
    """s minus its largest (N, V), 0 where a token is impossible; which are possible; p (N, V); ln sum exp (N,)."""
    if not temperature > 0:
        raise UserError(f"temperature={temperature} is not allowed; log-probabilities need one above 0")
    x = rows.astype(np.float32) if rows.dtype == np.float16 else rows
    visible = x.real != -np.inf
    if kept is not None:
        visible = visible & kept
    likeliest = np.argmax(np.where(visible, x.real, -np.inf), axis=-1)
    peak = np.take_along_axis(x, likeliest[:, None], axis=-1)
    with np.errstate(over="ignore"):  # beyond the largest number below the peak: probability 0
        shifted = np.where(visible, x - peak, 0.0) / temperature
    weights = np.exp(shifted) * visible
    total = np.sum(weights, axis=-1)
    return shifted, visible, weights / total[:, None], np.log(total)


def _flat(kept):
    return None if kept is None else kept.reshape(-1, kept.shape[-1])


def _checked(labels, ignore_index, vocabulary):
    """Which targets count, and the targets with 0 where they don't."""
    valid = labels != ignore_index
    labels = np.where(valid, labels, 0)
    wrong = labels[(labels < 0) | (labels >= vocabulary)]
    if wrong.size:
        raise UserError(
            f"target {wrong[0]} is outside the vocabulary of {vocabulary}; targets go from 0 to {vocabulary - 1}, "
            f"or are {ignore_index} to be ignored"
        )
    return valid, labels
