"""The transformer that thinks between tokens."""

import numpy as np

from numpy_ref.model.embedding import embedding
from numpy_ref.thoughts.settings import require_places
from numpy_ref.thoughts.stream import hidden_states, word_logits
from numpy_ref.thoughts.units import next_unit


def unit_states(tokens, params, config, settings, places=()):
    """Hidden states of rows in which some inputs are not tokens but units made of what the model has thought so far.

        x_t = E[token t],    but    x_p = unit(h_{p-1}) at each place p        h = hidden states of x, up to where it is known

    One pass for each place in their order, over all inputs before it, and one over the whole (arXiv:2412.06769, section 3).
    What stands in ``tokens`` at a place is ignored.

    Shapes: tokens (B, T), places ascending whole numbers from 1, the same for all rows -> (B, T, d);
    vjp: dh -> grads with the keys of params. Raises UserError for places that are none.

    Backward, from the last pass to the first: the gradient of the input at place p is complete when all later passes have
    added theirs, as it is an input of each of them. It is that of the unit, goes through it to the hidden state at
    p - 1 of the pass that ended there, and so to all earlier inputs, tokens and units: backpropagation through time.
    """
    require_places(places, tokens.shape[1])
    x, embedding_vjp = embedding(tokens, params["token_embedding.weight"], config.embedding_scale)
    passes = []
    for place in places:
        (h, _), pass_vjp = hidden_states(x[:, :place], params, config)
        unit, unit_vjp = next_unit(h[:, -1], params, config, settings)
        x = np.concatenate([x[:, :place], unit[:, None], x[:, place + 1 :]], axis=1)
        passes.append((place, pass_vjp, unit_vjp))
    (h, _), last_vjp = hidden_states(x, params, config)

    def vjp(dh):
        grads = {name: np.zeros_like(param) for name, param in params.items()}
        dx, _, found = last_vjp(dh)
        _add(grads, found)
        for place, pass_vjp, unit_vjp in reversed(passes):
            dunit, dx = dx[:, place], np.array(dx)
            dx[:, place] = 0.0  # no token was read here
            dlast, found = unit_vjp(dunit)
            _add(grads, found)
            dh = np.zeros_like(dx[:, :place])
            dh[:, -1] = dlast
            dbefore, _, found = pass_vjp(dh)
            _add(grads, found)
            dx[:, :place] += dbefore
        _add(grads, {"token_embedding.weight": embedding_vjp(dx)})
        return grads

    return h, vjp


def unit_transformer(tokens, params, config, settings, places=()):
    """Logits of the next token of rows with units: the output head on ``unit_states``.

    Shapes: tokens (B, T), places as of ``unit_states`` -> (B, T, V);  vjp: dy -> grads with the keys of params.
    """
    h, states_vjp = unit_states(tokens, params, config, settings, places)
    logits, logits_vjp = word_logits(h, params, config)

    def vjp(dy):
        dh, found = logits_vjp(dy)
        grads = states_vjp(dh)
        _add(grads, found)
        return grads

    return logits, vjp


def _add(grads, found):
    for name, grad in found.items():
        grads[name] = grads[name] + grad
