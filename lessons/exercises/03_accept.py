"""Lesson 3: speculative decoding (arXiv:2211.17192, algorithm 1): keep a guess or refuse it.

A draft model guessed the tokens x_0 ... x_(k-1), each drawn from its distribution q_i; one pass of the model gave its own
distributions p_0 ... p_k at the same places.

    keep x_i with probability min(1, p_i(x_i) / q_i(x_i)): where uniforms[i] q_i(x_i) < p_i(x_i)
    at the first refusal: draw from max(p_i - q_i, 0) and stop;    if all are kept: draw from p_k

Draw with ``sample(weights, uniforms[-1])``; the weights need not sum to one.

    target p (k + 1, V), draft q (k, V), tokens: k ids, uniforms (k + 1,) -> (number kept, next token)

The text has exactly the model's distribution, whatever the guesses are. Can you see why?
"""

import numpy as np

from numpy_ref.inference.sampling import sample


def accept(target, draft, tokens, uniforms):
    raise NotImplementedError
