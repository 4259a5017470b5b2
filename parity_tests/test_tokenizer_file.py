"""Tokenizer files: what is written is read again, and whatever a file says, the answer is a Vocabulary or one clear line."""

import base64
import functools
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_impl.tokenizers.bpe as torch_bpe
from numpy_ref.errors import UserError
from numpy_ref.tokenizers import tokenizer_file
from numpy_ref.tokenizers.pretokenize import PATTERNS
from numpy_ref.tokenizers.vocabulary import MOST, Vocabulary, trained, with_special
from parity_tests.components.bpe import vocabulary
from parity_tests.harness.record import record
from parity_tests.texts import MARKER, PIECES

SAMPLE = "".join(PIECES.values())


@functools.cache
def small():
    return torch_bpe.train([SAMPLE] * 2, 300, "gpt4", (MARKER,))


def files_of(known):
    """{format: the bytes of its files}."""
    return {
        "json": tokenizer_file.to_json(known),
        "gpt2": tokenizer_file.to_gpt2(known),
        "tiktoken": tokenizer_file.to_tiktoken(known),
    }


READERS = {
    "json": tokenizer_file.from_json,
    "gpt2": lambda vocab, merges: tokenizer_file.from_gpt2(vocab, merges, "gpt4"),
    "tiktoken": lambda content: tokenizer_file.from_tiktoken(content, "gpt4"),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", ["bytes alone", "learnt", "random merges"])
@pytest.mark.parametrize("format", tokenizer_file.FORMATS)
def test_what_is_written_is_read(kind, pattern, format, tmp_path):
    known = vocabulary(kind, pattern)
    if (kind, format) == ("random merges", "tiktoken"):  # ranks alone can't say it: some tokens are never made
        pytest.skip("no such file")
    paths = tokenizer_file.write(known, tmp_path, format)
    special = () if format != "tiktoken" else tuple(known.special)
    for place in (tmp_path, *paths):
        again = tokenizer_file.read(place, pattern, special)
        assert again == known and again.ranks == known.ranks
    assert {path.name for path in tmp_path.iterdir()} == set(tokenizer_file.FORMATS[format])


def test_first_lines_are_those_of_the_published_files(tmp_path):
    """The shapes that other programs look for."""
    known = trained([(39, 68), (220, 83)], "gpt2", ("<|endoftext|>",))  # "He" and " t"
    vocab, merges = tokenizer_file.to_gpt2(known)
    assert merges == "#version: 0.2\nH e\nĠ t\n".encode()
    assert json.loads(vocab) | {"!": 0, "H": 39, "Ġ": 220, "He": 256, "Ġt": 257, "<|endoftext|>": 258} == json.loads(vocab)
    assert tokenizer_file.to_tiktoken(known)[0].splitlines()[:2] == [b"IQ== 0", b"Ig== 1"]
    whole = json.loads(tokenizer_file.to_json(known)[0])
    assert whole["model"]["merges"] == ["H e", "Ġ t"] and whole["pre_tokenizer"]["type"] == "ByteLevel"
    whole["model"]["merges"] = [["H", "e"], ["Ġ", "t"]]  # as newer versions write them
    assert tokenizer_file.from_json(json.dumps(whole).encode()) == known


def test_ids_in_any_order_and_with_gaps():
    """cl100k has bytes in another order, a gap before its special tokens; files of others begin with special tokens."""
    known = small()
    shift = {i: 5 + 2 * i for i in range(len(known))}
    tokens = [None] * (2 * len(known) + 5)
    for i, token in enumerate(known.tokens):
        tokens[shift[i]] = token
    merges = tuple((shift[left], shift[right]) for left, right in known.merges)
    odd = Vocabulary(tuple(tokens[:-1]), merges, "gpt4", {MARKER: shift[known.special[MARKER]]})
    for format, contents in files_of(odd).items():
        again = READERS[format](*contents)
        assert again.ids == odd.ids and again.merges == odd.merges and (format == "tiktoken" or again == odd)
    ids = torch_bpe.BPE(odd).encode(SAMPLE)
    assert ids.tolist() == [shift[i] for i in torch_bpe.BPE(known).encode(SAMPLE).tolist()]
    with pytest.raises(UserError, match="not in the vocabulary"):
        torch_bpe.BPE(odd).decode([6])


# -- files that are wrong -----------------------------------------------------------------------------------------


def changed(**changes):
    """tokenizer.json with other values at the top, in the model or in the only added token."""
    whole = json.loads(tokenizer_file.to_json(small())[0])
    for key, value in changes.items():
        place = whole if key in whole else whole["added_tokens"][0] if key in whole["added_tokens"][0] else whole["model"]
        place[key] = value
    return json.dumps(whole).encode()


def test_the_unchanged_file_is_fine():
    assert tokenizer_file.from_json(changed()) == small()


BAD = {
    "empty": (b"", "JSON"),
    "a list": (b"[]", "not a JSON object"),
    "not UTF-8": (b'{"model": "\xff"}', "UTF-8"),
    "nested without end": (b'{"model":' + b"[" * 200_000, "nests too deeply"),
    "a name twice": (b'{"model": 1, "model": 2}', "twice"),
    "half a surrogate": (b'{"model": "\\ud800"}', "surrogate"),
    "no model": (b"{}", "model"),
    "another model": (changed(type="WordLevel"), "WordLevel"),
    "a word's end": (changed(end_of_word_suffix="</w>"), "</w>"),
    "a normaliser": (changed(normalizer={"type": "NFC"}), "normaliser"),
    "another pattern": (changed(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer"),
    "no pattern": (changed(pre_tokenizer=None), "pre_tokenizer"),
    "an unknown expression": (changed(pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}), "pre_tokenizer"),
    "a space in front": (changed(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True}), "pre_tokenizer"),
    "a huge id": (changed(id=2**40), "below"),
    "a negative id": (changed(id=-1), "below"),
    "an id that is no number": (changed(id="7"), "below"),
    "an id that is true": (changed(id=True), "below"),
    "an id of another token": (changed(id=3), "same id"),
    "a special token like a word": (changed(content="aa"), "one id"),
    "a special token of white space": (changed(lstrip=True), "takes text around it"),
    "a merge of nothing": (changed(merges=["a"]), "merge 0"),
    "a merge of three": (changed(merges=[["a", "b", "c"]]), "merge 0"),
    "a merge of numbers": (changed(merges=[[1, 2]]), "merge 0"),
    "merges that are no list": (changed(merges="a b"), "list"),
    "no merges": (changed(merges=[]), "no merge makes"),
    "an id that is a list": (changed(vocab={"a": []}), "below"),
    "few bytes": (changed(vocab={"a": 0}, merges=[]), "byte"),
    "characters for no byte": (changed(vocab={"語": 0}, merges=[]), "byte-level"),
}  # fmt: skip


@pytest.mark.parametrize("content, words", BAD.values(), ids=BAD)
def test_a_wrong_file_is_one_clear_line(content, words, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        tokenizer_file.read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_wrong_places(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no tokenizer"):
        tokenizer_file.read(tmp_path)
    with pytest.raises(UserError, match="no tokenizer"):
        tokenizer_file.read(tmp_path / "nowhere")
    tokenizer_file.write(small(), tmp_path, "gpt2")
    for content in (b"null", b"[]", b'{"a": 1}', b'"'):
        with pytest.raises(UserError):
            tokenizer_file.from_gpt2(content, b"", "gpt2")
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match="can't read merges.txt"):
        tokenizer_file.read(tmp_path)
    tokenizer_file.write(small(), tmp_path)
    with pytest.raises(UserError, match="is gpt4, not gpt2"):
        tokenizer_file.read(tmp_path, "gpt2")
    monkeypatch.setattr(tokenizer_file, "LARGEST", 10)
    with pytest.raises(UserError, match="larger"):
        tokenizer_file.read(tmp_path)
    with pytest.raises(UserError, match="format"):
        tokenizer_file.write(small(), tmp_path, "pickle")


def test_wrong_vocabularies():
    known = small()
    for tokens, merges, special, words in (
        (known.tokens, known.merges, {MARKER: len(known) - 1, "two": len(known) - 1}, "same id"),
        (known.tokens, (*known.merges, known.merges[0]), known.special, "twice|in use"),
        (known.tokens, known.merges[::-1], known.special, "no merge before"),
        (known.tokens, (*known.merges, (0, 0)), known.special, "makes no token"),
        (known.tokens, known.merges, {"other": len(known) - 1}, "fit its id"),
        (known.tokens, known.merges, {MARKER: 5}, "no token for byte"),
        ((None,) * (MOST + 1), (), {}, "at most"),
    ):
        with pytest.raises(UserError, match=words):
            Vocabulary(tokens, merges, "gpt4", special)
    for name, words in ((MARKER, "already"), ("", "needs a name"), ("\ud800", "UTF-8"), ("aa", "looks like")):
        with pytest.raises(UserError, match=words):
            with_special(known, [name])
    with pytest.raises(UserError, match="pattern"):
        Vocabulary(known.tokens, known.merges, "gpt5", known.special)
    learnt = trained([(64, 64), (65, 65)], "gpt4", ())
    swapped = (*learnt.tokens[:256], learnt.tokens[257], learnt.tokens[256])
    with pytest.raises(UserError, match="order of the ids"):
        tokenizer_file.to_tiktoken(Vocabulary(swapped, learnt.merges))


def test_no_number_in_a_file_is_trusted_with_memory():
    line = base64.b64encode(b"a") + b" "
    bombs = [(tokenizer_file.from_tiktoken, (line + b"9" * 100_000, "gpt4")), (tokenizer_file.from_tiktoken, (line + b"4294967295", "gpt4"))]
    bombs += [(tokenizer_file.from_json, (changed(id=MOST),)), (tokenizer_file.from_json, (changed(id=10**4000),))]
    bombs += [(tokenizer_file.from_tiktoken, (line + b"1048575\n", "gpt4"))]  # the largest id that there may be
    for read, content in bombs:
        tracemalloc.start()
        with pytest.raises(UserError):
            read(*content)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 << 20


# -- the fuzz -----------------------------------------------------------------------------------------------------

CONTENTS = files_of(small())
WORDS = [b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b'"a b"', b"99999999999", b"\xff", b"\x00", b'\\ud800', b"\n",
         b"\xe2\x80\xa9", b" ", b"=", b"0", b"256", b'"merges"', b'"__class__"', b"\x80\x04\x95"]  # fmt: skip


@st.composite
def mutated(draw):
    """(format, the bytes of its files after up to four changes)."""
    format = draw(st.sampled_from(sorted(CONTENTS)))
    contents = list(CONTENTS[format])
    for _ in range(draw(st.integers(1, 4))):
        which = draw(st.integers(0, len(contents) - 1))
        content = contents[which]
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 1, 2, 5, 40, 400, len(content)])))
        other = draw(st.integers(0, len(content)))
        new = draw(st.sampled_from(["", "word", "word", "flip", "copy", "double"]))
        put = {"": b"", "word": draw(st.sampled_from(WORDS)), "flip": bytes(255 - b for b in content[start:end][:9]),
               "copy": content[other : other + 30], "double": content[start:end] * 2}[new]  # fmt: skip
        contents[which] = content[:start] + put + content[end:]
    return format, contents


