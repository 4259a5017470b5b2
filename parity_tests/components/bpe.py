"""Declarations of byte pair encoding: training, encoding, decoding, token by token."""

import functools

import numpy as np

import numpy_ref.tokenizers.bpe as numpy_bpe
import torch_impl.tokenizers.bpe as torch_bpe
from numpy_ref.errors import UserError
from numpy_ref.tokenizers.vocabulary import ALPHABET, PLACES, trained
from parity_tests.components.byte import BROKEN, CUT, or_refusal
from parity_tests.harness.declaration import Bug, Component
from parity_tests.texts import MARKER, PIECES, SURROGATE, TEXTS, draw_text

SPECIAL = (MARKER, "<|end")  # one begins like the other


def draw_training(source):
    found = [draw_text(source) for _ in range(source.integer(0, 4))]
    source.event("several texts", len(found) > 1)
    if source.integer(0, 9) == 0:
        found.append(TEXTS[SURROGATE])
        source.event(SURROGATE)
    pattern, special = source.choice("gpt2", "gpt4"), source.choice((), SPECIAL)
    source.event(pattern)
    source.event("special tokens", bool(special))
    size = 256 + len(special) + source.choice(-1, 0, 1, 20, 20, 60, 60, 60)
    source.event("too small", size < 256 + len(special))
    least = source.choice(1, 2, 2, 3)
    return source.case({}, texts=found, vocab_size=size, pattern=pattern, special=special, min_frequency=least)


def learnt(function, arguments):
    """The merges as an array, and the rest of the vocabulary; progress must hear of every merge."""
    heard = []
    try:
        vocabulary = function(**arguments, progress=lambda done, total: heard.append((done, total)))
    except UserError:
        return "refused"
    merges = np.array(vocabulary.merges, np.int64).reshape(-1, 2)
    total = arguments["vocab_size"] - 256 - len(arguments["special"])
    assert heard == [(n, total) for n in range(1, len(merges) + 1)]
    return [merges, vocabulary.pattern, list(vocabulary.tokens), list(vocabulary.special.items())]


TRAIN = Component(
    name="bpe train",
    numpy=numpy_bpe.train,
    torch=torch_bpe.train,
    draw=draw_training,
    call=learnt,
    exact=True,
    dtypes=("float64",),
    events=("several texts", SURROGATE, "gpt2", "gpt4", "special tokens", "too small", *PIECES),
    compiles=False,
    bugs=(
        Bug("of equal pairs the one met first", "numpy", "(-counts[pair], pair)", "-counts[pair]"),
        Bug("of equal pairs the largest ids", "numpy", "(-counts[pair], pair)", "(-counts[pair], -pair[0], -pair[1])"),
        Bug("pieces counted once, however often they occur", "numpy", "counts[pair] += count", "counts[pair] += 1"),
        Bug("overlapping pairs counted once", "numpy", "for pair in zip(word, word[1:])", "for pair in set(zip(word, word[1:]))"),
        Bug("pairs across pieces", "numpy", "split_pattern(pattern).findall(checked_text(text))", "[checked_text(text)]"),
        Bug("the least frequency is not enough", "numpy", "< min_frequency", "<= min_frequency"),
        Bug("an overlap joined twice", "numpy", "i += 2", "i += 1", function="merged"),
        Bug("characters for bytes", "numpy", "piece.encode()", "piece.encode('latin-1', 'replace')"),
        Bug("always the pattern of GPT-4", "numpy", "split_pattern(pattern)", "split_pattern('gpt4')"),
        Bug("surrogates let through", "numpy", "checked_text(text)", "text.encode('utf-8', 'replace').decode()", needs=(SURROGATE,)),
        Bug("the pair before is kept", "torch", "counts[before, left] -= weight", "counts[before, left] -= 0", function="join_pairs"),
        Bug("the pair behind is kept", "torch", "counts[right, after] -= weight", "counts[right, after] -= 0", function="join_pairs"),
        Bug("new pairs before are not weighted", "torch", "counts[before, new] += weight", "counts[before, new] += 1", function="join_pairs"),
        Bug("counts out of date believed", "torch", "counts[pair] != -promised", "counts[pair] <= 0", function="merges_of"),
        Bug("once a word", "torch", "ahead = word.count(left)", "ahead = min(1, word.count(left))", function="join_pairs"),
        Bug("texts run into each other", "torch", "(chunk for text in texts for chunk in chunks([text], _SHARE))", "chunks(texts, _SHARE)", function="count_pieces"),
        Bug("new pairs behind never come up", "torch", "grown.add((new, after))", "pass", function="join_pairs"),
    ),
)  # fmt: skip


