"""Byte pair encoding beyond the agreement of both sides: how text is cut, what training promises, formats, processes."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import torch_impl.tokenizers.bpe as torch_bpe
from numpy_ref.data.token_files import open_tokens
from numpy_ref.errors import UserError
from numpy_ref.tokenizers import pretokenize, tokenizer_file
from numpy_ref.tokenizers.pretokenize import PATTERNS, chunks, pattern, split
from numpy_ref.tokenizers.vocabulary import ALPHABET, bytes_of, visible
from parity_tests.components.bpe import SPECIAL, vocabulary
from parity_tests.texts import MARKER, PIECES, texts
from parity_tests.trained import SMALL, run, wing  # noqa: F401  (fixture)
from parity_tests.wings import WINGS
from torch_impl.tokenizers.processes import in_processes

both = pytest.mark.parametrize("name", PATTERNS)
WHITE_SPACE = set(map(chr, (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)))


# -- cutting ------------------------------------------------------------------------------------------------------


def kind_of(character):
    if character in WHITE_SPACE:
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(character)[0], "other")


def scanned(text, name):
    """The pieces of a text by the words of the published patterns, character by character, without ``re``."""
    pieces, start = [], 0
    kinds = [kind_of(character) for character in text] + ["end", "end"]

    def run_of(i, kind, most=None):
        while kinds[i] == kind and (most is None or most > 0):
            i, most = i + 1, most and most - 1
        return i

    while start < len(text):
        pieces.append(text[start : (start := _next(text, start, kinds, run_of, name))])
    return pieces


def _next(text, i, kinds, run_of, name):
    """Where the piece that begins at ``i`` ends."""
    word = text[i : i + 3] if name == "gpt2" else text[i : i + 3].lower().replace("\u017f", "s")
    for ending in ("s", "t", "re", "ve", "m", "ll", "d"):
        if word.startswith("'" + ending):
            return i + 1 + len(ending)
    ahead = text[i] == " "
    if name == "gpt2":
        for kind in ("letter", "number", "other"):
            if kinds[i + ahead] == kind:
                return run_of(i + ahead, kind)
    else:
        any_mark = kinds[i] not in ("letter", "number") and text[i] not in "\r\n"
        for place in (i + any_mark, i):
            if kinds[place] == "letter":
                return run_of(place, "letter")
        if kinds[i] == "number":
            return run_of(i, "number", 3)
        if kinds[i + ahead] == "other":
            end = run_of(i + ahead, "other")
            while text[end : end + 1] in ("\r", "\n"):
                end += 1
            return end
    end = run_of(i, "space")
    lines = [place for place in range(i, end) if text[place] in "\r\n"]
    if name == "gpt4" and lines:
        return lines[-1] + 1
    return end - 1 if end < len(text) and end - i > 1 else end


@both
@given(text=texts())
def test_pieces_are_those_of_a_scanner(name, text):
    """``re`` with spelt out classes, its fast forms, and a scanner that uses no regular expression: the same pieces."""
    pieces = pattern(name).findall(text)
    assert pieces == scanned(text, name) == split(text, name) and "".join(pieces) == text


CUTTING_BUGS = {
    "white space before a word not left to it": ("gpt2", r"|\s+(?!\S)", ""),
    "the same in GPT-4's": ("gpt4", r"|\s+(?!\S)", ""),
    "digits not cut in threes": ("gpt4", r"\p{N}{1,3}", r"\p{N}+"),
    "contractions in small letters only": ("gpt4", "(?i:", "(?:"),
    "contractions in capitals in GPT-2's": ("gpt2", r"'s|'t|'re|'ve|'m|'ll|'d", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    "line ends not kept with punctuation": ("gpt4", r"[\r\n]*|", "|"),
    "line ends not kept together": ("gpt4", r"|\s*[\r\n]+", ""),
    "letters take line ends in front": ("gpt4", r"[^\r\n\p{L}\p{N}]?", r"[^\p{L}\p{N}]?"),
    "only a space before letters": ("gpt4", r"[^\r\n\p{L}\p{N}]?", " ?"),
    "tabs like spaces": ("gpt2", r"| ?\p{L}+", r"|[ \t]?\p{L}+"),
}


@pytest.mark.parametrize("bug", CUTTING_BUGS)
def test_planted_bugs_in_cutting_are_caught(bug, monkeypatch):
    name, old, new = CUTTING_BUGS[bug]
    assert PATTERNS[name].count(old) == 1
    monkeypatch.setitem(PATTERNS, name, PATTERNS[name].replace(old, new))
    wrong = pattern.__wrapped__(name)
    text = " x ".join(PIECES.values())
    assert wrong.findall(text) != scanned(text, name)


@pytest.mark.parametrize("space", [r"\s", r" \t\r\n", pretokenize.SPACE.replace(r"\x85", "")])
def test_white_space_of_another_kind_is_caught(space, monkeypatch):
    """Python's \\s, ASCII's, and one character too few."""
    monkeypatch.setattr(pretokenize, "SPACE", space)
    text = " ".join(PIECES.values()) + "a\x85\x85b"
    assert any(pattern.__wrapped__(name).findall(text) != scanned(text, name) for name in PATTERNS)


@both
@given(text=texts(20), size=st.integers(1, 40), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_chunks_are_cut_where_no_pattern_notices(name, text, size, cuts):
    blocks = [text[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), None])]
    found = list(chunks(blocks, size))
    assert "".join(found) == text and [piece for chunk in found for piece in split(chunk, name)] == split(text, name)


# -- training and encoding ----------------------------------------------------------------------------------------


@both
@given(found=st.lists(texts(), max_size=3), text=texts())
def test_what_training_promises(name, found, text):
    """Every token stands for other bytes, alone is encoded as itself, and no text is lost, also in pieces."""
    learnt = torch_bpe.train(found, 300, name, SPECIAL, 1)
    bpe = torch_bpe.BPE(learnt)
    assert len(set(learnt.tokens)) == len(learnt) and learnt.special == {MARKER: len(learnt) - 2, "<|end": len(learnt) - 1}
    for token, i in learnt.ids.items():
        if len(token) > 1:
            assert bpe._words._join_short([learnt.byte_ids[byte] for byte in token]) == [i]
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text and not set(ids.tolist()) & set(learnt.special.values())
    stream = bpe.decoder()
    assert "".join(stream.push(i) for i in ids) + stream.finish() == text


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_worked_example(wing):
    """"aaabdaaabac" of the original algorithm's article: Z = aa, Y = ab, X = ZY, by counting on paper."""
    module = wing.module("tokenizers.bpe")
    learnt = module.train(["aaabdaaabac"], 259, "gpt2")
    assert [learnt.tokens[i] for i in (256, 257, 258)] == [b"aa", b"ab", b"aaab"]
    ids = module.BPE(learnt).encode("aaabdaaabac").tolist()
    assert ids == [258, learnt.ids[b"d"], 258, learnt.ids[b"a"], learnt.ids[b"c"]]


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_special_tokens_only_by_name(wing):
    bpe = wing.module("tokenizers.bpe").BPE(vocabulary("learnt", "gpt4"))
    special = bpe.vocabulary.special
    ids = bpe.encode(f"a{MARKER}b").tolist()
    assert special[MARKER] not in ids and bpe.decode(ids) == f"a{MARKER}b"
    assert bpe.encode(f"a{MARKER}b", (MARKER,)).tolist() == [*bpe.encode("a").tolist(), special[MARKER], *bpe.encode("b").tolist()]
    assert bpe.encode("<|end<|endoftext|>", SPECIAL).tolist() == [special["<|end"], special[MARKER]]  # the longer name wins
    with pytest.raises(UserError, match="no special token '<\\|other"):
        bpe.encode("a", ("<|other|>",))


