"""How likely a model finds whole answers."""

import numpy as np

from numpy_ref.data.batches import IGNORED
from numpy_ref.model.transformer import transformer
from numpy_ref.training.losses import cross_entropy, linear_cross_entropy


def answer_targets(tokens, ends, starts):
    """What each place has to predict so that only answers count, as ``cross_entropy`` takes it.

    Row i holds one text from its first column on; its answer is the tokens from column starts_i to the end of the text.
    Place t predicts token t + 1.

    Shapes: tokens (B, T), ends (B, 2) as ``padded`` gives them on the right, starts (B,) -> (B, T - 1) int64, -100 for
    what is not of the answer.
    """
    place = np.arange(1, tokens.shape[1])
    inside = (place >= starts[:, None]) & (place <= ends[:, 1:])
    return np.where(inside, tokens[:, 1:], IGNORED)


def sequence_logprobs(inputs, targets, params, config, chunk=0, recompute=False):
    """ln p of each row's targets: the sum over its tokens, those that are -100 left out.

        ln pi(y | x) = sum_t ln pi(y_t | x, y_<t)

    A sum, not a mean: only so is it the probability of the answer, of which DPO's loss is derived (arXiv:2305.18290).
    ``chunk``: how many tokens' logits exist at a time (0: all).

    Shapes: inputs, targets (B, T) -> (B,), float32 or better;  vjp: dy (B,) -> grads with the keys of params.

    Backward: the loss of every token of a row has the gradient -dy of the row.
    """
    y, model_vjp = transformer(inputs, params, config, recompute=recompute, logits=not chunk)
    head = "token_embedding.weight" if config.tie_embeddings else "output.weight"
    if chunk:
        losses, loss_vjp = linear_cross_entropy(
            y, params[head], targets, config.logit_softcap, reduction="none", chunk=chunk
        )
    else:
        losses, loss_vjp = cross_entropy(y, targets, reduction="none")

    def vjp(dy):
        dlosses = np.repeat(-dy[:, None], targets.shape[1], axis=1)
        if not chunk:
            return model_vjp(loss_vjp(dlosses))
        dx, dweight = loss_vjp(dlosses)
        grads = model_vjp(dx)
        return grads | {head: grads[head] + dweight}

    return -np.sum(losses, axis=1), vjp