def examined(format, contents):
    """Read them: a Vocabulary that works, or a UserError of one line. Anything else fails the test."""
    try:
        known = READERS[format](*contents)
    except UserError as error:
        assert 15 < len(str(error)) < 400 and "\n" not in str(error)
        return False
    bpe = torch_bpe.BPE(known)
    assert bpe.decode(bpe.encode(SAMPLE)) == SAMPLE
    return True


@given(mutated())
@settings(max_examples=300)
def test_fuzzed_files(case):
    examined(*case)


@pytest.mark.nightly
def test_thousands_of_fuzzed_files():
    counts = {"read": 0, "refused": 0}

    @given(mutated())
    @settings(max_examples=5000)
    def fuzz(case):
        counts["read" if examined(*case) else "refused"] += 1

    fuzz()
    record(fuzz="tokenizer files", **counts)


def test_a_change_of_every_byte_in_turn():
    """Each byte of the small files, one after the other, a seventh of them: what is still read is another vocabulary."""
    rng = np.random.default_rng(0)
    read = 0
    for format, contents in CONTENTS.items():
        for which, content in enumerate(contents):
            for place in rng.choice(len(content), 60, replace=False):
                broken = list(contents)
                broken[which] = content[:place] + bytes([rng.integers(256)]) + content[place + 1 :]
                read += examined(format, broken)
    assert read < 120