def test_processes_and_chunks_change_nothing(monkeypatch):
    """Small chunks in two processes give what one pass gives; what fails there is heard of here."""
    text = " ".join(PIECES.values()) * 3
    known = vocabulary("learnt", "gpt4")
    whole, learnt = torch_bpe.BPE(known).encode(text), torch_bpe.train([text] * 5, 300)
    monkeypatch.setattr(torch_bpe, "_SHARE", 128)
    monkeypatch.setattr(torch_bpe, "_CHUNK", 32)
    bpe = torch_bpe.BPE(known)
    assert bpe.encode(text, workers=2).equal(whole) and torch_bpe.train([text] * 5, 300, workers=2) == learnt
    found = list(bpe.encode_all([text, "", "a", text, text, text], workers=2))
    assert [len(ids) for ids in found[1:3]] == [0, 1] and all(found[i].equal(whole) for i in (0, 3, 4, 5))
    with pytest.raises(UserError, match="surrogate"):
        list(bpe.encode_all([text] * 9 + ["\ud800"], workers=2))
    ahead = []
    stream = in_processes(lambda shared, item: item, None, (ahead.append(n) or n for n in range(100)), 2)
    assert next(stream) == 0 and len(ahead) < 20  # nobody reads the whole input ahead
    stream.close()


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(torch_bpe, "_MOST_CACHED", 10)
    bpe = torch_bpe.BPE(vocabulary("learnt", "gpt4"))
    numbers = " ".join(map(str, range(300)))
    assert bpe.decode(bpe.encode(numbers)) == numbers and len(bpe._words) <= 10


