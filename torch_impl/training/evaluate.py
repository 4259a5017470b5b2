"""How well a model predicts held-out text."""

import math

import torch

from numpy_ref.config import TrainConfig
from torch_impl.data.batches import evaluation_windows
from torch_impl.model.activations import softcap
from torch_impl.model.linear import linear
from torch_impl.model.transformer import transformer
from torch_impl.training.losses import cross_entropy


@torch.inference_mode()
def evaluate(params, config, tokens, batch_size, context=None, limit=None, bytes_per_token=1.0):
    """Loss, perplexity and bits per byte on a token sequence, read once in windows of ``context`` tokens.

        perplexity = exp(loss)        bits per byte = loss / ln 2 / bytes_per_token

    The logits of a large vocabulary exist in chunks, of the size that training takes (``TrainConfig.loss_rows``).

    Shapes: tokens (N,). Returns a dict: loss (nats per token, over all predicted tokens), perplexity, bits_per_byte and
    tokens (how many were predicted). UserError if there is nothing to predict.
    """
    device = params["token_embedding.weight"].device
    losses, count = [], 0
    for inputs, targets in evaluation_windows(tokens, context or config.context, batch_size, limit):
        x = transformer(inputs.to(device), params, config, logits=False)
        losses += _losses(x.flatten(0, 1), targets.to(device).flatten(), params, config)
        count += targets.numel()
    loss = sum(value.item() for value in losses) / count  # one wait for the device, after all work is queued
    return {
        "loss": loss,
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "bits_per_byte": loss / math.log(2) / bytes_per_token,
        "tokens": count,
    }


def _losses(x, targets, params, config):
    """The summed loss () of each chunk of x (n, d), which comes normed for the output head, and targets (n,)."""
    weight = params["token_embedding.weight" if config.tie_embeddings else "output.weight"]
    rows = TrainConfig().loss_rows(len(targets), config.vocab_size)
    for part, labels in zip(x.split(rows), targets.split(rows)):
        logits = linear(part, weight)
        logits = softcap(logits, config.logit_softcap) if config.logit_softcap else logits
        yield cross_entropy(logits, labels, reduction="sum")
