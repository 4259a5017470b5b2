"""The reward model: a transformer that ends in one number for a text, and several of them as one."""

import math

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.model.transformer import transformer
from numpy_ref.precision import stored_once
from numpy_ref.rng import STREAM_REWARD, normal


def reward_model(tokens, ends, params, config, documents=None, recompute=False):
    """The reward of each text: a linear function of the hidden state at its last token (arXiv:2203.02155, section 3.5).

        r = x w^T + b,    x: what ``transformer`` ends in, at the place that has seen the whole text

    ends: row and column of the last token of each text, as ``padded`` gives them; never found by looking for a padding
    id, which may be a token that exists. documents: as in ``transformer``; what pads a row on the left, or another text
    in the row, is not seen. Padding on the right is never seen, with or without them.
    There is no dropout: the two answers of a pair would be judged by two different models.

    Shapes: tokens (B, T), ends (N, 2) of whole numbers -> rewards (N,), float32 or better;  vjp: dr (N,) -> grads with
    the keys of params, which are those of a config with ``output`` "reward".

    Backward: dx is dr w at the ends and 0 elsewhere.
    """
    x, model_vjp = transformer(tokens, params, config, documents=documents, recompute=recompute, logits=False)
    row, column = ends[:, 0], ends[:, 1]
    rewards, head_vjp = scalar_head(x[row, column], params["reward.weight"], params["reward.bias"])

    def vjp(dr):
        dlast, dweight, dbias = head_vjp(dr)
        dx = np.zeros_like(x)
        dx[row, column] = dlast
        return model_vjp(dx) | {"reward.weight": dweight, "reward.bias": dbias}

    return rewards, vjp


@stored_once(value=False)
def scalar_head(x, weight, bias):
    """One number for each row: y = x w^T + b; from 16-bit features in float32, since differences of rewards count.

    Shapes: x (N, d), weight (1, d), bias (1,) -> y (N,);  vjp: dy (N,) -> dx (N, d), dweight (1, d), dbias (1,).

    Backward: dx = dy w, dw = dy^T x, db = sum(dy).
    """

    def vjp(dy):
        return dy[:, None] * weight, (dy @ x)[None], np.sum(dy)[None]

    return x @ weight[0] + bias, vjp


def with_reward_head(params, config, seed):
    """Params of a language model for a reward model to begin with: its output head becomes a scalar one.

    w is normal with variance 1 / (d + 1), b is 0 (arXiv:2009.01325, its code). params: name -> array, config: that of
    the reward model. An output head that is the embedding stays, as the embedding.
    """
    head = normal(seed, STREAM_REWARD, (1, config.width)) / math.sqrt(config.width + 1)
    kind = params["token_embedding.weight"].dtype
    kept = {name: value for name, value in params.items() if name != "output.weight"}
    return kept | {"reward.weight": head.astype(kind), "reward.bias": np.zeros(1, kind)}


def ensemble(rewards, rule="mean", k=1.0):
    """One reward from several models', which disagree where they were not trained (arXiv:2310.02743, section 3.2).

        mean     the average
        worst    the least: an answer is as good as the most sceptical model says
        lower    mean - k s, s the deviation between the models

    Shapes: rewards (M, B) -> (B,). Raises UserError for another rule.
    """
    if rule == "mean":
        return np.mean(rewards, axis=0)
    if rule == "worst":
        return np.min(rewards, axis=0)
    if rule != "lower":
        raise UserError(f"rule={rule!r} is not allowed; it must be mean, worst or lower")
    mean = np.mean(rewards, axis=0)
    return mean - k * np.sqrt(np.mean((rewards - mean) ** 2, axis=0))
