"""The "model" of a tokenizer.json for each kind of tokenizer, on bytes in visible characters.

BPE, Unigram and WordPiece are the models of Hugging Face tokenizers, which reads these files and cuts texts the same.
BoundlessBPE is ours: no other program joins pieces, so its type has a name that others refuse rather than misread.
"""

from numpy_ref.errors import UserError
from numpy_ref.tokenizers.json_checks import checked_ids, list_of, object_of
from numpy_ref.tokenizers.kinds import PREFIX, BoundlessVocabulary, UnigramVocabulary, WordPieceVocabulary
from numpy_ref.tokenizers.vocabulary import Vocabulary, bytes_of

DEFINITION = "a file format"

TYPES = {"bpe": "BPE", "unigram": "Unigram", "wordpiece": "WordPiece", "boundless": "BoundlessBPE"}
ENDLESS = 1 << 30  # bytes of a piece that WordPiece takes for unknown, in Hugging Face's form: none is
ODD = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")


# -- writing ------------------------------------------------------------------------------------------------------


def model_of(vocabulary):
    """The "model" of a vocabulary of any kind."""
    special = set(vocabulary.special.values())
    tokens = {vocabulary.label(i): i for i, t in enumerate(vocabulary.tokens) if t is not None and i not in special}
    type = {"type": TYPES[vocabulary.kind]}
    if vocabulary.kind == "unigram":
        last = max(tokens.values())  # special tokens behind the others are no tokens of the model
        spelt = enumerate(vocabulary.tokens[: last + 1])
        scores = [[vocabulary.label(i), vocabulary.scores.get(token, 0.0)] for i, token in spelt]
        return type | {"unk_id": None, "vocab": scores, "byte_fallback": False}
    if vocabulary.kind == "wordpiece":
        named = {"unk_token": "[UNK]", "continuing_subword_prefix": PREFIX, "max_input_chars_per_word": ENDLESS}
        return type | named | {"vocab": tokens}
    merges = {"vocab": tokens, "merges": merge_lines(vocabulary, vocabulary.merges)}
    if vocabulary.kind == "boundless":
        return type | merges | {"supermerges": merge_lines(vocabulary, vocabulary.supermerges)}
    rest = dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"))
    return type | rest | {"fuse_unk": False, "byte_fallback": False} | merges


def decoder_of(vocabulary, byte_level):
    """The "decoder": what turns tokens into text in Hugging Face's library."""
    if vocabulary.kind != "wordpiece":
        return byte_level
    prefix = {"type": "Replace", "pattern": {"Regex": "^" + PREFIX}, "content": ""}
    return {"type": "Sequence", "decoders": [prefix, byte_level]}


def merge_lines(vocabulary, merges):
    """Merges in visible characters."""
    return [f"{vocabulary.label(left)} {vocabulary.label(right)}" for left, right in merges]


# -- reading ------------------------------------------------------------------------------------------------------


def read(type, model, special, pattern):
    """The vocabulary of a "model" of one of TYPES. special: {name: id}. Raises UserError for what is damaged or odd."""
    return {"BPE": _bpe, "Unigram": _unigram, "WordPiece": _wordpiece, "BoundlessBPE": _boundless}[type](
        model, special, pattern
    )


def _bpe(model, special, pattern):
    for key in ODD:
        if model.get(key):
            raise UserError(f"its model has {key} {str(model[key])[:40]!r}, which byte-level BPE as read here has not")
    ids = _ids(model, special)
    merges = merges_of(_pairs(model, "merges"), ids)
    return Vocabulary(tokens_of(ids, special), merges, pattern, special)


def _boundless(model, special, pattern):
    ids = _ids(model, special)
    merges, supermerges = (merges_of(_pairs(model, name), ids) for name in ("merges", "supermerges"))
    return BoundlessVocabulary(tokens_of(ids, special), merges, supermerges, pattern, special)


def _unigram(model, special, pattern):
    if model.get("byte_fallback"):
        raise UserError("its model has byte_fallback, which byte-level Unigram as read here has not")
    ids, scores = {}, {}
    for i, entry in enumerate(list_of(model.get("vocab"), '"vocab"')):
        if len(list_of(entry, f"entry {i} of the vocabulary")) != 2 or not isinstance(entry[0], str):
            raise UserError(f"entry {i} of the vocabulary is not a token and its score; the file is damaged")
        if ids.setdefault(entry[0], i) != i:
            raise UserError(f"the token {entry[0][:40]!r} is listed twice; the file is damaged")
        if entry[0] not in special:
            score = entry[1]
            scores[bytes_of(entry[0])] = float(score) if type(score) is int and abs(score) < 1 << 53 else score
    ids = _with_special(ids, special)
    return UnigramVocabulary(tokens_of(ids, special), scores, pattern, special)


def _wordpiece(model, special, pattern):
    if model.get("continuing_subword_prefix") != PREFIX:
        raise UserError(f'its "continuing_subword_prefix" is not {PREFIX!r}, the only one that is read')
    if model.get("max_input_chars_per_word") != ENDLESS:
        raise UserError(f"its model takes long words for unknown; only max_input_chars_per_word {ENDLESS} is read")
    ids = _ids(model, special)
    spelt = {name: name.removeprefix(PREFIX) if name not in special else name for name in ids}
    continuing = frozenset(i for name, i in ids.items() if spelt[name] != name)
    tokens = placed({i: _bytes(spelt[name], i, special) for name, i in ids.items()}, len(ids))
    return WordPieceVocabulary(tokens, continuing, pattern, special)


def _ids(model, special):
    return _with_special(checked_ids(object_of(model.get("vocab"), '"vocab"'), '"vocab"'), special)


def _with_special(ids, special):
    for name, i in special.items():
        if ids.setdefault(name, i) != i:
            raise UserError(f"the added token {name[:40]!r} has the ids {i} and {ids[name]}; it needs one id")
    return ids


def _pairs(model, name):
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in list_of(model.get(name), f'"{name}"')]


def merges_of(pairs, ids):
    """Merges in visible characters, by {visible token: id}: a tuple of pairs of ids."""
    merges = []
    for rank, pair in enumerate(pairs):
        found = [ids.get(part) if isinstance(part, str) else None for part in list_of(pair, f"merge {rank}")]
        if len(found) != 2 or None in found:
            raise UserError(f"merge {rank} is not two tokens of the vocabulary; the file is damaged")
        merges.append(tuple(found))
    return tuple(merges)


def tokens_of(ids, special):
    """{visible token: id} as a tuple of bytes."""
    return placed({i: _bytes(written, i, special) for written, i in ids.items()}, len(ids))


def _bytes(written, i, special):
    token = written.encode("utf-8", "replace") if written in special else bytes_of(written)
    if token is None or special.get(written, i) != i:
        raise UserError(f"the token {written[:40]!r} is neither byte-level text nor a special token of that id")
    return token


def placed(spelt, count=None):
    """{id: bytes} as a tuple with None for the ids between; the largest id is known to be below MOST."""
    if count is not None and len(spelt) < count:
        raise UserError("two tokens have the same id; the file is damaged")
    return tuple(spelt.get(i) for i in range(max(spelt, default=-1) + 1))
