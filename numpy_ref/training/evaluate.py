"""How well a model predicts a text that it has not seen."""

import math

from numpy_ref.config import TrainConfig
from numpy_ref.data.batches import evaluation_windows
from numpy_ref.model.activations import softcap
from numpy_ref.model.linear import linear
from numpy_ref.model.transformer import transformer
from numpy_ref.training.losses import cross_entropy


def evaluate(params, config, tokens, batch_size, context=None, limit=None, bytes_per_token=1.0):
    """Loss on a row of tokens, each predicted once from at most ``context`` tokens before it, without dropout.

        loss = sum of -ln p(token) / tokens
        perplexity = exp(loss)
        bits per byte = loss / (ln 2 bytes_per_token)

    Bits per byte do not depend on the tokenizer, so models with different ones can be compared. Of a large vocabulary
    no more logits exist at a time than in training (``TrainConfig.loss_rows``).

    tokens (n,) of whole numbers; context: the model's unless given; limit: at most that many tokens.
    Returns {"loss": nats per token, "perplexity", "bits_per_byte", "tokens": number predicted}.
    """
    total, count = 0.0, 0
    for inputs, targets in evaluation_windows(tokens, context or config.context, batch_size, limit):
        x, _ = transformer(inputs, params, config, logits=False)
        total += _loss(x.reshape(-1, config.width), targets.reshape(-1), params, config)
        count += targets.size
    loss = total / count
    return {
        "loss": loss,
        "perplexity": math.exp(loss) if loss < 700 else math.inf,  # exp(710) is beyond float64
        "bits_per_byte": loss / (math.log(2) * bytes_per_token),
        "tokens": count,
    }


def _loss(x, targets, params, config):
    """The sum of the losses of x (n, d), normed as the output head takes it, and targets (n,), chunk by chunk."""
    weight = params["token_embedding.weight" if config.tie_embeddings else "output.weight"]
    rows, total = TrainConfig().loss_rows(len(targets), config.vocab_size), 0.0
    for start in range(0, len(targets), rows):
        logits, _ = linear(x[start : start + rows], weight)
        if config.logit_softcap:
            logits, _ = softcap(logits, config.logit_softcap)
        total += float(cross_entropy(logits, targets[start : start + rows], reduction="sum")[0])
    return total
