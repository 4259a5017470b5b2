"""How well a model predicts held-out text."""

import math

import torch

from torch_impl.data.batches import evaluation_windows
from torch_impl.model.transformer import transformer
from torch_impl.training.losses import cross_entropy


@torch.inference_mode()
def evaluate(params, config, tokens, batch_size, context=None, limit=None, bytes_per_token=1.0):
    """Loss, perplexity and bits per byte on a token sequence, read once in windows of ``context`` tokens.

        perplexity = exp(loss)        bits per byte = loss / ln 2 / bytes_per_token

    Shapes: tokens (N,). Returns a dict: loss (nats per token, over all predicted tokens), perplexity, bits_per_byte and
    tokens (how many were predicted). UserError if there is nothing to predict.
    """
    device = params["token_embedding.weight"].device
    losses, count = [], 0
    for inputs, targets in evaluation_windows(tokens, context or config.context, batch_size, limit):
        logits = transformer(inputs.to(device), params, config)
        losses.append(cross_entropy(logits, targets.to(device), reduction="sum"))
        count += targets.numel()
    loss = sum(value.item() for value in losses) / count  # one wait for the device, after all work is queued
    return {
        "loss": loss,
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "bits_per_byte": loss / math.log(2) / bytes_per_token,
        "tokens": count,
    }
