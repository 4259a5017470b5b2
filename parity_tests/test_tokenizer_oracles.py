"""Byte pair encoding against tiktoken and Hugging Face tokenizers, given the same merges: the same ids, the same text.

Skipped where they are not installed (``make oracles`` installs them).
"""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import torch_impl.tokenizers.bpe as torch_bpe
from numpy_ref.tokenizers import tokenizer_file
from numpy_ref.tokenizers.pretokenize import PATTERNS, split
from parity_tests.components.bpe import SPECIAL, vocabulary
from parity_tests.texts import MARKER, texts
from parity_tests.wings import WINGS

tiktoken = pytest.importorskip("tiktoken")
tokenizers = pytest.importorskip("tokenizers")

patterns = pytest.mark.parametrize("pattern", PATTERNS)
wings = pytest.mark.parametrize("wing", WINGS, ids=str)
TODAY = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""


def in_tiktoken(known, pattern=None):
    """With one special token: of two whose names begin alike tiktoken takes any, Hugging Face and we the longer."""
    cut, special = pattern or PATTERNS[known.pattern], {MARKER: known.special[MARKER]}
    return tiktoken.Encoding("ours", pat_str=cut, mergeable_ranks=dict(known.ids), special_tokens=special)


def in_hugging_face(known):
    return tokenizers.Tokenizer.from_str(tokenizer_file.to_json(known)[0].decode())


@wings
@patterns
@given(text=texts())
def test_the_same_ids(wing, pattern, text):
    known = vocabulary("learnt", pattern)
    ours, theirs, hugging_face = wing.module("tokenizers.bpe").BPE(known), in_tiktoken(known), in_hugging_face(known)
    ids = ours.encode(text).tolist()
    assert ids == theirs.encode_ordinary(text) == theirs.encode(text, disallowed_special=())
    everything = ours.encode(text, known.special).tolist()
    assert everything == hugging_face.encode(text).ids == ours.encode(text, SPECIAL).tolist()
    assert ours.encode(text, (MARKER,)).tolist() == theirs.encode(text, allowed_special="all")
    assert ours.decode(ids) == theirs.decode(ids) == hugging_face.decode(ids, skip_special_tokens=False) == text


@patterns
@given(text=texts())
def test_the_same_ids_by_random_merges(pattern, text):
    """Ranks that no frequency explains: the order of merging is all that counts."""
    known = vocabulary("random merges", pattern)
    assert torch_bpe.BPE(known).encode(text, known.special).tolist() == in_hugging_face(known).encode(text).ids


@wings
@given(seed=st.integers(0, 2**32 - 1))
def test_the_same_text_of_any_ids(wing, seed):
    """Mostly no UTF-8 at all."""
    known = vocabulary("learnt", "gpt4")
    ids = np.random.default_rng(seed).integers(0, known.special[MARKER] + 1, 40)
    ours = wing.module("tokenizers.bpe").BPE(known)
    text = ours.decode(ids)
    assert text == in_tiktoken(known).decode(ids.tolist())
    assert text == in_hugging_face(known).decode(ids.tolist(), skip_special_tokens=False)
    stream = ours.decoder()
    assert text == "".join(map(stream.push, ids)) + stream.finish()


@patterns
@given(found=st.lists(texts(), max_size=4), least=st.integers(1, 3))
def test_the_same_merges_are_learnt(pattern, found, least):
    """Hugging Face's trainer breaks ties by the smaller ids too, with bytes in the same order: the same file."""
    cut = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern == "gpt2")
    if pattern == "gpt4":
        first = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")
        cut = tokenizers.pre_tokenizers.Sequence([first, cut])
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = cut
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=330, min_frequency=least, show_progress=False, initial_alphabet=alphabet
    )
    theirs.train_from_iterator(found, trainer)
    ours = torch_bpe.train(found, 330, pattern, (), least)
    assert tokenizer_file.from_json(theirs.to_str().encode()) == ours
    model, written = json.loads(theirs.to_str())["model"], json.loads(tokenizer_file.to_json(ours)[0])["model"]
    assert model["vocab"] == written["vocab"]


@given(text=texts())
def test_where_later_versions_of_tiktoken_cut_differently(text):
    """Its pattern of today is the one of old, but for white space at the very end that goes on after a line end."""
    known = vocabulary("learnt", "gpt4")
    old, new = in_tiktoken(known), in_tiktoken(known, TODAY)
    end = text[len(text.rstrip()) :]
    if not ("\n" in end or "\r" in end) or end.endswith(("\n", "\r")):
        assert old.encode_ordinary(text) == new.encode_ordinary(text)
    assert split("a  \n  ", "gpt4") == ["a", "  \n", "  "]
