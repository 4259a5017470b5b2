"""Units of thought as inputs of the model."""

from torch_impl.model.softmax import softmax
from torch_impl.thoughts.stream import word_logits


def quantise(scores, table, straight_through=True):
    """The row of the table with the highest score; its gradient is that of the softmax-weighted mean of all rows
    (straight through, arXiv:1308.3432). Without ``straight_through`` it is that mean.

    Shapes: scores (..., K), table (K, d) -> (..., d).
    """
    soft = softmax(scores) @ table
    if not straight_through:
        return soft
    return soft + (table[scores.argmax(-1)] - soft).detach()


def next_unit(hidden, params, config, settings, straight_through=True):
    """What the model reads at the place of a unit: its hidden state (thought), or the embedding of the code that its
    output head prefers among the last ``codes`` ids. Shapes: hidden (B, d) -> (B, d)."""
    if settings.kind == "thought":
        return hidden
    scores = word_logits(hidden, params, config)[:, -settings.codes :]
    return quantise(scores, config.embedding_scale * params["token_embedding.weight"][-settings.codes :], straight_through)
