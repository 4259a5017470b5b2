"""Text as its UTF-8 bytes: 256 tokens that can say everything."""

import codecs

import torch

from numpy_ref.errors import UserError

vocab_size = 256


def encode(text):
    """The UTF-8 bytes of a text: ids (N,) uint8. UserError for lone surrogates, which UTF-8 has no bytes for."""
    try:
        data = bytearray(text, "utf-8")
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        raise UserError(f"character {error.start} of the text is half a surrogate pair ({code}); remove it") from None
    return torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def decode(tokens):
    """The text of ids (N,); bytes that are no UTF-8 become U+FFFD. UserError for an id above 255."""
    return _bytes(torch.as_tensor(tokens).tolist()).decode("utf-8", errors="replace")


class Decoder:
    """Decodes token by token, holding a character back until all its bytes are there."""

    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token):
        """The text that this token completes, often empty or one character."""
        return self._decoder.decode(_bytes([int(token)]))

    def finish(self):
        """What is left: U+FFFD if a character was cut short."""
        return self._decoder.decode(b"", final=True)


def _bytes(ids):
    try:
        return bytes(ids)
    except ValueError:
        raise UserError(f"token ids from {min(ids)} to {max(ids)} are not all bytes; give ids from 0 to 255") from None
