"""Lesson 2: text to bytes.

The simplest tokenizer there is: the UTF-8 bytes of a text, 256 tokens, nothing to learn.

    text: str -> (n,) uint8, an array of its own

Half a surrogate pair (such as "\\ud800") is no character and has no UTF-8: raise UserError with one line that says so.
Change nothing about the text: no spaces trimmed, no line ends mended.
"""

import numpy as np

from numpy_ref.errors import UserError


def encode(text):
    raise NotImplementedError
