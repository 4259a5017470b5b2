"""Units of thought as inputs of the model."""

from torch_impl.thoughts.codes import code_table, nearest_code


def next_unit(hidden, params, config, settings):
    """What the model reads at the place of a unit: its hidden state (thought), or the code nearest to it.
    Shapes: hidden (B, d) -> (B, d)."""
    return hidden if settings.kind == "thought" else nearest_code(hidden, code_table(params, config, settings))
