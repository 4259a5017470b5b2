"""Bytes as tokens: the vocabulary is 256, every text can be written, and nothing has to be learned."""

import codecs

import numpy as np

from numpy_ref.errors import UserError

vocab_size = 256


def encode(text):
    """The UTF-8 bytes of a text: str -> (n,) uint8. Raises UserError for half a surrogate pair: it is no character."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"character {error.start} of the text, {text[error.start]!r}, is half a surrogate pair, which UTF-8 cannot "
            "write; remove it"
        ) from None
    return np.frombuffer(data, np.uint8).copy()


def decode(tokens):
    """The text of byte ids (n,) -> str; what is no UTF-8 becomes U+FFFD. Raises UserError for an id that is no byte."""
    return bytes(_byte(token) for token in tokens).decode("utf-8", errors="replace")


class Decoder:
    """Text as it comes, token by token: a character of several bytes appears when its last byte does."""

    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token):
        """What one more token completes: a str, empty in the middle of a character."""
        return self._decoder.decode(bytes([_byte(token)]))

    def finish(self):
        """What is left: U+FFFD if the last character is incomplete, else an empty str."""
        return self._decoder.decode(b"", final=True)


def _byte(token):
    value = int(token)
    if not 0 <= value < vocab_size:
        raise UserError(f"token id {value} is no byte; ids go from 0 to {vocab_size - 1}")
    return value
