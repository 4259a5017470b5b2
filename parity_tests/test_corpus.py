"""Text that is read, parted and written: nothing leaks from one side to the other, and bad input says so."""

import errno
import hashlib
import itertools
import json
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref import files
from numpy_ref.data import corpus, token_files
from numpy_ref.data.split import SHORTEST, _Hashes, deduplicated, split
from numpy_ref.errors import UserError

WORDS = "amber birch cedar delta ember frost grove haven inlet jetty knoll larch maple north ochre pearl quill".split()


def encode(text):
    return np.frombuffer(text.encode(), np.uint8)


def prose(seed, words=40):
    """A paragraph unlike any other: random words in a row."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def document(name, text):
    return corpus.Document(name, len(text.encode()), hashlib.sha256(text.encode()).hexdigest(), lambda: text)


def sides(documents, share=0.1):
    """What is kept of (train, held-out) documents: name -> text."""
    kept = {"train": {}, "validation": {}}
    for side, found, text in deduplicated(*split(documents, share)):
        kept[side][found.name] = text
    return kept["train"], kept["validation"]


def leak(train, held_out, length=50):
    """Share of the ``length``-byte substrings of ``held_out`` that occur in ``train``."""
    seen = {train[i : i + length] for i in range(len(train) - length + 1)}
    starts = range(len(held_out) - length + 1)
    return sum(held_out[i : i + length] in seen for i in starts) / len(starts)


def paragraphs(text):
    folded = (" ".join(p.split()) for p in text.split("\n\n"))
    return [p for p in folded if len(p) >= SHORTEST]


def complaint(call, *arguments, **options):
    """The one-line message of the UserError that the call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


# Sources


def test_samples_are_many_large_and_different():
    texts = [d.text for d in corpus.documents("samples")]
    assert len(texts) >= 20 and sum(map(len, texts)) >= 40_000
    assert all(text.isascii() and 1500 < len(text) and text.endswith("\n") for text in texts)
    titles = [text.split("\n")[0] for text in texts]
    assert len(set(titles)) == len(titles) and all(titles)
    words = [set(text.lower().split()) for text in texts]
    assert all(len(a & b) < 0.5 * len(a | b) for a, b in itertools.combinations(words, 2))
    everything = "\n\n".join(texts)
    assert len(set(paragraphs(everything))) == len(paragraphs(everything))
    assert "The future of" in everything and "Artificial intelligence" in everything


def test_pydoc_is_every_topic():
    from pydoc_data.topics import topics

    assert {d.name: d.text for d in corpus.documents("pydoc")} == topics


def test_stdlib_is_source_only():
    found = corpus.documents("stdlib")
    names = [d.name for d in found]
    assert names == sorted(names) and {"json/decoder.py", "random.py"} <= set(names)
    assert not any("site-packages" in name or "__pycache__" in name for name in names)
    assert all(name.endswith(".py") for name in names) and sum(d.size for d in found) > 5_000_000


def test_folder_takes_text_of_any_kind_and_leaves_the_rest(tmp_path):
    content = {f"{i}/note{i}.{kind}": prose(i) for i, kind in enumerate(["txt", "md", "py", "rst", "csv", "log"] * 3)}
    left_out = {"photo.jpg": b"\xff\xd8\0\1", "latin.txt": b"caf\xe9", "empty.txt": b"", "blank": b"\n \n"}
    left_out |= {".hidden": b"secret", ".git/config": b"secret", "__pycache__/x.py": b"secret"}
    for name, text in (content | left_out).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    assert {d.name: d.text for d in corpus.documents(tmp_path)} == content
    token_files.prepare(tmp_path, tmp_path / "run", encode, "uint8")
    assert {d.name: d.text for d in corpus.documents(tmp_path)} == content  # our own files are no text


def test_line_ends_and_byte_order_mark_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert corpus.documents(tmp_path / "a.txt")[0].text == "one\ntwo\n"


@given(st.text(st.sampled_from("ab \n\né漢"), min_size=1, max_size=9000).filter(str.strip), st.integers(4, 2000))
def test_sections_are_the_file_without_overlap(tmp_path_factory, text, section):
    path = tmp_path_factory.mktemp("cut") / "file.txt"
    path.write_text(text, newline="")
    found = list(corpus._sections(corpus._file(path, "file.txt"), section))
    assert "".join(d.text for d in found) == text  # each decodes alone: no cut inside a character
    assert all(d.size <= 2 * section for d in found) and [d.name for d in found] == sorted(d.name for d in found)


