"""Token embedding: a table of vectors, one for each token id."""

import numpy as np

from numpy_ref.errors import UserError
from numpy_ref.precision import stored_once


@stored_once
def embedding(tokens, weight, scale=1.0):
    """Rows of a table.

        y = scale * weight[tokens]

    The scale is sqrt(d) in "Attention is all you need" (arXiv:1706.03762, section 3.4).

    Shapes: tokens (...) of whole numbers in range(V), weight (V, d) -> y (..., d);  vjp: dy (..., d) -> dweight (V, d).
    Raises UserError for an id outside the vocabulary.

    Backward. y_nj = scale * sum_v [tokens_n = v] weight_vj is a matrix product with one-hot rows, so

        dweight_vj = scale * sum over the n with tokens_n = v of dy_nj

    A token that occurs twice collects both gradients: ``np.add.at`` adds, ``dweight[tokens] += dy`` would keep one.
    """
    _check(tokens, weight.shape[0])

    def vjp(dy):
        dweight = np.zeros_like(weight)
        np.add.at(dweight, tokens.reshape(-1), dy.reshape(-1, weight.shape[1]))
        return dweight * scale

    return weight[tokens] * scale, vjp


def _check(tokens, vocabulary):
    """NumPy would take id -1 as the last row and say nothing."""
    if tokens.size and (tokens.min() < 0 or tokens.max() >= vocabulary):
        wrong = tokens[(tokens < 0) | (tokens >= vocabulary)][0]
        raise UserError(
            f"token id {wrong} is outside the vocabulary of {vocabulary}; ids go from 0 to {vocabulary - 1}: "
            "was the text encoded with this model's tokenizer?"
        )
