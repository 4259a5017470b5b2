"""The policy as learning sees it: what it thought of the tokens that were chosen, and what it expected of them."""

import numpy as np

from numpy_ref.model.activations import softcap
from numpy_ref.model.linear import linear
from numpy_ref.model.transformer import transformer
from numpy_ref.reward.model import scalar_head
from numpy_ref.rl.parts import critic_config, critic_params, policy_params, with_critic
from numpy_ref.training.token_logprobs import linear_token_logprobs, token_entropy, token_logprobs

_LARGEST = 1 << 24  # logits that may be in memory at once


def policy(tokens, mask, params, config, temperature=1.0, kept=None):
    """Log-probability and entropy of every token that counts, and the critic's value of the text before it.

    Entry t is about token t + 1, which was chosen after reading tokens 0 to t: value and log-probability come from the
    same hidden state, at t. Text before and after a row's completion may be anything that the model can read; padding
    stands behind, where causal attention never looks. There is no dropout: a ratio compares one policy with another.

    tokens: (B, T) of whole numbers; mask: bool (B, T - 1), of the targets tokens[:, 1:]; temperature, kept: as in
    ``token_logprobs``, kept (B, T - 1, V). params, config: of a model of tokens, or with a value head or critic (`parts.py`).

    -> logprobs, entropy, values, each (B, T - 1) and 0 where the mask hides; values are 0 without a critic.
    vjp: dlogprobs, dentropy, dvalues (B, T - 1) -> grads with the keys of params.

    Backward: only rows that count have a gradient, so that the head sees no others. A shared trunk gets the sum of the
    heads' gradients.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:][mask]
    own = policy_params(params)
    x, model_vjp = transformer(inputs, own, config, logits=False)
    chosen = x[mask]
    kept = None if kept is None else kept[mask]
    logprobs, entropy, head_vjp = _head(chosen, targets, own, config, temperature, kept)
    values, value_vjp = _values(inputs, mask, chosen, params, config)

    def spread(rows):
        whole = np.zeros(mask.shape, x.dtype)
        whole[mask] = rows
        return whole

    def vjp(dlogprobs, dentropy, dvalues):
        dchosen, head_grads = head_vjp(dlogprobs[mask], dentropy[mask])
        dvalue_x, value_grads = value_vjp(dvalues[mask])
        dx = np.zeros_like(x)
        dx[mask] = dchosen + dvalue_x
        grads = model_vjp(dx) | value_grads
        for name, grad in head_grads.items():
            grads[name] = grads[name] + grad
        return grads

    return (spread(logprobs), spread(entropy), spread(values)), vjp


def with_value(params, config, reward=None):
    """Params of a model of tokens with what its config's critic needs on top.

    The value head is 0: a critic that has seen nothing expects nothing. A critic apart begins as a copy of the policy's
    trunk, or as the reward model whose params are ``reward``.
    """
    kind = params["token_embedding.weight"].dtype
    head = np.zeros((1, config.width), kind), np.zeros(1, kind)
    if config.output == "value":
        return params | {"value.weight": head[0], "value.bias": head[1]}
    if config.output != "critic":
        return params
    trunk = {name: value for name, value in params.items() if name != "output.weight"}
    return with_critic(params, reward or trunk | {"reward.weight": head[0], "reward.bias": head[1]})


def _head(x, targets, params, config, temperature, kept):
    """Log-probabilities and entropies (N,) from hidden states (N, d);  vjp: both -> dx, grads. Many logits in chunks."""
    name = "token_embedding.weight" if config.tie_embeddings else "output.weight"
    weight = params[name]
    if kept is None and len(x) * config.vocab_size > _LARGEST:
        chunk = max(1, _LARGEST // config.vocab_size)
        both, vjp = linear_token_logprobs(x, weight, targets, config.logit_softcap, temperature, chunk=chunk)

        def chunked_vjp(dlogprobs, dentropy):
            dx, dweight = vjp(np.stack((dlogprobs, dentropy)))
            return dx, {name: dweight}

        return both[0], both[1], chunked_vjp
    cap_vjp = None
    logits, linear_vjp = linear(x, weight)
    if config.logit_softcap:
        logits, cap_vjp = softcap(logits, config.logit_softcap)
    logprobs, logprobs_vjp = token_logprobs(logits, targets, temperature, kept)
    entropy, entropy_vjp = token_entropy(logits, temperature, kept)

    def whole_vjp(dlogprobs, dentropy):
        dlogits = logprobs_vjp(dlogprobs) + entropy_vjp(dentropy)
        dx, dweight, _ = linear_vjp(dlogits if cap_vjp is None else cap_vjp(dlogits))
        return dx, {name: dweight}

    return logprobs, entropy, whole_vjp


def _values(inputs, mask, x, params, config):
    """Values (N,) of the rows that count;  vjp: dvalues -> dx (N, d) of the policy's hidden states, grads."""
    if config.output == "value":
        values, vjp = scalar_head(x, params["value.weight"], params["value.bias"])

        def shared_vjp(dvalues):
            dx, dweight, dbias = vjp(dvalues)
            return dx, {"value.weight": dweight, "value.bias": dbias}

        return values, shared_vjp
    if config.output != "critic":
        return np.zeros(len(x), x.dtype), lambda dvalues: (0.0, {})
    own = critic_params(params)
    hidden, model_vjp = transformer(inputs, own, critic_config(config), logits=False)
    values, head_vjp = scalar_head(hidden[mask], own["reward.weight"], own["reward.bias"])

    def apart_vjp(dvalues):
        drows, dweight, dbias = head_vjp(dvalues)
        dhidden = np.zeros_like(hidden)
        dhidden[mask] = drows
        return 0.0, with_critic({}, model_vjp(dhidden) | {"reward.weight": dweight, "reward.bias": dbias})

    return values, apart_vjp
