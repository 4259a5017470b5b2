"""A mixture of experts in the place of a feed-forward network: many networks, of which each token passes through a few."""

import numpy as np

from numpy_ref.model.balance import drop_overflow
from numpy_ref.model.feed_forward import feed_forward
from numpy_ref.model.parameters import with_prefix
from numpy_ref.model.router import (
    NONE,
    gate_weights,
    limit_groups,
    noisy_logits,
    router_logits,
    router_scores,
    top_experts,
)
from numpy_ref.precision import plain, stored_like


def moe(x, params, config, routing=None, valid=None):
    """Route each token to its experts, and add up what they return (arXiv:1701.06538, eq. 1; shared: arXiv:2401.06066).

        y = sum over the chosen experts i of w_i FFN_i(x) + FFN_shared(x)

    params: "router.weight" (E, d), "router.bias" (E,) where the config balances by a bias, "noise.weight" (E, d) where
    it has a noisy router, "experts." and "shared." as for ``experts`` and ``feed_forward``. config: ModelConfig.
    routing: None, where nothing is dropped and nothing is noisy; in training {"capacity": slots an expert has for each
    row, or None, "noise": normal numbers (B, T, E), or None}. valid: bool (B, T), False for padding, which goes to no
    expert; None: all valid.

    Shapes: x (B, T, d) -> (y (B, T, d), route): {"logits" (B, T, E), "indices" and "kept" (B, T, K), the experts of each
    token before and after dropping}.  vjp: dy, and dlogits (B, T, E) or None, what losses add to the gradient of the
    logits -> dx (B, T, d), dparams with the keys of params; the bias, which nothing depends on smoothly, has zeros.

    Backward: the outputs are weighted, so each weight gets the product of dy with its expert's output, and passes it on
    to the logits; everything that read x adds to dx.
    """
    logits, logits_vjp = router_logits(x, params["router.weight"])
    noise = (routing or {}).get("noise")
    if noise is not None:
        spread, spread_vjp = router_logits(x, params["noise.weight"])
        logits, noisy_vjp = noisy_logits(logits, spread, noise.astype(logits.real.dtype))
    indices = choose(plain(logits), params.get("router.bias"), config)
    if valid is not None:
        indices = np.where(valid[..., None], indices, NONE)
    weights, weights_vjp = gate_weights(logits, indices, config.scoring, config.gate, config.router_scale)
    kept = indices
    if routing and routing["capacity"]:
        kept = drop_overflow(indices, weights, routing["capacity"])
    rows, slots = x.reshape(-1, x.shape[-1]), (-1, indices.shape[-1])
    y, experts_vjp = experts(
        rows, kept.reshape(slots), weights.reshape(slots), with_prefix(params, "experts"), config.activation
    )
    y = y.reshape(x.shape)
    shared_vjp = None
    if config.shared_experts:
        shared, shared_vjp = feed_forward(x, with_prefix(params, "shared"), config.activation)
        y = y + shared

    def vjp(dy, dlogits=None):
        dx, dweights, dexperts = experts_vjp(dy.reshape(-1, dy.shape[-1]))
        dx, grads = dx.reshape(x.shape), {f"experts.{name}": grad for name, grad in dexperts.items()}
        if shared_vjp is not None:
            dx_shared, dshared = shared_vjp(dy)
            dx, grads = dx + dx_shared, grads | {f"shared.{name}": grad for name, grad in dshared.items()}
        dl = weights_vjp(dweights.reshape(weights.shape))
        dl = dl if dlogits is None else dl + dlogits
        if noise is not None:
            dl, dspread = noisy_vjp(dl)
            dx_noise, grads["noise.weight"] = spread_vjp(dspread)
            dx = dx + dx_noise
        dx_router, grads["router.weight"] = logits_vjp(dl)
        return dx + dx_router, {name: grads[name] if name in grads else np.zeros_like(p) for name, p in params.items()}

    return (y, {"logits": logits, "indices": indices, "kept": kept}), vjp


def choose(logits, bias, config):
    """The experts of each token: by their scores, plus the bias where there is one, within the groups of the config.

    Shapes: logits (..., E), bias (E,) or None -> (..., K) int64. No gradient. What is not finite counts as nothing here:
    it comes out again in the weights, and the step is skipped.
    """
    scores, _ = router_scores(logits.real, config.scoring)
    scores = np.where(np.isfinite(scores), scores, 0.0)
    if bias is not None:
        scores = scores + plain(bias).real
    if config.expert_groups > 1:
        scores = limit_groups(scores, config.expert_groups, config.groups_per_token)
    return top_experts(scores, config.experts_per_token)


def experts(x, indices, weights, params, activation="gelu"):
    """Weighted sum of the outputs of each row's experts.

        y_n = sum_k w_nk FFN_i(x_n),    i = indices_nk

    params: as for ``feed_forward``, with the experts stacked along a first axis: "up.weight" (E, f, d) or "gate_up.weight"
    (E, 2f, d), "down.weight" (E, d, f), biases (E, f), (E, 2f), (E, d) or none. A slot of index NONE adds nothing.

    Shapes: x (N, d), indices, weights (N, K) -> y (N, d);  vjp: dy (N, d) -> dx (N, d), dweights (N, K), dparams.

    Backward. With o_nk the output of slot k:  do_nk = w_nk dy_n  goes back through the expert, and

        dw_nk = sum_d dy_nd o_nkd        dx_n = sum_k (what the expert of slot k returns)
    """
    outputs = np.zeros_like(x, shape=(*indices.shape, x.shape[-1]), dtype=_kind(x, params))
    used = []
    for number in range(len(params["down.weight"])):
        row, slot = np.nonzero(indices == number)
        if len(row):
            own = {name: value[number] for name, value in params.items()}
            outputs[row, slot], own_vjp = feed_forward(x[row], own, activation)
            used.append((number, row, slot, own_vjp))
    y = stored_like(np.sum(plain(outputs) * weights[..., None], axis=1), x)

    def vjp(dy):
        dweights = np.sum(plain(outputs) * plain(dy)[:, None], axis=-1)
        doutputs = stored_like(plain(dy)[:, None] * weights[..., None], x)
        dinputs = np.zeros_like(doutputs)
        dparams = {name: np.zeros_like(value) for name, value in params.items()}
        for number, row, slot, own_vjp in used:
            dinputs[row, slot], own = own_vjp(doutputs[row, slot])
            for name, grad in own.items():
                dparams[name][number] = grad
        return np.sum(dinputs, axis=1), dweights, dparams

    return y, vjp


def _kind(x, params):
    return np.result_type(x, *params.values())
