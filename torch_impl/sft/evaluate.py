"""The loss of each conversation."""

import torch

from torch_impl.data.packing import conversation_batch
from torch_impl.model.transformer import transformer
from torch_impl.training.losses import cross_entropy, linear_cross_entropy


@torch.inference_mode()
def conversation_losses(params, config, ids, weights, borders, batch_size):
    """Sum of the weighted losses, and of the weights, of each conversation; only what has weight gets logits.

    Shapes: ids, weights (N,), borders (C + 1,) -> losses, weights (C,) float64 on the CPU.
    """
    embedding = params["token_embedding.weight"]
    head = embedding if config.tie_embeddings else params["output.weight"]
    whole = not torch.is_tensor(head)  # a quantised head multiplies, and is no matrix
    wide = torch.promote_types(embedding.dtype, torch.float32)
    lengths = torch.as_tensor(borders).diff() - 1
    losses, shares = torch.zeros(2, len(lengths), dtype=torch.float64)
    for chosen in torch.argsort(lengths, stable=True).split(batch_size):
        width = int(lengths[chosen].max())
        inputs, targets, own, _ = conversation_batch(ids, weights, borders, chosen, width, packed=False)
        inputs, targets, kept = (x.to(embedding.device) for x in (inputs, targets, own.to(wide)))
        y = transformer(inputs, params, config, logits=whole)
        if whole:
            loss = cross_entropy(y, targets, reduction="none", weights=kept)
        else:
            loss = linear_cross_entropy(y, head, targets, config.logit_softcap, reduction="none", weights=kept)
        losses[chosen], shares[chosen] = loss.sum(1).double().cpu(), own.sum(1)
    return losses, shares
