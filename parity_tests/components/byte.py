"""Declarations of encode, decode and Decoder."""

import codecs

import numpy as np

import numpy_ref.tokenizers.byte as numpy_byte
import torch_impl.tokenizers.byte as torch_byte
from numpy_ref.errors import UserError
from parity_tests.harness.declaration import Bug, Component
from parity_tests.texts import TEXTS

# What no valid text has, and what a decoder that cuts in the wrong place makes of valid text.
BROKEN = {
    "stray byte": b"a\xffb\xfe",
    "stray continuation": b"\x80a\xbf",
    "overlong": b"\xc0\xaf\xe0\x80\xaf",
    "surrogate": b"\xed\xa0\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "cut after 1 of 2": b"\xc3",
    "cut after 2 of 3": b"a\xe8\xaa",
    "cut after 3 of 4": b"\xf0\x9f\x98",
    "cut, then a letter": b"\xf0\x9fz",
}
CUT = tuple(data for name, data in BROKEN.items() if name.startswith("cut after"))


def draw_text(source):
    kinds = [source.choice(*TEXTS) for _ in range(source.integer(0, 4))]
    if source.integer(0, 7) == 0:
        kinds.append("lone surrogate")
    for kind in kinds:
        source.event(kind)
    source.event("empty", not kinds)
    return source.case({}, text="".join(TEXTS[kind] for kind in kinds))


def draw_tokens(source):
    """Bytes of whole and broken characters, or any at all, in any integer format."""
    pieces = []
    for _ in range(source.integer(0, 6)):
        kind = source.choice("text", "broken", "broken", "bytes")
        source.event(kind)
        if kind == "text":
            name = source.choice(*TEXTS)
            pieces.append(TEXTS[name].encode("utf-8", "ignore"))
        elif kind == "broken":
            name = source.choice(*BROKEN)
            source.event(name)
            pieces.append(BROKEN[name])
        else:
            pieces.append(source.rng.bytes(source.size(20)))
    if source.integer(0, 4) == 0:
        pieces.insert(0, codecs.BOM_UTF8)
    data = b"".join(pieces) + source.choice(b"", b"", b"", *CUT)
    source.event("empty", not data)
    source.event("byte order mark", data.startswith(codecs.BOM_UTF8))
    source.event("ends inside a character", data.endswith(CUT))
    number_format = source.choice(np.uint8, np.uint16, np.int32, np.int64)
    source.event("one byte a token", number_format is np.uint8)
    return source.case({"tokens": np.frombuffer(data, np.uint8).astype(number_format)})


def or_refusal(function, arguments):
    """What both refuse counts as equal: the words differ, the class of error does not."""
    try:
        return function(**arguments)
    except UserError:
        return "refused"


def token_by_token(decoder, arguments):
    """Every string that comes out, also the empty ones: *when* a character appears is part of the promise."""
    stream = decoder()
    return [stream.push(token) for token in arguments["tokens"]] + [stream.finish()]


ENCODE = Component(
    name="encode",
    numpy=numpy_byte.encode,
    torch=torch_byte.encode,
    draw=draw_text,
    call=or_refusal,
    exact=True,
    dtypes=("float64",),
    events=("empty", *TEXTS),
    compiles=False,
    bugs=(
        Bug("Latin-1", "numpy", 'text.encode("utf-8")', 'text.encode("latin-1", "replace")'),
        Bug("16 bits", "numpy", 'text.encode("utf-8")', 'text.encode("utf-16-le")'),
        Bug("surrogates let through", "numpy", 'text.encode("utf-8")', 'text.encode("utf-8", "surrogatepass")'),
        Bug("space trimmed", "numpy", "text.encode", "text.strip(' ').encode"),
        Bug("line ends changed", "numpy", "text.encode", 'text.replace("\\r\\n", "\\n").encode'),
        Bug(
            "paragraph separator taken for a line end", "numpy", "text.encode", 'text.replace("\\u2029", "\\n").encode'
        ),
        Bug("marks composed", "numpy", "text.encode", '__import__("unicodedata").normalize("NFC", text).encode'),
        Bug("surrogates dropped", "torch", 'bytearray(text, "utf-8")', 'bytearray(text, "utf-8", "ignore")'),
        Bug("byte order mark added", "torch", 'bytearray(text, "utf-8")', 'bytearray(text, "utf-8-sig")'),
        Bug(
            "ends at the first zero",
            "torch",
            'bytearray(text, "utf-8")',
            'bytearray(text.partition("\\0")[0], "utf-8")',
        ),
    ),
)

DECODE = Component(
    name="decode",
    numpy=numpy_byte.decode,
    torch=torch_byte.decode,
    draw=draw_tokens,
    exact=True,
    dtypes=("float64",),
    events=("empty", "text", "bytes", "one byte a token", "byte order mark", "ends inside a character", *BROKEN),
    compiles=False,
    bugs=(
        Bug("broken bytes dropped", "numpy", 'errors="replace"', 'errors="ignore"'),
        Bug("broken bytes escaped", "numpy", 'errors="replace"', 'errors="backslashreplace"'),
        Bug("Latin-1", "numpy", '"utf-8"', '"latin-1"'),
        Bug("seven bits", "numpy", "_byte(token)", "_byte(token) & 127"),
        Bug("broken bytes kept as surrogates", "torch", 'errors="replace"', 'errors="surrogateescape"'),
        Bug("byte order mark eaten", "torch", '"utf-8"', '"utf-8-sig"'),
        Bug("last byte cut off", "torch", ".tolist()", ".tolist()[:-1]"),
    ),
)

DECODER = Component(
    name="Decoder",
    numpy=numpy_byte.Decoder,
    torch=torch_byte.Decoder,
    draw=draw_tokens,
    call=token_by_token,
    exact=True,
    dtypes=("float64",),
    events=DECODE.events,
    compiles=False,
    bugs=(
        Bug(
            "each byte on its own",
            "numpy",
            "self._decoder.decode(bytes([_byte(token)]))",
            "self._decoder.decode(bytes([_byte(token)]), final=True)",
        ),
        Bug("broken bytes dropped", "numpy", 'errors="replace"', 'errors="ignore"'),
        Bug("the cut character forgotten", "numpy", "final=True", "final=False"),
        Bug("Latin-1", "numpy", '"utf-8"', '"latin-1"'),
        Bug("byte order mark eaten", "torch", '"utf-8"', '"utf-8-sig"'),
        Bug(
            "starts anew at every token",
            "torch",
            "self._decoder.decode(_bytes([int(token)]))",
            "(self._decoder.reset(), self._decoder.decode(_bytes([int(token)])))[1]",
        ),
        Bug(
            "a cut character at the end crosses out",
            "torch",
            'self._decoder.decode(b"", final=True)',
            'self._decoder.decode(b"", final=True).replace("\\ufffd", "")',
        ),
    ),
)

COMPONENTS = (ENCODE, DECODE, DECODER)
