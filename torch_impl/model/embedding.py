"""Token ids to vectors."""

import torch.nn.functional as F


def embedding(tokens, weight, scale=1.0):
    """Rows of a table, times a constant ("Attention Is All You Need" §3.4 takes sqrt(d)).

        y = scale * weight[tokens]

    Shapes: tokens (...) integers, weight (V, d) -> (..., d). Ids are checked where they enter, not here: a check would
    wait for the device.

    A 16-bit table that learns is read through float32: its gradient sums one row for each use of a token, and the CPU
    kernel sums in the format of the table, where 256 equal addends are the most that bfloat16 can count.
    """
    table = weight.float() if weight.itemsize == 2 and weight.requires_grad else weight
    rows = F.embedding(tokens.long(), table)
    rows = rows.float() if weight.itemsize == 2 else rows
    if scale != 1.0:
        rows = rows * scale
    return rows.to(weight.dtype)
