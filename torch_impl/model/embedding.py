"""Token ids to vectors."""

import torch.nn.functional as F


def embedding(tokens, weight, scale=1.0):
    """Rows of a table, times a constant ("Attention Is All You Need" §3.4 takes sqrt(d)).

        y = scale * weight[tokens]

    Shapes: tokens (...) integers, weight (V, d) -> (..., d). Ids are checked where they enter, not here: a check would
    wait for the device.

    A 16-bit table is read through float32: its gradient sums one row for each use of a token, and the CPU kernel sums
    in the format of the table, where 256 equal addends are the most that bfloat16 can count.
    """
    rows = F.embedding(tokens.long(), weight.float() if weight.itemsize == 2 else weight)
    if scale != 1.0:
        rows = rows * scale
    return rows.to(weight.dtype)