def test_a_file_is_cut_at_blank_lines(tmp_path):
    blocks = [prose(i) + "\n\n" for i in range(200)]
    (tmp_path / "book.txt").write_text("".join(blocks))
    found = corpus.documents(tmp_path / "book.txt")
    assert 30 <= len(found) <= 60 and all(d.text.endswith("\n\n") for d in found)
    (tmp_path / "note.txt").write_text(prose(0))
    names = [d.name for d in corpus.documents(tmp_path)]  # in a folder as well, where one file is most of the text
    assert names[-1] == "note.txt" and len(names) > 30


# De-duplication and split


def test_a_paragraph_occurs_once_and_on_the_held_out_side():
    shared, wrapped = prose(1), prose(1).replace(" ", "\n   ", 9)
    documents = [document(f"{i:02}", f"Title {i}\n\n{prose(100 + i)}\n\n{prose(200 + i)}\n") for i in range(20)]
    _, held_out = split(documents)
    name = held_out[0].name
    changed = [document(d.name, d.text + f"\n{shared if d.name == name else wrapped}\n") for d in documents]
    train, validation = sides(changed)
    assert shared in validation[name]
    assert sum(p == shared for text in (*train.values(), *validation.values()) for p in paragraphs(text)) == 1
    assert train == {d.name: d.text.strip() for d in documents if d.name in train} and len(train) >= 17


def test_near_duplicates_leave_the_training_side():
    held_out, other = document("h", f"{prose(1, 60)}\n\n{prose(2, 60)}"), document("other", prose(3, 60))
    near = prose(1, 60).replace("amber", "*Amber*,").replace(" ", "\n", 4) + " -- with another end"
    joined = f"{prose(1, 60)} {prose(2, 60)}"  # where the held-out text has a paragraph break
    few = f"{prose(4, 60)} {prose(1, 60)[:60]}"  # one shared phrase is no copy
    train = [document("near", near), other, document("joined", joined), document("few", few)]
    kept = [d.name for side, d, _ in deduplicated(train, [held_out]) if side == "train"]
    assert kept == ["other", "few"]


def test_titles_go_with_their_paragraph_and_copies_vanish():
    text = f"First title\n\n{prose(1)}\n\nSecond title\n\n{prose(2)}"
    held_out, short = document("h", f"{prose(2)}"), "Ode\n\nto a short line\n\nand another\n"
    train = [document("a", text), document("copy", text + "\n\n"), document("b", short), document("c", short)]
    kept = [(side, d.name, text) for side, d, text in deduplicated(train, [held_out])]
    assert kept == [
        ("validation", "h", prose(2)),
        ("train", "a", f"First title\n\n{prose(1)}"),
        ("train", "b", short.strip()),
    ]


def test_a_document_that_loses_nearly_all_its_text_goes_as_a_whole():
    held_out, underlined = document("h", prose(1, 200)), "A title of some length\n" + 22 * "="
    train = [document("gone", f"{underlined}\n\n{prose(1, 200)}"), document("stays", f"{underlined}\n\n{prose(2)}")]
    assert [d.name for side, d, _ in deduplicated(train, [held_out]) if side == "train"] == ["stays"]


def test_pydoc_does_not_leak():
    documents = corpus.documents("pydoc")
    before = ["\n\n".join(d.text for d in side).encode() for side in split(documents)]
    after = ["\n\n".join(side.values()).encode() for side in sides(documents)]
    assert leak(*before) > 10 * leak(*after)
    assert leak(*after) < 0.03  # what remains is the rules of tables and turns of phrase
    assert 0.05 < len(after[1]) / sum(map(len, after)) < 0.2
    assert sum(map(len, after)) > 0.7 * sum(d.size for d in documents)
    assert not set(paragraphs(after[0].decode())) & set(paragraphs(after[1].decode()))


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=60), st.floats(0.01, 0.5))
def test_split_has_two_sides_whatever_the_sizes(sizes, share):
    documents = [corpus.Document(f"d{i}", size, "", str) for i, size in enumerate(sizes)]
    train, held_out = split(documents, share)
    assert train and held_out
    assert sorted(d.name for d in train + held_out) == sorted(d.name for d in documents)
    size = sum(d.size for d in held_out)
    assert size <= 1.5 * share * sum(sizes) or (len(held_out) == 1 and size == min(sizes))
    again = split(documents[::-1], share)  # the choice does not hang on the order
    if len(set(sizes)) == len(sizes):
        assert {d.name for d in again[1]} == {d.name for d in held_out}


