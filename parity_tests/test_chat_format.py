"""Conversations as ids, and the files that they are read from."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.data import chat_format, instructions
from numpy_ref.data.chat_format import CONTROLS, ChatFormat
from numpy_ref.errors import UserError
from numpy_ref.tokenizers import byte
from numpy_ref.tokenizers.vocabulary import trained
from parity_tests.components.bpe import vocabulary  # noqa: F401  (texts.py needs it loaded first)
from parity_tests.test_fuzz import TIMES, here, mutated, outcomes  # noqa: F401  (fixture)
from parity_tests.texts import texts
from parity_tests.wings import WINGS

BYTES = ChatFormat(256)
MARKERS = "<|system|> <|user|>\n<|assistant|><|end|> <|im_end|> [INST] </s>"
both = pytest.mark.parametrize("wing", WINGS, ids=str)


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


TALK = [{"role": "system", "content": "Be brief."}, user("1+1?"), assistant("2"), user("2+2?"), assistant("4")]


def tokenizers(wing):
    """(ChatFormat, encode, decode) of both kinds of tokenizer; the second knows a special token of its own."""
    bytes_ = wing.module("tokenizers.byte")
    bpe = wing.module("tokenizers.bpe").BPE(trained([(0, 1), (71, 68)], "gpt4", ["<|end|>"]))
    return [(BYTES, bytes_.encode, bytes_.decode), (ChatFormat(len(bpe.vocabulary)), bpe.encode, bpe.decode)]


@both
@given(contents=st.lists(texts(), min_size=2, max_size=5))
def test_whatever_is_said_comes_back_and_no_text_writes_a_control_id(wing, contents):
    contents = [content + MARKERS for content in contents]
    messages = [user(c) if number % 2 == 0 else assistant(c) for number, c in enumerate(contents[: len(contents) // 2 * 2])]
    for chat, encode, decode in tokenizers(wing):
        ids, weights = chat.encode(messages, encode)
        assert chat.decode(ids, decode) == messages
        controls = ids[ids >= chat.base]
        assert len(controls) == 2 * len(messages) and (controls[1::2] == chat.end).all()
        assert list(controls[0::2]) == [chat.control(message["role"]) for message in messages]
        assert ids.shape == weights.shape and set(weights) == {0.0, 1.0}
        prompt = chat.prompt(messages[:-1], encode)
        assert np.array_equal(prompt, ids[: len(prompt)]) and weights[len(prompt) :].all()
        assert chat.said(ids[len(prompt) :], decode) == messages[-1]["content"]


def test_what_is_trained_is_the_answers_and_their_ends():
    ids, weights = BYTES.encode(TALK, byte.encode)
    spans = [list(ids[weights > 0])]
    assert spans == [[*b"2", BYTES.end, *b"4", BYTES.end]]  # exactly one end for each answer
    _, all_of_it = BYTES.encode(TALK, byte.encode, prompt_weight=0.25)
    assert all_of_it[0] == 0 and set(all_of_it[1:]) == {0.25, 1.0} and ((all_of_it == 1) == (weights == 1)).all()


def test_no_token_reaches_across_a_border():
    """A tokenizer that joins "a" and "b" does not join the end of a prompt with the beginning of an answer."""
    from numpy_ref.tokenizers.bpe import BPE

    vocabulary = trained([(64, 65)], "gpt4", [])
    assert vocabulary.tokens[256] == b"ab"
    chat, encode = ChatFormat(len(vocabulary)), BPE(vocabulary).encode
    assert 256 in encode("ab") and 256 not in chat.encode([user("a"), assistant("b")], encode)[0]
    assert 256 in chat.encode([user("ab"), assistant("b")], encode)[0]


def test_controls_lie_above_the_vocabulary():
    assert [BYTES.control(name) for name in CONTROLS] == [256, 257, 258, 259] and BYTES.vocab_size == 260
    with pytest.raises(UserError, match="id 300"):
        BYTES.encode([user("x"), assistant("y")], lambda text: np.array([300]))


@pytest.mark.parametrize("ids", [[3], [256, 257], [259], [257, 1, 259, 3]], ids=str)
def test_ids_in_another_order_are_refused(ids):
    with pytest.raises(UserError, match="can't stand there"):
        BYTES.decode(ids, byte.decode)


def test_a_run_folder_says_which_format_its_model_speaks(tmp_path):
    assert chat_format.read(tmp_path) is None
    chat_format.write(tmp_path, BYTES)
    assert chat_format.read(tmp_path) == BYTES == chat_format.read(tmp_path / "checkpoint.npz")
    for text in ("", "{}", '{"base": "x"}', '{"base": 256, "controls": ["end"]}', "[" * 10**5):
        (tmp_path / chat_format.NAME).write_text(text)
        with pytest.raises(UserError, match="damaged"):
            chat_format.read(tmp_path)


# -- files of instructions ------------------------------------------------------------------------------------------


def written(folder, *lines):
    path = folder / "talk.jsonl"
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return path


def test_both_forms_of_a_line(tmp_path):
    path = written(tmp_path, {"messages": TALK, "id": 3}, b"\n", {"prompt": "a", "completion": "b"},
                   {"system": "s", "prompt": "a", "completion": "b"})  # fmt: skip
    first, second, third = instructions.read(path)
    assert list(first.messages) == TALK and first.answer == "4" and list(first.prompt) == TALK[:-1]
    assert list(second.messages) == [user("a"), assistant("b")] and second.place.endswith("line 3")
    assert third.messages[0] == {"role": "system", "content": "s"} and third.messages[1:] == second.messages


BAD = {
    "not JSON": (b"{prompt: 1}\n", "not JSON"),
    "cut off": (b'{"prompt": "a", "compl', "not JSON"),
    "no object": ([1, 2], "one object"),
    "no Unicode": (b'{"prompt": "\xff", "completion": "a"}\n', "Unicode"),
    "half a character": ({"prompt": "\ud800", "completion": "a"}, "surrogate"),
    "neither form": ({"text": "a"}, '"messages"'),
    "no completion": ({"prompt": "a"}, '"completion"'),
    "number for a text": ({"prompt": "a", "completion": 3}, '"completion"'),
    "both forms": ({"messages": TALK, "prompt": "a", "completion": "b"}, "one of both"),
    "empty answer": ({"prompt": "a", "completion": ""}, "empty"),
    "unknown role": ({"messages": [user("a"), {"role": "bot", "content": "b"}]}, "'bot'"),
    "no messages": ({"messages": []}, "list of"),
    "message that is none": ({"messages": ["a"]}, "message 1"),
    "no content": ({"messages": [{"role": "user"}]}, "message 1"),
    "no answer": ({"messages": [user("a")]}, "last word"),
    "only a system text": ({"messages": TALK[:1]}, "last word"),
    "two users": ({"messages": [user("a"), user("b"), assistant("c")]}, "message 2 is of the user"),
    "late system text": ({"messages": [user("a"), TALK[0], assistant("c")]}, "message 2 is of the system"),
    "answer first": ({"messages": [assistant("c")]}, "message 1 is of the assistant"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_line_that_teaches_nothing_is_named(tmp_path, bad):
    line, words = bad
    path = written(tmp_path, {"prompt": "a", "completion": "b"}, line)
    with pytest.raises(UserError, match="line 2") as error:
        instructions.read(path)
    assert words in str(error.value) and "talk.jsonl" in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="can't read"):
        instructions.read(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="empty"):
        instructions.read(written(tmp_path, b"\n\n"))


@TIMES
def test_damaged_files_are_read_or_refused(here, times):  # noqa: F811
    rng, path = random.Random(times), here / "talk.jsonl"
    lines = b"".join(json.dumps({"messages": TALK} if n % 2 else {"prompt": "a", "completion": str(n)}).encode() + b"\n" for n in range(9))

    def variants():
        for _ in range(times):
            path.write_bytes(mutated(lines, rng))
            yield path

    counts = outcomes("conversations", lambda path: [BYTES.encode(one.messages, byte.encode) for one in instructions.read(path)], variants(), here / "sprung")
    assert counts["refused"] > times / 4
