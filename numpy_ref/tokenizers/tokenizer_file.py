"""Three formats for a byte-level BPE Vocabulary, read and written as plain text; nothing in a file is ever executed.

    tokenizer.json             Hugging Face tokenizers: tokens, merges, split pattern and special tokens; it takes the
                               vocabularies of the other kinds too, see `kinds_file.py`
    vocab.json + merges.txt    GPT-2: tokens with their ids, and the merges in order
    tokenizer.tiktoken         a line for each token: its bytes in base64 and its id, which is also its rank

The last two name no split pattern, and .tiktoken has no special tokens: both are then asked for. Reading is as strict
as ``Vocabulary`` is, and never trusts a number with memory.
"""

import base64
import binascii
import json
import re
from pathlib import Path

from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.tokenizers import kinds_file
from numpy_ref.tokenizers.json_checks import checked_ids, json_of, list_of, object_of, text_of
from numpy_ref.tokenizers.pretokenize import PATTERNS
from numpy_ref.tokenizers.vocabulary import MOST, Vocabulary, bytes_of, with_special

DEFINITION = "file formats"

JSON, VOCAB, MERGES, TIKTOKEN = "tokenizer.json", "vocab.json", "merges.txt", "tokenizer.tiktoken"
FORMATS = {"json": (JSON,), "gpt2": (VOCAB, MERGES), "tiktoken": (TIKTOKEN,)}
LARGEST = 1 << 26  # bytes of a file


def read(path, pattern=None, special=()):
    """The Vocabulary in a folder or file of one of the formats; in a folder tokenizer.json comes first.

    pattern: the split pattern where the file names none ("gpt2" for GPT-2's files, "gpt4" for .tiktoken unless given).
    special: names that get the next free ids. Raises UserError for what is missing, damaged, or beyond this reader.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    try:
        if path.is_dir() and (found := next((n for n in (JSON, VOCAB, TIKTOKEN) if (path / n).is_file()), None)):
            path /= found
        if path.suffix == ".tiktoken":
            vocabulary = from_tiktoken(_content(path), pattern or "gpt4")
        elif path.name in (VOCAB, MERGES):
            vocabulary = from_gpt2(_content(folder / VOCAB), _content(folder / MERGES), pattern or "gpt2")
        elif path.is_dir() or not path.is_file():
            names = f"{JSON}, {VOCAB} with {MERGES}, or {TIKTOKEN}"
            raise UserError(f"there is no tokenizer; give a folder with {names}, or such a file")
        else:
            vocabulary = from_json(_content(path))
            if pattern not in (None, vocabulary.pattern):
                raise UserError(f"the file says that its split pattern is {vocabulary.pattern}, not {pattern}")
        return with_special(vocabulary, special)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def write(vocabulary, folder, format="json"):
    """Write the files of a format of FORMATS into a folder; returns their paths. Raises UserError where it can't be.

    .tiktoken orders merges by id: a vocabulary whose ids are in another order can't be written so, and special tokens
    are not written at all.
    """
    if format not in FORMATS:
        raise UserError(f"there is no tokenizer format {format!r}; take one of {', '.join(FORMATS)}")
    if format != "json" and vocabulary.kind != "bpe":
        raise UserError(f"a tokenizer of the kind {vocabulary.kind} is written as json alone, not as {format}")
    contents = {"json": to_json, "gpt2": to_gpt2, "tiktoken": to_tiktoken}[format](vocabulary)
    paths = [Path(folder) / name for name in FORMATS[format]]
    for path, content in zip(paths, contents, strict=True):
        replace(path, lambda file, content=content: file.write(content))
    return paths


def _content(path):
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"can't read {path.name}: {error.strerror}") from None
    if len(content) > LARGEST:
        raise UserError(f"{path.name} is larger than {LARGEST >> 20} MiB, which no tokenizer is")
    return content


# -- GPT-2 --------------------------------------------------------------------------------------------------------


def from_gpt2(vocab, merges, pattern):
    """The Vocabulary of the bytes of vocab.json and merges.txt. What no merge makes is a special token."""
    ids = checked_ids(object_of(json_of(vocab), VOCAB), VOCAB)
    lines = text_of(merges, MERGES).split("\n")
    if lines[0].startswith("#version"):
        lines = lines[1:]
    pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip()]
    made = {"".join(pair) for pair in pairs}
    special = {w: i for w, i in ids.items() if w not in made and len(bytes_of(w) or b"..") > 1}
    tokens = kinds_file.tokens_of(ids, special)
    return Vocabulary(tokens, kinds_file.merges_of(pairs, ids), pattern, special)


def to_gpt2(vocabulary):
    """The bytes of vocab.json and merges.txt."""
    ids = {vocabulary.label(i): i for i, token in enumerate(vocabulary.tokens) if token is not None}
    merges = "\n".join(["#version: 0.2", *kinds_file.merge_lines(vocabulary, vocabulary.merges), ""])
    return json.dumps(ids, ensure_ascii=False).encode(), merges.encode()


# -- Hugging Face -------------------------------------------------------------------------------------------------


def from_json(content):
    """The vocabulary of the bytes of a tokenizer.json whose model is byte-level and of one of the kinds."""
    whole = object_of(json_of(content), "the file")
    model = object_of(whole.get("model"), '"model"')
    type = model.get("type", "BPE" if "merges" in model else None)
    if type not in kinds_file.TYPES.values():
        raise UserError(f'its model is {str(type)[:40]!r}; byte-level {", ".join(kinds_file.TYPES.values())} are read')
    if whole.get("normalizer"):
        raise UserError("it has a normaliser, which changes texts before they are cut; only others are read")
    special = {}
    for token in list_of(whole.get("added_tokens") or [], '"added_tokens"'):
        token = object_of(token, "an added token")
        name = token.get("content")
        if not isinstance(name, str) or name in special:
            raise UserError(f"an added token has the name {str(name)[:40]!r}; every one needs a name of its own")
        if any(token.get(key) for key in ("single_word", "lstrip", "rstrip")):
            raise UserError(f"the added token {name[:40]!r} takes text around it away, which is not supported")
        special[name] = token.get("id")
    return kinds_file.read(type, model, checked_ids(special, '"added_tokens"'), _pattern(whole.get("pre_tokenizer")))


def to_json(vocabulary):
    """The bytes of tokenizer.json, in a tuple."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = sorted(vocabulary.special.items(), key=lambda item: item[1])
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    cut = byte_level | {"use_regex": True}
    if vocabulary.pattern != "gpt2":
        split = {"type": "Split", "pattern": {"Regex": PATTERNS[vocabulary.pattern]}}
        split |= {"behavior": "Isolated", "invert": False}
        cut = {"type": "Sequence", "pretokenizers": [split, byte_level | {"use_regex": False}]}
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name} | flags for name, i in added],
        "normalizer": None,
        "pre_tokenizer": cut,
        "post_processor": None,
        "decoder": kinds_file.decoder_of(vocabulary, byte_level | {"use_regex": True}),
        "model": kinds_file.model_of(vocabulary),
    }
    return (json.dumps(whole, ensure_ascii=False, indent=1).encode() + b"\n",)