def test_split_stays_put_as_a_corpus_grows():
    few = [corpus.Document(f"d{i}", 100, "", str) for i in range(500)]
    more = [corpus.Document(f"d{i}", 100, "", str) for i in range(1000)]
    old, new = ({d.name for d in split(documents)[1]} for documents in (few, more))
    assert len(old & new) > 0.8 * len(old)


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=20))
def test_set_of_hashes_is_a_set(batches):
    hashes, reference = _Hashes(), set()
    for batch in batches:
        hashes.add(np.array(batch, np.uint64))
        reference |= set(batch)
        assert hashes.contains(np.arange(51, dtype=np.uint64)).tolist() == [i in reference for i in range(51)]
        assert sum(map(len, hashes.runs)) <= 2 * len(reference) + len(batch)


# Token files


def test_prepare_writes_what_memory_would_hold(tmp_path):
    seen = []
    data = token_files.prepare("pydoc", tmp_path, encode, "uint8", progress=lambda *done: seen.append(done))
    train, validation = sides(corpus.documents("pydoc"))
    for name, texts in [("train", train), ("validation", validation)]:
        tokens, expected = getattr(data, name), b"".join(text.encode() + b"\n\n" for text in texts.values())
        assert isinstance(tokens, np.memmap) and not tokens.flags.writeable and tokens.dtype == np.uint8
        assert tokens.tobytes() == expected and getattr(data, f"{name}_bytes") == len(expected)
    header = json.loads((tmp_path / "data.json").read_text())
    assert header == data.header and header["source"] == "pydoc" and set(header["held_out"]) >= set(validation)
    (shard,) = header["train"]["shards"]
    assert shard["sha256"] == hashlib.sha256((tmp_path / "train-00000.bin").read_bytes()).hexdigest()
    assert data.side("validation")[1] == 1.0 and "train" in complaint(data.side, "test")
    done, total = zip(*seen)
    assert list(done) == sorted(done) and done[-1] == total[0] == sum(d.size for d in corpus.documents("pydoc"))
    names = ["data.json", "train-00000.bin", "train-00000.ends", "validation-00000.bin", "validation-00000.ends"]
    assert sorted(os.listdir(tmp_path)) == names


def test_wide_tokens_are_little_endian_and_bytes_are_those_of_the_text(tmp_path):
    data = token_files.prepare("samples", tmp_path, lambda text: [300] * len(text.split()), "uint16")
    assert (tmp_path / "train-00000.bin").read_bytes()[:4] == b"\x2c\x01\x2c\x01" and np.all(data.train == 300)
    tokens, bytes_per_token = data.side("train")
    assert len(tokens) == data.header["train"]["tokens"] and 4 < bytes_per_token < 8
    assert data.train_bytes == round(bytes_per_token * len(tokens)) > 40_000


def test_same_data_is_reused_and_changed_data_is_not(tmp_path):
    source = tmp_path / "book.txt"
    source.write_text("\n\n".join(prose(i) for i in range(50)))

    def times(tokenizer=encode, **options):
        data = token_files.prepare(source, tmp_path / "run", tokenizer, "uint8", **options)
        return os.stat(tmp_path / "run" / "train-00000.bin").st_ino, data.header["train"]["shards"][0]["sha256"]

    first = times()
    assert times() == first
    assert times(share=0.2)[1] != first[1]
    assert times()[1] == first[1]
    assert times(tokenizer=lambda text: encode(text) ^ 1)[1] != first[1]
    assert times()[1] == first[1]
    with open(source, "a") as file:
        file.write("\n\n" + prose(99))
    assert times()[1] != first[1]
    again = times()
    (tmp_path / "run" / "train-00000.bin").write_bytes(b"cut short")
    assert times()[1] == again[1]


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    for i in range(250):
        words = prose(i, 2000).split()
        (tmp_path / f"{i:03}.txt").write_text("\n\n".join(" ".join(words[j : j + 40]) for j in range(0, 2000, 40)))
    tracemalloc.start()
    data = token_files.prepare(tmp_path, tmp_path / "run", encode, "uint8", share=0.02)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.train_bytes > 2_500_000 and peak < data.train_bytes / 2


# Bad input


