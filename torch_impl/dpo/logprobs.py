"""Log-probabilities of whole answers."""

import torch

from torch_impl.data.batches import IGNORED
from torch_impl.model.transformer import transformer
from torch_impl.training.losses import cross_entropy, linear_cross_entropy

TORCH_EXTRA_ARGUMENTS = {"forward"}


def answer_targets(tokens, ends, starts):
    """Targets for ``cross_entropy`` that score answers alone: the next token within the answer, else -100.

    Shapes: tokens (B, T) padded on the right, ends (B, 2) rows and last columns, starts (B,) first columns of the answers
    -> (B, T - 1) int64.
    """
    column = torch.arange(1, tokens.shape[1], device=tokens.device)
    outside = (column < starts[:, None]) | (column > ends[:, 1:])
    return tokens[:, 1:].masked_fill(outside, IGNORED)


def sequence_logprobs(inputs, targets, params, config, chunk=0, recompute=False, forward=transformer):
    """Sum over each row of ln p(target), -100 left out (arXiv:2305.18290 eq. 7 takes it of whole answers).

    Shapes: inputs and targets (B, T) -> (B,), float32 or better. With ``chunk`` the logits of so many tokens exist at once.
    """
    y = forward(inputs, params, config, recompute=recompute, logits=not chunk)
    if chunk:
        head = params["token_embedding.weight" if config.tie_embeddings else "output.weight"]
        losses = linear_cross_entropy(y, head, targets, config.logit_softcap, reduction="none", chunk=chunk)
    else:
        losses = cross_entropy(y, targets, reduction="none")
    return -losses.sum(1)
