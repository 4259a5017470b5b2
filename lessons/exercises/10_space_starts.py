"""Lesson 10: a text of bytes in patches that end with a space or its like (arXiv:2404.14408).

Spacelike is a byte that is no letter, no digit and no continuation of a UTF-8 character (0b10......). A patch begins behind a
spacelike byte, unless the byte before that is spacelike, too: of "a   b" only the first space ends a patch. The first byte is
always a patch of its own.

For T bytes there are T + 1 answers: does a patch begin before byte t? Each depends on the bytes before t alone; the last
one is about the byte that is still to come.

    tokens (B, T) bytes -> bool (B, T + 1)
"""

import numpy as np


def space_starts(tokens):
    raise NotImplementedError
