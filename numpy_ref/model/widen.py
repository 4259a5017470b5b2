"""More tokens for a model that has learnt without them: rows for the control ids of a chat."""

import numpy as np

from numpy_ref.rng import STREAM_WIDEN, normal


def widen(weight, rows, seed, stream):
    """A matrix with ``rows`` rows: those it has, and new ones that look like them.

        row = m + s * z,    m and s: mean and deviation of each column, z standard normal

    So a new token begins as likely as the others are on average, and the old ones keep their order: rows near zero may
    get all of the probability at once (J. Hewitt, "Initializing new word embeddings for pretrained language models",
    nlp.stanford.edu/~johnhew/vocab-expansion.html). The draw tells the new ones apart.

    Drawn and summed in float64, then cast. Shapes: weight (V, d) -> (rows, d); one that has as many rows is returned.
    """
    more = max(0, rows - len(weight))
    wide = weight.astype(np.float64)
    mean = np.mean(wide, axis=0)
    deviation = np.sqrt(np.mean((wide - mean) ** 2, axis=0))
    new = mean + deviation * normal(seed, stream, (more, weight.shape[1]))
    return np.concatenate((weight, new.astype(weight.dtype)))


def widen_vocabulary(params, vocab_size, seed):
    """Params of a model with ``vocab_size`` tokens: embedding and output head get the rows that they lack.

    params: name -> array, as ``parameter_shapes`` names them -> the same names. Each matrix has a stream of its own.
    """
    wider = dict(params)
    for number, name in enumerate(("token_embedding.weight", "output.weight")):
        if name in params:
            wider[name] = widen(params[name], vocab_size, seed, STREAM_WIDEN + number)
    return wider
