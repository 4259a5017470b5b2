"""Tokenizers at the command line: train, encode, inspect and convert one; and the one that a run was trained with.

A run without tokenizer.json reads its text as bytes.
"""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.data import chat_format
from numpy_ref.data.corpus import documents
from numpy_ref.data.split import split
from numpy_ref.data.token_files import prepare
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.progress import counter
from numpy_ref.tokenizers import tokenizer_file
from numpy_ref.tokenizers.kinds import KINDS
from numpy_ref.tokenizers.pretokenize import PATTERNS, chunks
from numpy_ref.tokenizers.vocabulary import with_special

DEFINITION = "words for people and files: the wings compute"

BLOCK = 1 << 20  # characters of a file that are read at a time


# -- the tokenizer of a run ---------------------------------------------------------------------------------------


def speaking(wing, folder):
    """The wing with the tokenizer that lies in a folder, or in the folder of a checkpoint file; bytes if none does.

    And with the chat format of the folder's model, if it knows one.
    """
    path = Path(folder)
    file = (path if path.is_dir() else path.parent) / tokenizer_file.JSON
    wing = with_vocabulary(wing, tokenizer_file.read(file)) if file.is_file() else wing
    chat = chat_format.read(path)
    return with_chat(wing, chat) if chat else wing


def with_chat(wing, chat):
    """The wing, decoding control ids too."""
    decoder = wing.decoder
    return dataclasses.replace(wing, chat=chat, decoder=lambda: chat_format.Decoder(chat, decoder()))


def with_vocabulary(wing, vocabulary):
    """The wing, encoding and decoding by a vocabulary of any kind."""
    made = wing.tokenizers[vocabulary.kind](vocabulary)
    return dataclasses.replace(
        wing, encode=made.encode, encode_all=made.encode_all, decoder=made.decoder, vocabulary=vocabulary
    )


def of_training(wing, options, out, resume):
    """The wing with the tokenizer of a run that begins in ``out``, or goes on there."""
    had = speaking(wing, out)
    if not hasattr(options, "tokenizer"):
        if had.vocabulary and not resume and not (out / checkpoint_file.NAME).exists():
            raise UserError(f"{out} holds a tokenizer; train with it by --tokenizer {out}, or take another --out")
        return had
    asked = with_vocabulary(wing, tokenizer_file.read(options.tokenizer))
    if resume and asked.vocabulary != had.vocabulary:
        raise UserError(f"the run in {out} has another tokenizer than {options.tokenizer}; start a new run for that")
    return asked


def keep(wing, out):
    """Write the wing's tokenizer and chat format into a run folder, where every command finds them."""
    if wing.vocabulary:
        tokenizer_file.write(wing.vocabulary, out)
    if wing.chat:
        chat_format.write(out, wing.chat)


def check_same(wing, folder):
    """Raise UserError unless a second model, in ``folder``, has the wing's tokenizer."""
    if speaking(wing, folder).vocabulary != wing.vocabulary:
        raise UserError(f"{folder} has another tokenizer; two models can only share tokens of one")


def tokens_of(wing, source, folder):
    """The Dataset of a corpus in the wing's tokens (see ``token_files.prepare``)."""
    how = {}
    if wing.vocabulary:
        name = hashlib.sha256(tokenizer_file.to_json(wing.vocabulary)[0]).hexdigest()
        how = {"encode_all": wing.encode_all, "tokenizer": name}
    dtype = wing.vocabulary.dtype if wing.vocabulary else np.uint8
    return prepare(source, folder, wing.encode, dtype, progress=counter(f"reading {source}"), **how)


# -- commands -----------------------------------------------------------------------------------------------------


def add(command):
    """Add the commands; ``command(name, help, run)`` makes a parser."""
    parser = command("train", "learn a tokenizer from text: a folder with tokenizer.json", train)
    parser.add_argument("--kind", choices=KINDS, help="how tokens are chosen (bpe)")
    parser.add_argument("--data", required=True, help="samples, pydoc, stdlib, a text file or a folder of them")
    parser.add_argument("--vocab-size", type=int, required=True, metavar="N", help="tokens, the bytes among them")
    parser.add_argument("--pattern", choices=PATTERNS, help="how text is cut into pieces (gpt4)")
    _add_special(parser)
    parser.add_argument("--min-frequency", type=int, metavar="N", help="pairs (unigram: substrings) that occur less often make no token (2)")
    _add_out(parser)

    parser = command("encode", "write the token ids of a text file, however long it is", encode)
    _add_tokenizer(parser)
    parser.add_argument("--input", required=True, metavar="FILE", help="UTF-8 text")
    parser.add_argument("--out", required=True, metavar="FILE", help="ids, little-endian, one after the other")

    parser = command("inspect", "show a tokenizer, or how it cuts a text", inspect)
    _add_tokenizer(parser)
    parser.add_argument("--text", help="a text to cut into tokens")
    parser.add_argument("--json", action="store_true", help="print one JSON object")

    parser = command("convert", "write a tokenizer in another format", convert)
    _add_tokenizer(parser)
    _add_special(parser)
    parser.add_argument("--pattern", choices=PATTERNS, help="of files that name none (gpt2 for vocab.json, gpt4)")
    _add_out(parser)


