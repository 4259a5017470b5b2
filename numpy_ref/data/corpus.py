"""Where text comes from: three built-in corpora, a file or a folder, as a list of documents read one at a time.

    samples   original texts written for this project, beside this file (about 45 KB)
    pydoc     CPython's help topics, ``pydoc_data.topics`` (about 0.45 MB)
    stdlib    CPython's library source with its tests, every .py file (about 30 MB)
    a path    a UTF-8 text file, a JSONL file, or a folder: every such file in it and below
    hf:NAME   a data set of the package ``datasets``, where that is installed

A document knows its name and size and reads its text when asked, so a corpus may be larger than memory.
What happens next: ``split.py`` parts held-out text from training text, ``token_files.py`` writes both as tokens.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from numpy_ref.data import text_records
from numpy_ref.errors import UserError

DEFINITION = "reading text: no arithmetic"

SOURCES = ("samples", "pydoc", "stdlib")
SAMPLES = Path(__file__).with_name("samples")
SNIFFED = 1 << 20  # bytes of a file that are looked at to tell text from other files
LARGEST = 1 << 24  # bytes: a larger file is cut into sections, so that no document fills the memory
OURS = {"data.json", "progress.json"}  # the token files of a run lie beside one of these
SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "node_modules"}
BLANK_LINES = re.compile(rb"\n(?:[ \t\r\f]*\n)+")


@dataclass(frozen=True, slots=True)  # there may be millions
class Document:
    """A named text. ``size`` is in bytes; ``stamp`` changes when the content does; ``load()`` reads the text."""

    name: str
    size: int
    stamp: str
    load: Callable[[], str]
    path: Path | None = None  # the file it comes from, if it does

    @property
    def text(self):
        """The text, with Unix line ends. Raises UserError when it can't be read."""
        return self.load()


def documents(source):
    """The documents of ``source``, sorted by name: "samples", "pydoc", "stdlib", hf:NAME, or a path to a file or folder.

    A built-in name wins over a path; write ./samples for a folder of that name. In a folder hidden files and whatever
    is not UTF-8 text are passed over. A file that holds more than a tenth of the corpus (a file given alone always
    does) is cut at blank lines into sections of a fiftieth, at least 1 KB: a split by document needs several. Each line
    of a .jsonl file is a document, the text of its "text" (about half a kilobyte of memory each, whatever its length).
    Raises UserError for a path that is missing, unreadable, empty, or not text.
    """
    if source == "pydoc":
        return _pydoc()
    if source == "samples":
        return _files(SAMPLES, SAMPLES.glob("*.txt"))
    if source == "stdlib":
        library = Path(os.__file__).parent
        return _files(library, _walk(library, suffix=".py"))
    if str(source).startswith(text_records.HUGGING_FACE):
        return text_records.hugging_face(str(source), Document)
    path = Path(source)
    try:
        if source and path.is_dir():  # "" would be the current folder
            return _cut_large(_files(path, _walk(path)))
        if source and path.exists():
            return _records(path, path.name) if text_records.is_records(path) else _cut_large([_single(path)])
    except OSError as error:
        raise _unreadable(path, error) from None
    known = ", ".join(SOURCES)
    raise UserError(f"there is no file or folder {str(source)!r}; give an existing path, one of {known}, or hf:NAME")


