"""Lesson 10: a word can be written with tokens in many ways. How likely are all of them together (arXiv:1804.10959)?

    L = sum over the words x of weight_x ln Z(x),    Z(x) = sum over the ways to write x of the product of p(token)

There are exponentially many ways; going through the word from left to right once is enough.

    words: a list of bytes; weights (W,); tokens: {bytes: index}, with a token for each byte of the words; scores ln p (V,)
    -> ()

Return the value alone. (Its gradient is how often each token is expected to occur.)
"""

import numpy as np


def log_likelihood(words, weights, tokens, scores):
    raise NotImplementedError