def test_bad_paths(tmp_path):
    assert "no file or folder" in complaint(corpus.documents, tmp_path / "none.txt")
    assert "samples, pydoc, stdlib" in complaint(corpus.documents, "pidoc")
    assert "no file or folder ''" in complaint(corpus.documents, "")
    assert "holds no text" in complaint(corpus.documents, tmp_path)
    (tmp_path / "data.bin").write_bytes(bytes(range(256)))
    assert "not UTF-8 text (byte 0)" in complaint(corpus.documents, tmp_path / "data.bin")
    (tmp_path / "latin.txt").write_bytes("Caf\xe9 au lait".encode("latin-1"))
    assert "not UTF-8 text (byte 3)" in complaint(corpus.documents, tmp_path / "latin.txt")
    (tmp_path / "empty.txt").write_bytes(b" \n")
    assert "is empty" in complaint(corpus.documents, tmp_path / "empty.txt")
    assert "holds no text" in complaint(corpus.documents, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in complaint(corpus.documents, tmp_path / "pipe")


def test_unreadable(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(prose(1))
    (tmp_path / "b.txt").write_text(prose(2))
    found = corpus.documents(tmp_path)

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(corpus, "open", refuse, raising=False)
    for source in (tmp_path, tmp_path / "a.txt"):
        assert "Permission denied" in complaint(corpus.documents, source)
    assert "Permission denied" in complaint(lambda: found[0].text)
    monkeypatch.undo()
    monkeypatch.setattr(corpus.os, "scandir", refuse)
    assert "Permission denied" in complaint(corpus.documents, tmp_path)


def test_bytes_that_are_no_text_far_inside_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "SNIFFED", 64)
    (tmp_path / "a.txt").write_bytes(b"word " * 1000 + b"\xff" + b"word " * 1000)
    found = corpus.documents(tmp_path / "a.txt")
    assert "byte 5000" in complaint(lambda: [d.text for d in found])
    (tmp_path / "b.txt").write_text("x" * 63 + "é" * 10)  # the look ends inside a character
    assert corpus.documents(tmp_path / "b.txt")[0].text.endswith("é")


def test_too_little_text(tmp_path):
    (tmp_path / "a.txt").write_text(prose(1))
    assert "at least 2 KB" in complaint(token_files.prepare, tmp_path / "a.txt", tmp_path / "run", encode, "uint8")
    (tmp_path / "a.txt").write_text((prose(1) + "\n\n") * 100)
    message = complaint(token_files.prepare, tmp_path / "a.txt", tmp_path / "run", encode, "uint8")
    assert "no train text once repeated" in message and not (tmp_path / "run" / "data.json").exists()


@pytest.mark.parametrize("share", [0, 1, 0.7, -0.1, float("nan"), "0.1"])
def test_bad_share(share):
    assert "above 0 and at most 0.5" in complaint(split, corpus.documents("samples"), share)


def test_ids_beyond_the_dtype(tmp_path):
    assert "do not fit uint8" in complaint(token_files.prepare, "samples", tmp_path, lambda text: [256], "uint8")
    assert "do not fit" in complaint(token_files.prepare, "samples", tmp_path, lambda text: [-1], "int32")
    assert "can't hold" in complaint(token_files.prepare, "samples", tmp_path, encode, "float32")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_full_and_read_only_disks(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync" if code == errno.ENOSPC else "replace", refuse)
    assert os.strerror(code) in complaint(token_files.prepare, "samples", tmp_path / "run", encode, "uint8")
    assert os.listdir(tmp_path / "run") == []  # no half file
    monkeypatch.undo()
    (tmp_path / "file").write_text("not a folder")
    assert "Not a directory" in complaint(token_files.prepare, "samples", tmp_path / "file" / "run", encode, "uint8")


def test_damaged_token_files(tmp_path):
    assert "no prepared data" in complaint(token_files.open_tokens, tmp_path / "none")
    token_files.prepare("samples", tmp_path, encode, "uint8")
    content = (tmp_path / "train-00000.bin").read_bytes()
    (tmp_path / "train-00000.bin").write_bytes(content[:-1])
    assert "does not hold" in complaint(token_files.open_tokens, tmp_path)
    (tmp_path / "train-00000.bin").write_bytes(content[:-1] + b"?")
    assert "was altered" in complaint(token_files.open_tokens, tmp_path)
    (tmp_path / "train-00000.bin").unlink()
    assert "no prepared data" in complaint(token_files.open_tokens, tmp_path)
    for header in ("", "{}", "[1]", '{"dtype": "nonsense"}'):
        (tmp_path / "data.json").write_text(header)
        assert "is damaged" in complaint(token_files.open_tokens, tmp_path)
