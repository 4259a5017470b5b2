"""Conversations as token ids: who speaks, and where a turn ends, is said by ids that no text can write.

    <|system|> text <|end|>   <|user|> text <|end|>   <|assistant|> text <|end|>   ...

The four control ids lie directly above the tokenizer's vocabulary: 256 to 259 where tokens are bytes. Ids are built
turn by turn, and the text of a turn is encoded by itself. So a text that says "<|end|>" stays seven letters, whoever
typed it, and no token reaches from one turn into the next.

A run folder whose model knows this format holds a ``chat.json`` that says so.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numpy_ref.errors import UserError, shown
from numpy_ref.files import replace

DEFINITION = "a format of ids: the wings' tokenizers make them from text"

ROLES = ("system", "user", "assistant")
CONTROLS = (*ROLES, "end")
NAME = "chat.json"


@dataclass(frozen=True)
class ChatFormat:
    """The control ids above a tokenizer of ``base`` tokens: base, base + 1, ... in the order of CONTROLS.

    ``encode`` and ``decode`` below are the tokenizer's own: str -> ids (n,), and back.
    """

    base: int

    @property
    def vocab_size(self):
        """Tokens that a model needs: those of text and the controls."""
        return self.base + len(CONTROLS)

    @property
    def end(self):
        """The id that ends a turn: what generation stops at."""
        return self.control("end")

    def control(self, name):
        """The id of a role, or of "end"."""
        return self.base + CONTROLS.index(name)

    def encode(self, messages, encode, prompt_weight=0.0):
        """A conversation -> ids (n,) int64, and the weight (n,) float64 of each in the loss of predicting it.

        What the assistant says, and the end of its turn, has weight 1; all else, which is given when the model is
        used, has ``prompt_weight``; the first id, which nothing predicts, 0. Raises UserError for messages that are no
        conversation (see ``check``), and for text that the tokenizer can't write.
        """
        check(messages)
        ids, weights = [], []
        for message in messages:
            said = [*self._text(message["content"], encode), self.end]
            ids += [self.control(message["role"]), *said]
            weights += [prompt_weight] + [1.0 if message["role"] == "assistant" else prompt_weight] * len(said)
        weights[0] = 0.0
        return np.array(ids, np.int64), np.array(weights)

    def prompt(self, messages, encode):
        """The ids (n,) int64 of a conversation up to where the assistant begins to speak."""
        check(messages, last="user")
        ids = []
        for message in messages:
            ids += [self.control(message["role"]), *self._text(message["content"], encode), self.end]
        return np.array([*ids, self.control("assistant")], np.int64)

    def decode(self, ids, decode):
        """The messages of ids that ``encode`` or ``prompt`` made; the last turn may lack its end.

        Raises UserError for ids in another order: text outside of a turn, a turn inside of another.
        """
        messages, said = [], None
        for place, token in enumerate(map(int, ids)):
            name = CONTROLS[token - self.base] if self.base <= token < self.vocab_size else None
            if (said is None) != (name in ROLES):
                raise UserError(f"id {token} at place {place} can't stand there: a turn is a role, its text and an end")
            if name in ROLES:
                said = []
                messages.append({"role": name, "content": said})
            elif name == "end":
                said = None
            else:
                said.append(token)
        return [message | {"content": decode(np.array(message["content"], np.int64))} for message in messages]

    def said(self, ids, decode):
        """The text of an answer as ``generate`` returns it: up to the first control id, should there be one."""
        ids = np.asarray(ids)
        controls = np.flatnonzero(ids >= self.base)
        return decode(ids[: controls[0]] if len(controls) else ids)

    def _text(self, text, encode):
        ids = np.asarray(encode(text))
        if ids.size and int(ids.max()) >= self.base:
            raise UserError(f"the tokenizer writes id {int(ids.max())}, but its tokens should end at {self.base - 1}")
        return ids.tolist()


class Decoder:
    """A tokenizer's decoder that also shows control ids, as <|end|>: for whoever wants to see all that a model says."""

    def __init__(self, chat, decoder):
        self._chat, self._decoder = chat, decoder

    def push(self, token):
        """What one more id completes."""
        number = int(token) - self._chat.base
        if not 0 <= number < len(CONTROLS):
            return self._decoder.push(token)
        return self._decoder.finish() + f"<|{CONTROLS[number]}|>"

    def finish(self):
        """What is left."""
        return self._decoder.finish()


def check(messages, last="assistant"):
    """Raise UserError unless these are the messages of a conversation: [{"role": ..., "content": ...}, ...].

    A system text may come first; then user and assistant take turns, and it ends with ``last``. No answer is empty.
    """
    if not isinstance(messages, (list, tuple)) or not messages:
        raise UserError(f'the messages must be a list of {{"role", "content"}}, got {shown(messages)}')
    turns = [_checked(message, number) for number, message in enumerate(messages, 1)]
    if turns[0] == "system":
        turns = turns[1:]
    number = len(messages) - len(turns)
    for place, role in enumerate(turns):
        wanted = ("user", "assistant")[place % 2]
        if role != wanted:
            raise UserError(f"message {number + place + 1} is of the {role} where the {wanted} should speak: an optional "
                            "system text comes first, then user and assistant take turns")  # fmt: skip
    if not turns or turns[-1] != last:
        raise UserError(
            f"the conversation ends with the {(turns or ['system'])[-1]}; the {last} must have the last word"
        )


def _checked(message, number):
    """The role of a message. Raises UserError where it is none."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise UserError(f'message {number} must be {{"role": ..., "content": text}}, got {shown(message)}')
    role, content = message.get("role"), message["content"]
    if role not in ROLES:
        raise UserError(f"message {number} has the role {shown(role)}; roles are {', '.join(ROLES)}")
    if role == "assistant" and not content:
        raise UserError(f"message {number}, of the assistant, is empty: there is no answer to learn")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"message {number} holds {content[error.start]!r}, half a surrogate pair; remove it") from None
    return role


def write(folder, chat):
    """Note in a run folder that its model speaks this format."""
    text = json.dumps({"base": chat.base, "controls": CONTROLS}) + "\n"
    replace(Path(folder) / NAME, lambda file: file.write(text.encode()))


def read(folder):
    """The ChatFormat of a run folder, or of that of a checkpoint file; None for a model that knows none.

    Raises UserError for a file that is damaged.
    """
    path = Path(folder)
    path = (path if path.is_dir() else path.parent) / NAME
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        base, controls = found["base"], found["controls"]
        if type(base) is not int or not 0 < base < 1 << 24 or controls != list(CONTROLS):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path} is damaged, or of another version; fine-tune again to write it anew") from None
    return ChatFormat(base)
