"""Lesson 3: a guess for free (arXiv:2304.04487): what followed the last time when the text ended like this?

Look for the latest earlier place of the last ``longest`` tokens, then of one fewer, and so on down to the last token alone.
Return what followed there, at most ``ahead`` tokens; [] if even the last token is new.

    tokens: list of ids -> list of ids
"""


def ngram_proposal(tokens, ahead, longest=3):
    raise NotImplementedError