KINDS = {"bytes alone": np.uint8, "learnt": np.uint16, "random merges": np.uint16, "very many": np.uint32}


@functools.cache
def vocabulary(kind, pattern):
    """One learnt from the pieces, one of random merges, whose ranks no frequency explains, and the extremes."""
    if kind == "bytes alone":
        return trained((), pattern, ())
    if kind == "learnt":
        return torch_bpe.train([*PIECES.values(), " ".join(PIECES.values())], 420, pattern, SPECIAL, 1)
    if kind == "very many":
        return trained([(left, right) for left in range(256) for right in range(256)], pattern, SPECIAL)
    seen = sorted({PLACES[byte] for text in PIECES.values() for byte in text.encode()})
    return trained(random_merges(np.random.default_rng(3), 400, seen), pattern, SPECIAL)


def random_merges(rng, count, alphabet):
    """Merges of random tokens: bytes of the alphabet, a few letters that abound, and what was made before."""
    tokens, merges = [bytes([byte]) for byte in ALPHABET], []
    known, common = set(tokens), [PLACES[byte] for byte in b"ab \n1'"]

    def one():
        made = range(256, len(tokens)) or common
        among = (common, alphabet, made)[rng.integers(3)]
        return among[rng.integers(len(among))]

    while len(merges) < count:
        left, right = one(), one()
        if tokens[left] + tokens[right] not in known:
            merges.append((left, right))
            tokens.append(tokens[left] + tokens[right])
            known.add(tokens[-1])
    return merges


def draw_encoding(source):
    kind, pattern = source.choice(*KINDS), source.choice("gpt2", "gpt4")
    source.event(kind)
    source.event(pattern)
    text = draw_text(source)
    if source.integer(0, 9) == 0:
        text += TEXTS[SURROGATE]
        source.event(SURROGATE)
    special = source.choice((), (), (MARKER,), SPECIAL, ("<|none|>",))
    source.event("asked for and there", MARKER in special and MARKER in text)
    source.event("there and not asked for", MARKER not in special and MARKER in text)
    source.event("unknown name", "<|none|>" in special)
    return source.case({}, vocabulary=vocabulary(kind, pattern), text=text, special=special)


def encoded(bpe, arguments):
    return or_refusal(bpe(arguments["vocabulary"]).encode, {name: arguments[name] for name in ("text", "special")})


ENCODE = Component(
    name="bpe encode",
    numpy=numpy_bpe.BPE,
    torch=torch_bpe.BPE,
    draw=draw_encoding,
    call=encoded,
    exact=True,
    dtypes=("float64",),
    events=(*KINDS, "gpt2", "gpt4", SURROGATE, "asked for and there", "there and not asked for", "unknown name", *PIECES),
    compiles=False,
    bugs=(
        Bug("the first pair that fits", "numpy", "ranks.get(pair, (len(ranks),))", "pair not in ranks"),
        Bug("the last merge first", "numpy", "ranks.get(pair, (len(ranks),))", "(-ranks.get(pair, (-1,))[0],)"),
        Bug("names in the text become special", "numpy", "self.vocabulary.named(special)", "self.vocabulary.special"),
        Bug("names asked for stay text", "numpy", "self.vocabulary.named(special)", "self.vocabulary.named(special) and {}"),
        Bug("merges across pieces", "numpy", "split_pattern(self.vocabulary.pattern).findall(part)", "[part]"),
        Bug("bytes taken for ids", "numpy", "self.vocabulary.byte_ids[byte]", "byte"),
        Bug("a space in front", "numpy", "parts(checked_text(text), names)", "parts(' ' + checked_text(text), names)"),
        Bug("always 16 bits", "numpy", "self.vocabulary.dtype", "np.uint16"),
        Bug("the rightmost of a run", "torch", "ranks.index(rank)", "len(ranks) - 1 - ranks[::-1].index(rank)", function="_join_short"),
        Bug("the pair before not looked up again", "torch", "ranks[i - 1] = get((word[i - 1], new), never)", "pass", function="_join_short"),
        Bug("the pair behind not looked up again", "torch", "ranks[i] = get((new, word[i + 1]), never)", "pass", function="_join_short"),
        Bug("long pieces stay bytes", "torch", "self._join_long(ids)", "ids", function="joined", needs=("long piece", "learnt")),
        Bug("links to the left forgotten", "torch", "before[after[i]] = i", "pass", function="_join_long", needs=("long piece", "learnt")),
        Bug("a long piece from its end", "torch", "heappush(heap, (self._ranks[pair], start))", "heappush(heap, (-self._ranks[pair], start))", function="_join_long", needs=("long piece", "learnt")),
        Bug("every special name is parsed", "torch", "self.vocabulary.named(special)", "self.vocabulary.special", function="_encoded"),
        Bug("line ends changed", "torch", "checked_text(text)", "checked_text(text).replace('\\r\\n', '\\n')", function="_encoded"),
    ),
)  # fmt: skip