# -- what is published --------------------------------------------------------------------------------------------


def test_bytes_in_visible_characters():
    """GPT-2's table: what its vocab.json shows for a space, a line end, a tab, a soft hyphen, byte 0 and "é"."""
    assert visible(b" \n\t\xad\x00") == "\u0120\u010a\u0109\u0143\u0100" and visible("é".encode()) == "Ã©"
    assert visible(b"Az~\xa1\xff") == "Az~¡ÿ" and bytes_of("\u0120a") == b" a" and bytes_of("\u4e00") is None
    assert [ALPHABET[i] for i in (0, 93, 94, 187, 188, 220, 255)] == [0x21, 0x7E, 0xA1, 0xFF, 0x00, 0x20, 0xAD]


def test_a_shifted_table_is_caught(monkeypatch):
    from numpy_ref.tokenizers import vocabulary as module

    monkeypatch.setattr(module, "VISIBLE", {byte: chr(ord(c) + 1) if c > "\xff" else c for byte, c in module.VISIBLE.items()})
    with pytest.raises(AssertionError):
        test_bytes_in_visible_characters()


# -- a run and its tokenizer --------------------------------------------------------------------------------------


def test_a_run_carries_its_tokenizer(wing, tmp_path, capsys):
    """Train a tokenizer, train with it, go on, measure and speak, on either side."""
    other = WINGS[1 - WINGS.index(wing)]
    tokenizer, out = tmp_path / "tokenizer", tmp_path / "run"
    assert run(wing, "tokenizer", "train", "--data", "samples", "--vocab-size", 300, "--special", MARKER, "--out", tokenizer) == 0
    small = [*SMALL, "--steps", 2, "--data", "samples", "--out", out]
    assert run(wing, "train", *small, "--tokenizer", tokenizer) == 0
    learnt = tokenizer_file.read(out)
    assert learnt == tokenizer_file.read(tokenizer) and len(learnt) == 300 and learnt.special == {MARKER: 299}
    data = open_tokens(out / "data")
    assert data.train.dtype == np.uint16 and data.train.max() < 299
    assert len(torch_bpe.BPE(learnt).decode(np.array(data.validation)).encode()) == data.validation_bytes
    assert run(other, "train", "--resume", "--out", out, "--steps", 3) == 0
    capsys.readouterr()
    said = []
    for one in WINGS:
        arguments = ("--checkpoint", out, "--device", "cpu")
        assert run(one, "generate", *arguments, "--prompt", f"The {MARKER}", "--greedy", "--tokens", 9) == 0
        said.append(capsys.readouterr().out)
        assert run(one, "eval", *arguments, "--data", "samples", "--json") == 0
        measured = json.loads(capsys.readouterr().out)
        per_token = data.validation_bytes / len(data.validation)
        assert measured["bits_per_byte"] == pytest.approx(measured["loss"] / np.log(2) / per_token)
    assert said[0] == said[1] and said[0].startswith(f"The {MARKER}")
    assert run(wing, "attention", "--checkpoint", out, "--prompt", "The end", "--out", tmp_path / "a.png") == 0
    assert run(wing, "quantize", "--checkpoint", out, "--bits", 8, "--out", tmp_path / "q") == 0
    assert tokenizer_file.read(tmp_path / "q") == learnt
    for arguments, words in {
        ("train", *small): "--resume",
        ("train", *small[:-1], tokenizer): "holds a tokenizer",
        ("train", "--resume", "--out", out, "--tokenizer", tmp_path / "q" / "config.json"): "config.json",
        ("train", *small[:-1], tmp_path / "new", "--tokenizer", tokenizer, "--vocab-size", 299): "300 tokens",
        ("train", *small[:-1], tmp_path / "new", "--tokenizer", tmp_path): "no tokenizer",
        ("tokenizer", "train", "--data", "samples", "--vocab-size", 200, "--out", tmp_path / "t"): "200 ",
        ("tokenizer", "train", "--data", "samples", "--vocab-size", 2**30, "--out", tmp_path / "t"): "too large",
        ("tokenizer", "inspect", "--tokenizer", tokenizer, "--texts", "a"): "--text",
        ("tokenizer", "encode", "--tokenizer", tokenizer, "--input", tmp_path / "a.png", "--out", tmp_path / "x"): "UTF-8",
    }.items():
        capsys.readouterr()
        assert run(wing, *arguments) == 2, arguments
        assert words in capsys.readouterr().err, arguments