def _pattern(cut):
    """The name of the split pattern that a "pre_tokenizer" stands for."""
    cut = object_of(cut, '"pre_tokenizer"')
    steps = list_of(cut.get("pretokenizers"), '"pretokenizers"') if cut.get("type") == "Sequence" else [cut]
    steps = [object_of(step, "a pre-tokenizer") for step in steps]
    last = steps[-1] if steps else {}
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        if len(steps) == 1 and last.get("use_regex", True):
            return "gpt2"
        first = steps[0]
        if len(steps) == 2 and first.get("type") == "Split" and not last.get("use_regex", True):
            if first.get("behavior") == "Isolated" and not first.get("invert"):
                for name, written in PATTERNS.items():
                    if first.get("pattern") == {"Regex": written}:
                        return name
    known = " and ".join(PATTERNS)
    raise UserError(f'its "pre_tokenizer" cuts in another way than the patterns that are known here: {known}')


# -- tiktoken -----------------------------------------------------------------------------------------------------


def from_tiktoken(content, pattern):
    """The Vocabulary of the bytes of a .tiktoken file. A token's merge is the last one that makes it of its bytes."""
    ids = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            token, rank = base64.b64decode(token, validate=True), _number(rank)
        except (ValueError, binascii.Error):
            raise UserError(f"line {number} is not a token in base64 and its rank; the file is damaged") from None
        if token in ids or not token:
            raise UserError(f"line {number} lists a token that is empty or was listed before; the file is damaged")
        ids[token] = rank
    tokens = _by_id(ids)
    pairs = []
    for token in sorted((token for token in ids if len(token) > 1), key=ids.get):
        if (pair := _halves(token, ids)) is None:
            raise UserError(f"token {ids[token]} is not made of two tokens of lower ranks; the file is damaged")
        pairs.append(pair)
    return Vocabulary(tokens, tuple(pairs), pattern)


def to_tiktoken(vocabulary):
    """The bytes of a .tiktoken file, in a tuple, without the special tokens."""
    made = [whole for _, whole in vocabulary.ranks.values()]
    ranks = list(dict.fromkeys(made))
    if ranks != sorted(ranks):
        raise UserError("its merges are not in the order of the ids, which .tiktoken takes for ranks")
    by_id = sorted(vocabulary.ids.items(), key=lambda item: item[1])
    return (b"".join(base64.b64encode(token) + b" %d\n" % i for token, i in by_id),)


def _halves(token, ids):
    """The ids of the two parts that merges of lower ranks leave of a token; None if they leave another number."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        ranks = [ids.get(left + right, MOST) for left, right in zip(parts, parts[1:])]
        rank = min(ranks)
        if rank >= ids[token]:
            return None
        i = ranks.index(rank)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return tuple(map(ids.get, parts)) if all(ids.get(part, MOST) < MOST for part in parts) else None


# -- what the formats share ---------------------------------------------------------------------------------------


def _by_id(ids):
    spelt = {i: token for token, i in ids.items()}
    if len(spelt) < len(ids):
        raise UserError("two tokens have the same rank; the file is damaged")
    return kinds_file.placed(spelt)


def _number(digits):
    if not re.fullmatch(rb"\d{1,7}", digits) or int(digits) >= MOST:
        raise ValueError
    return int(digits)