def draw_tokens(source):
    """Any ids at all: bytes of broken characters, tokens in any order, special ones among them, sometimes a wrong one."""
    kind = source.choice(*KINDS)
    source.event(kind)
    known = vocabulary(kind, "gpt4")
    ids = []
    for _ in range(source.integer(0, 6)):
        name = source.choice(*BROKEN, *BROKEN, *PIECES, "any", "any")
        source.event(name)
        source.event("begins with a byte order mark", name == "byte order mark" and not ids)
        if name == "any":
            ids += source.rng.integers(0, len(known), source.size(9)).tolist()
        else:
            data = BROKEN[name] if name in BROKEN else PIECES[name].encode()
            ids += [known.byte_ids[byte] for byte in data]
    special = bool(known.special) and source.flag()
    source.event("special token", special)
    ids += [known.special[MARKER]] if special else []
    ids += [known.byte_ids[byte] for byte in source.choice(b"", b"", *CUT)]
    wrong = source.choice(*[0] * 14, -1, len(known))
    source.event("no such id", bool(wrong))
    ids += [wrong] * bool(wrong)
    source.event("empty", not ids)
    return source.case({"tokens": np.array(ids, np.int64)}, vocabulary=known)


def decoded(bpe, arguments):
    return or_refusal(bpe(arguments["vocabulary"]).decode, {"tokens": arguments["tokens"]})


def token_by_token(decoder, arguments):
    """Every string that comes out, also the empty ones."""
    stream = decoder(arguments["vocabulary"])
    try:
        return [stream.push(token) for token in arguments["tokens"]] + [stream.finish()]
    except UserError:
        return "refused"


DECODE = Component(
    name="bpe decode",
    numpy=numpy_bpe.BPE,
    torch=torch_bpe.BPE,
    draw=draw_tokens,
    call=decoded,
    exact=True,
    dtypes=("float64",),
    events=(*KINDS, *BROKEN, "special token", "no such id", "empty", "any"),
    compiles=False,
    bugs=(
        Bug("every token a text of its own", "numpy", 'b"".join(_bytes(self.vocabulary, token) for token in tokens).decode("utf-8", errors="replace")', '"".join(_bytes(self.vocabulary, token).decode("utf-8", errors="replace") for token in tokens)', function="decode"),
        Bug("broken bytes dropped", "numpy", '"replace"', '"ignore"', function="decode"),
        Bug("ids from the end", "numpy", "0 <= token < len(vocabulary)", "token < len(vocabulary)", function="_bytes"),
        Bug("special tokens dropped", "numpy", "return vocabulary.tokens[token]", "return vocabulary.tokens[token] * (token not in vocabulary.special.values())", function="_bytes"),
        Bug("Latin-1", "torch", '"utf-8", errors="replace"', '"latin-1"', function="decode"),
        Bug("unknown ids passed over", "torch", "else None", "else b''", function="_bytes", needs=("no such id",)),
        Bug("last token lost", "torch", ".tolist()", ".tolist()[:-1]", function="decode"),
        Bug("what repeats said once", "torch", "for i in ids]", "for i in dict.fromkeys(ids)]", function="_bytes"),
    ),
)  # fmt: skip

DECODER = Component(
    name="bpe Decoder",
    numpy=numpy_bpe.Decoder,
    torch=torch_bpe.Decoder,
    draw=draw_tokens,
    call=token_by_token,
    exact=True,
    dtypes=("float64",),
    events=DECODE.events,
    compiles=False,
    bugs=(
        Bug("cut characters at once", "numpy", "_bytes(self._vocabulary, token))", "_bytes(self._vocabulary, token), final=True)"),
        Bug("broken bytes dropped", "numpy", '"replace"', '"ignore"'),
        Bug("the cut character forgotten", "numpy", "final=True", "final=False"),
        Bug("a token late", "torch", "return self._decoder.decode(_bytes(self._vocabulary, [int(token)]))", "late, self.late = getattr(self, 'late', ''), self._decoder.decode(_bytes(self._vocabulary, [int(token)])); return late"),
        Bug("byte order mark eaten", "torch", '"utf-8"', '"utf-8-sig"', needs=("begins with a byte order mark",)),
        Bug("starts anew at every token", "torch", "self._decoder.decode(_bytes", "self._decoder.reset() or self._decoder.decode(_bytes"),
    ),
)  # fmt: skip

COMPONENTS = (TRAIN, ENCODE, DECODE, DECODER)