def test_tokenizer_commands(wing, tmp_path, capsys):
    text = "".join(PIECES.values())
    source, out = tmp_path / "text.txt", tmp_path / "ids.bin"
    source.write_bytes(text.encode())
    tokenizer_file.write(vocabulary("learnt", "gpt4"), tmp_path)
    assert run(wing, "tokenizer", "encode", "--tokenizer", tmp_path, "--input", source, "--out", out) == 0
    ids = np.frombuffer(out.read_bytes(), "<u2")
    assert torch_bpe.BPE(vocabulary("learnt", "gpt4")).encode(text).tolist() == ids.tolist()
    capsys.readouterr()
    assert run(wing, "tokenizer", "inspect", "--tokenizer", tmp_path, "--text", " the cat", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tokens"][0].startswith("Ġ")
    assert run(wing, "tokenizer", "inspect", "--tokenizer", tmp_path) == 0
    assert "gpt4" in capsys.readouterr().out
    for number, format in enumerate(tokenizer_file.FORMATS):
        folder = tmp_path / str(number)
        assert run(wing, "tokenizer", "convert", "--tokenizer", tmp_path, "--format", format, "--out", folder) == 0
        special = SPECIAL if format == "tiktoken" else ()
        assert tokenizer_file.read(folder, "gpt4", special) == vocabulary("learnt", "gpt4")
    assert "<|endoftext|>" in capsys.readouterr().err  # .tiktoken has no place for it


# -- the bench ----------------------------------------------------------------------------------------------------


def test_the_bench_times_only_what_agrees(tmp_path, monkeypatch):
    """Both jobs on a small corpus: right results have a time, a tokenizer that learns or writes other ids has none."""
    from bench import plan, report, rows, tokenizing, worker

    stamp = {"run": "now", "time": "2026-01-01T00:00:00Z", "commit": "none", "dirty": False, "environment": {}}
    found = []
    for (job,) in tokenizing.groups(plan.Options(), source="samples", vocab_size=300):
        job |= {"cache": str(tmp_path)}
        answer = worker.answer(job)
        assert answer["status"] == "ok" and answer["parity"]["worst"] == 0, answer
        found += rows.combine(job, [answer], stamp)
    for row in found:
        rows.check(row)
    text = "\n".join(tokenizing.sections(report.latest(found), {}))
    assert "bpe training" in text and "bpe encoding" in text and "| ours |" in text and "1.00" in text
    monkeypatch.setattr(torch_bpe.MergeCache, "_join_short", lambda self, word: word)
    assert worker.answer(job)["status"] == "parity_failed"
