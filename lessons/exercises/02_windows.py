"""Lesson 2: how many training windows a text has.

A window is ``context`` inputs and their targets, the inputs one token later. Windows begin at 0, stride, 2 stride, ...

    length: number of tokens of the text; context, stride -> how many windows fit, 0 where none does
"""


def windows(length, context, stride=1):
    raise NotImplementedError