def fingerprint(documents):
    """sha256 over names, sizes and stamps: the same list of unchanged documents gives the same value."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{document.name}\0{document.size}\0{document.stamp}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _pydoc():
    from pydoc_data.topics import topics  # half a megabyte of strings: loaded only when asked for

    found = []
    for name, text in sorted(topics.items()):
        content = text.encode()
        found.append(Document(name, len(content), hashlib.sha256(content).hexdigest(), lambda text=text: text))
    return found


def _walk(folder, suffix=""):
    """Regular files below ``folder``, without hidden ones, installed packages and prepared token files."""

    def refuse(error):
        raise error

    for root, folders, names in os.walk(folder, onerror=refuse):
        if OURS & set(names) and any(name.startswith(("train", "validation")) for name in names):  # bytes pass for text
            folders.clear()
            continue
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith(".")]
        for name in names:
            path = Path(root, name)
            if name.endswith(suffix) and not name.startswith(".") and path.is_file():
                yield path


def _files(folder, paths):
    found = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if text_records.is_records(path):
            found += _records(path, name)
        elif _fault(path) is None:
            found.append(_file(path, name))
    found.sort(key=lambda document: document.name)
    if not found:
        raise UserError(f"the folder {str(folder)!r} holds no text; put UTF-8 text files in it (not hidden)")
    return found


def _single(path):
    if not path.is_file():
        raise UserError(f"{str(path)!r} is neither a file nor a folder; give a UTF-8 text file or a folder of them")
    fault = _fault(path)
    if fault:
        raise UserError(fault)
    return _file(path, path.name)


def _file(path, name, start=0, end=None):
    """The bytes start..end of a file as a document; decoded only when its text is asked for."""
    status = path.stat()
    end = status.st_size if end is None else end

    def load():
        content = _bytes(path, start, end - start)
        try:
            return content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise UserError(_not_text(path, start + error.start)) from None

    return Document(name, end - start, f"{status.st_mtime_ns}:{start}", load, path)


def _records(path, name):
    """A document for each line of a JSONL file."""
    stamp = path.stat().st_mtime_ns
    found = []
    for number, start, size in text_records.lines(path):

        def load(number=number, start=start, size=size):
            return text_records.text_of(_bytes(path, start, size), path, number)

        found.append(Document(f"{name}#{number:012d}", size, f"{stamp}:{start}", load, path))
    if not found:
        raise UserError(f"the file {str(path)!r} is empty; give a file with at least 2 KB of text")
    return found


def _bytes(path, start, size):
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from None


def _fault(path):
    """What keeps the file from being text, in a line, or None. Looks at the first megabyte."""
    try:
        with open(path, "rb") as file:
            head = file.read(SNIFFED)
            whole = not file.read(1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not head.strip():
        return f"the file {str(path)!r} is empty; give a file with at least 2 KB of text"
    if b"\0" in head:
        return _not_text(path, head.index(b"\0"))
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(head) - 3:  # else the megabyte ends inside a character
            return _not_text(path, error.start)
    return None


def _not_text(path, place):
    return f"{str(path)!r} is not UTF-8 text (byte {place}); save it as UTF-8 plain text or leave it out"


def _unreadable(path, error):
    return UserError(f"can't read {str(error.filename or path)!r}: {error.strerror}; check its permissions")


def _cut_large(found):
    """Large files in sections: those of more than a tenth of the corpus, and those too large to hold in memory."""
    total = sum(document.size for document in found)
    section = min(max(1024, total // 50), LARGEST // 4)
    cut = []
    for document in found:
        if document.size <= min(total // 10, LARGEST) or text_records.is_records(document.path):
            cut.append(document)
        else:
            cut.extend(_sections(document, section))
    return cut


def _sections(document, section):
    """Neighbouring documents of about ``section`` bytes that together are the whole file and never overlap."""
    with open(document.path, "rb") as file:
        start = 0
        while start < document.size:
            end = document.size
            if end - start > section * 3 // 2:
                file.seek(start + section)
                end = start + section + _break(file.read(section))
            yield _file(document.path, f"{document.name}#{start:012d}", start, end)
            start = end


def _break(window):
    """The best place to cut in some bytes: after a blank line, else a line, else a space, else before a character."""
    blank = BLANK_LINES.search(window)
    if blank:
        return blank.end()
    for mark in (b"\n", b" "):
        if mark in window:
            return window.index(mark) + 1
    # 10xxxxxx is not the first byte of a character
    return next((i for i, byte in enumerate(window) if byte & 0xC0 != 0x80), len(window))
