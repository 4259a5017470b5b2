"""From a hidden state to the input vector of the unit that follows it."""

from numpy_ref.thoughts.codes import code_table, nearest_code


def next_unit(hidden, params, config, settings):
    """The vector that the model is given at the place of a unit, from the last hidden state before it.

        thought    the hidden state itself (arXiv:2412.06769, section 3)
        code       the nearest code: the embedding of one of the last ``codes`` ids of the vocabulary

    Shapes: hidden (B, d) -> (B, d);  vjp: dy -> dhidden, grads of the parameters that were used.
    """
    if settings.kind == "thought":
        return hidden, lambda dy: (dy.copy(), {})
    table, table_vjp = code_table(params, config, settings)
    unit, unit_vjp = nearest_code(hidden, table)

    def vjp(dy):
        dhidden, dtable = unit_vjp(dy)
        return dhidden, table_vjp(dtable)

    return unit, vjp
