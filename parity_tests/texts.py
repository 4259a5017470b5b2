"""Texts that tokenizers get wrong: one strategy for every test that draws text."""

from hypothesis import strategies as st

from parity_tests.harness.strategies import Drawn, Source

TEXTS = {
    "letters": "the quick brown fox",
    "space around": " \t a ",
    "accents": "naïve Ångström",
    "combining marks": "e\u0301 a\u030a o\u0323\u0302",
    "emoji": "😀👩‍🚀🏳️‍🌈🇩🇪👍🏽",
    "other scripts": "語 مرحبا Ωμέγα हिन्दी",
    "line ends": "a\r\nb\rc\n\n\u0085\u2028",
    "U+2029": "one\u2029two",
    "byte order mark": "\ufefftext\ufeff",
    "zero": "a\0b",
    "last character": "\U0010ffff\uffff\ufffd",
    "lone surrogate": "a\ud83dz\udc00",
}
MARKER = "<|endoftext|>"
PIECES = {name: text for name, text in TEXTS.items() if name != "lone surrogate"} | {
    "run of one letter": "aaaaaaa",
    "words": " the cat and the hat",
    "run of spaces": "     ",
    "spaces before a word": "   word",
    "spaces before a line end": "  \n \n\n  x",
    "tabs": "\t\tif x:\n\t\t\ty",
    "CRLF": "a;\r\n\r\nb\r",
    "contractions": "I'll he's don't we've you'd they're I'm",
    "contractions in capitals": "HE'S I'LL x'T 'VE HE'Sx I'LLama",
    "long s and kelvin": "it'\u017fx o'\u212a '\u017fx",
    "digits": "1234567 3.14 007",
    "numbers of other kinds": "\u00bd\u2167\u00b2\u0669\u0668 \U0001d7d8\U0001d7d9",
    "letters above U+FFFF": "\U0001d49c\U00010330\U00020000 \U0001f5ff",
    "punctuation and line ends": "!?\n\n...\r\n'\"\n",
    "separators that are no white space": "a\x1c\x1d \x1e\x1fb",
    "white space of Unicode": "a\u3000\u2003b\u00a0\u0085 c\u2028\u202f",
    "marker": MARKER,
    "nearly a marker": "<|endoftext|<|endof" + MARKER + "text|>",
    "hashes": "#!a ## b ####\n\u2026c #\u2026d",
    "long piece": "ab" * 20 + "ba" * 25,
}
SURROGATE = "lone surrogate"


def draw_text(source, most=6):
    """Up to ``most`` pieces one after the other; each is an event of its name."""
    kinds = [source.choice(*PIECES) for _ in range(source.integer(0, most))]
    for kind in kinds:
        source.event(kind)
    source.event("empty", not kinds)
    return "".join(PIECES[kind] for kind in kinds)


@st.composite
def texts(draw, most=6):
    """The same for ``@given``, mixed with characters of any kind that this Python's Unicode knows."""
    drawn = draw_text(Source(Drawn(draw)), most)
    some = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=5)
    return draw(some) + drawn + draw(some)