def _add_tokenizer(parser):
    help = "folder with tokenizer.json, vocab.json and merges.txt, or tokenizer.tiktoken; a run folder; such a file"
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help=help)
    parser.add_argument("--kind", choices=KINDS, help="refuse a tokenizer of another kind")


def _add_special(parser):
    parser.add_argument("--special", action="append", metavar="NAME", help="a special token more; may be repeated")


def _add_out(parser):
    parser.add_argument("--format", choices=tokenizer_file.FORMATS, help="files to write (json)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the tokenizer")


def train(wing, options):
    """Train a tokenizer on the training part of a corpus: what is held out later stays unseen."""
    asked = {name: getattr(options, name) for name in ("pattern", "min_frequency", "special") if hasattr(options, name)}
    if options.vocab_size > tokenizer_file.MOST:
        raise UserError(f"--vocab-size {options.vocab_size} is too large; at most {tokenizer_file.MOST} is allowed")
    training, _ = split(documents(options.data), 0.1)
    total, start = sum(document.size for document in training), perf_counter()
    report = counter(f"reading {options.data}")

    def texts(done=0):
        for document in training:
            yield document.text
            done += document.size
            report(done, total)

    learn, words = wing.train_tokenizer[getattr(options, "kind", "bpe")], f"learning {options.vocab_size:,} tokens"
    vocabulary = learn(texts(), options.vocab_size, progress=counter(words), **asked)
    report(1, 1)
    paths = tokenizer_file.write(vocabulary, options.out, getattr(options, "format", "json"))
    _say(f"wrote {', '.join(map(str, paths))}: {len(vocabulary):,} tokens in {perf_counter() - start:.1f} s")
    if len(vocabulary) < options.vocab_size:
        _say(f"fewer than {options.vocab_size:,}: nothing else occurs often enough in this text")


def opened(options, pattern=None):
    """The vocabulary of --tokenizer. Raises UserError where it is of another kind than --kind."""
    vocabulary = tokenizer_file.read(options.tokenizer, pattern)
    asked = getattr(options, "kind", vocabulary.kind)
    if asked != vocabulary.kind:
        raise UserError(f"{options.tokenizer} holds a tokenizer of the kind {vocabulary.kind}, not {asked}; leave --kind out")
    return vocabulary


def encode(wing, options):
    """Write the ids of a file, a few megabytes at a time."""
    wing, path = with_vocabulary(wing, opened(options)), Path(options.input)
    dtype, start, count = wing.vocabulary.dtype.newbyteorder("<"), perf_counter(), 0
    shown, total = counter(f"reading {path}"), max(1, path.stat().st_size)

    def blocks(file):
        while block := file.read(BLOCK):
            yield block
            shown(min(file.buffer.tell(), total), total)

    def write(out):
        nonlocal count
        with open(path, encoding="utf-8", newline="") as file:  # line ends as they are
            for ids in wing.encode_all(chunks(blocks(file), BLOCK, lines=wing.vocabulary.kind == "boundless")):
                out.write(np.asarray(ids).astype(dtype).tobytes())
                count += len(ids)

    try:
        replace(options.out, write)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8 plain text") from None
    seconds = perf_counter() - start
    _say(f"wrote {options.out}: {count:,} ids of {dtype.name}, {total / max(1, count):.2f} bytes a token, "
         f"{total / 1e6 / seconds:.1f} MB/s")  # fmt: skip


def inspect(wing, options):
    """What a tokenizer is, or what it makes of a text."""
    wing = with_vocabulary(wing, opened(options))
    vocabulary = wing.vocabulary
    if hasattr(options, "text"):
        ids = [int(i) for i in wing.encode(options.text)]
        facts = {"ids": ids, "tokens": [vocabulary.label(i) for i in ids]}
        lines = [f"{i:>8}  {token}" for i, token in zip(ids, facts["tokens"])]
    else:
        longest = sorted(vocabulary.ids, key=lambda token: (-len(token), token))[:10]
        facts = {"kind": vocabulary.kind, "vocab_size": len(vocabulary), "pattern": vocabulary.pattern}
        facts |= {name: len(getattr(vocabulary, name)) for name in ("merges", "supermerges") if hasattr(vocabulary, name)}
        facts |= {"dtype": vocabulary.dtype.name, "special": vocabulary.special}
        facts["longest"] = [vocabulary.label(vocabulary.ids[token]) for token in longest]
        lines = [f"{name:<12}{value}" for name, value in facts.items()]
    print(json.dumps(facts) if hasattr(options, "json") else "\n".join(lines))


def convert(wing, options):
    """Read one format, write another."""
    vocabulary = opened(options, getattr(options, "pattern", None))
    vocabulary = with_special(vocabulary, getattr(options, "special", ()))
    format = getattr(options, "format", "json")
    paths = tokenizer_file.write(vocabulary, options.out, format)
    _say(f"wrote {', '.join(map(str, paths))}: {len(vocabulary):,} tokens, pattern {vocabulary.pattern}")
    if format == "tiktoken" and vocabulary.special:
        _say(f"without the special tokens {', '.join(vocabulary.special)}, which .tiktoken has no place for")


def _say(words):
    """Print to stderr: stdout is for results."""
    print(words, file=sys.stderr, flush=True)
