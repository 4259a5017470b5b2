"""Quantised thoughts: a hidden state becomes the nearest of a few vectors (arXiv:1711.00937).

The codes are the last ids of the vocabulary, their embeddings the codebook. It begins as the means of clusters of thoughts
that were not quantised; a random codebook would say nothing about the state that chose a vector of it.
"""

import numpy as np

from numpy_ref.concepts.residual_quantiser import fit_codebooks
from numpy_ref.model.embedding import embedding
from numpy_ref.thoughts.stream import hidden_states


def code_table(params, config, settings):
    """The vectors of all codes, as the model reads them.

    Shapes: -> (codes, d);  vjp: dtable -> grads of the embedding, 0 for all ids but codes.
    """
    weight = params["token_embedding.weight"]

    def vjp(dtable):
        dweight = np.zeros_like(weight)
        dweight[-settings.codes :] = config.embedding_scale * dtable
        return {"token_embedding.weight": dweight}

    return config.embedding_scale * weight[-settings.codes :], vjp


def code_scores(hidden, table):
    """How near each code is: the scores whose softmax is p(code | hidden), were states normal around codes (variance 1).

        s_k = h . E_k - ||E_k||^2 / 2  =  (||h||^2 - ||h - E_k||^2) / 2

    Shapes: hidden (..., d), table (K, d) -> (..., K). No vjp: what learns is the distance to the code that was chosen.
    """
    return hidden @ table.T - 0.5 * np.sum(table * table, axis=-1)


def nearest_code(hidden, table):
    """The nearest row of a table, straight through: with sg(.) for what passes no gradient on,

        y = E_j + h - sg(h),   j = argmin ||h - E_j||^2        so    dh = dy,   dE_j = sum of the dy where j was chosen

    The value is E_j to the last bit. (A complex step sees the same derivative, as sg(h) is the real part of h.)

    Shapes: hidden (..., d), table (K, d) -> (..., d);  vjp: dy -> dhidden, dtable. The first of equally near rows.
    """
    chosen = np.argmax(code_scores(hidden.real, table.real), axis=-1)

    def vjp(dy):
        return dy.copy(), _scattered(dy, chosen, table)

    return table[chosen] + (hidden - hidden.real), vjp


def code_loss(hidden, table, commitment):
    """What keeps states and codes together (eq. 3 of arXiv:1711.00937), a mean over vectors and features:

        l = mean (sg(h) - E_j)^2 + commitment * mean (h - sg(E_j))^2       j as of ``nearest_code``

    The first term moves a code to the mean of its states, the second states to their code.

    Shapes: hidden (..., d), table (K, d), commitment a number -> ();  vjp: dl -> dhidden, dtable.

    Backward. With n numbers in h:   dh = dl commitment 2 (h - E_j) / n,   dE_j = sum of dl 2 (E_j - h) / n
    """
    chosen = np.argmax(code_scores(hidden.real, table.real), axis=-1)
    pull, bind = table[chosen] - hidden.real, hidden - table[chosen].real

    def vjp(dl):
        share = 2.0 * dl / hidden.size
        return commitment * share * bind, _scattered(share * pull, chosen, table)

    return np.mean(pull * pull) + commitment * np.mean(bind * bind), vjp


def _scattered(dy, chosen, table):
    """The sum of all dy of each row of the table."""
    one_hot = (chosen.reshape(-1, 1) == np.arange(len(table))).astype(table.dtype)
    return one_hot.T @ dy.reshape(-1, dy.shape[-1])


def farthest_first(x, count):
    """Numbers of ``count`` vectors that lie far apart: where k-means begins and misses no cluster (Gonzalez 1985).

    Number 0, then always the one that is farthest from its nearest among those before; of equals the first.
    Shapes: x (n, d) -> (count,) int64.
    """
    starts, apart = [0], np.inf
    while len(starts) < count:
        apart = np.minimum(apart, np.sum((x - x[starts[-1]]) ** 2, axis=-1))
        starts.append(np.argmax(apart))
    return np.array(starts, dtype=np.int64)


def fit_codes(params, question, config, settings, count):
    """Parameters whose codes are the means of clusters of thoughts: the first ``count`` behind each question, unquantised.

    Shapes: question (B, Q) -> params, of which only the embedding of codes is another.
    """
    x, _ = embedding(question, params["token_embedding.weight"], config.embedding_scale)
    thoughts = []
    for _ in range(count):
        (h, _), _ = hidden_states(x, params, config)
        thoughts.append(h[:, -1])
        x = np.concatenate([x, h[:, -1:]], axis=1)
    thoughts = np.concatenate(thoughts)
    codebook = fit_codebooks(thoughts, farthest_first(thoughts, settings.codes)[None])[0]
    weight = params["token_embedding.weight"].copy()
    weight[-settings.codes :] = codebook / config.embedding_scale
    return params | {"token_embedding.weight": weight}
