"""Cutting text into pieces that merges never cross: the split patterns of GPT-2 and GPT-4, for the standard ``re``.

The patterns are published with Unicode classes, which ``re`` lacks (github.com/openai/gpt-2 encoder.py; cl100k_base of
github.com/openai/tiktoken as first published, which is also what tokenizer.json files carry):

    gpt2   's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+
    gpt4   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|
           \\s*[\\r\\n]+|\\s+(?!\\S)|\\s+

Here they are spelt out: \\p{L} and \\p{N} from ``unicodedata`` (letters that are younger than this Python's Unicode
version count as neither), \\s as Unicode's White_Space. That is not Python's \\s, which also takes U+001C to U+001F.

``\\s+(?!\\S)`` leaves the last space of a run to the word behind it. Every character is in exactly one piece. Later
versions of tiktoken put ``\\s++$`` before ``\\s*[\\r\\n]``: white space at the very end of a text that goes on after
its last line end is then one piece, not two.
"""

import functools
import re
import unicodedata

from numpy_ref.errors import UserError

DEFINITION = "where text is cut: no arithmetic"

PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # White_Space of PropList.txt
STAND_INS = {"L": "\ud800", "N": "\ud801", "other": "\ud802"}  # halves of surrogate pairs: no text has them


def split(text, name):
    """The pieces of a text in order, a list of str that joined together are the text. name: "gpt2" or "gpt4".

    The same as ``pattern(name).findall(text)``, faster. ``re`` looks a class up in a table for the characters below
    U+10000 and goes through a list for those above, so these are first replaced by one stand-in for each class.
    """
    if text.isascii():
        return pattern(name, 0x80).findall(text)
    short = pattern(name, 0x10000)
    if len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text):  # nothing above U+FFFF
        return short.findall(text)
    return [text[slice(*match.span())] for match in short.finditer(_above().sub(_stand_in, text))]


@functools.cache
def pattern(name, bound=0x110000):
    """The compiled pattern ``name`` of PATTERNS; ``bound``: all characters lie below it or are stand-ins."""
    if name not in PATTERNS:
        raise UserError(f"there is no split pattern {name!r}; take one of {', '.join(PATTERNS)}")
    letters, numbers = (_ranges(kind, bound) + (STAND_INS[kind] if bound == 0x10000 else "") for kind in "LN")
    classes = {r"\p{L}": letters, r"\p{N}": numbers, r"\s": SPACE}
    written = PATTERNS[name].replace(r"\S", f"[^{SPACE}]")
    for part in re.findall(r"\[[^\]]*\]", PATTERNS[name]):  # inside brackets a class is its ranges alone
        spelt = part
        for key, ranges in classes.items():
            spelt = spelt.replace(key, ranges)
        written = written.replace(part, spelt)
    for key, ranges in classes.items():
        written = written.replace(key, f"[{ranges}]")
    return re.compile(written)


def _above():
    return re.compile("[\U00010000-\U0010ffff]")


def _stand_in(match):
    kind = unicodedata.category(match.group())[0]
    return STAND_INS.get(kind, STAND_INS["other"])


def parts(text, names):
    """The text cut before and after the names of special tokens, longer names first; no empty parts."""
    if not names:
        return [text] if text else []
    longest = sorted(names, key=len, reverse=True)
    return [part for part in re.split(f"({'|'.join(map(re.escape, longest))})", text) if part]


def has_letter(piece):
    """Whether a piece holds a letter: then it is a word, and BoundlessBPE may join it with its neighbours."""
    return any(unicodedata.category(character)[0] == "L" for character in piece)


def chunks(blocks, size=1 << 16, lines=False):
    """The text of an iterable of str, in pieces of about ``size`` characters, cut only where no pattern can notice.

    So the pieces of the chunks, one after the other, are the pieces of the whole text. A sure cut lies before white
    space that follows a letter or a digit, and before a space or tab that follows any visible character: no piece has
    white space behind those, and none looks further back or ahead. A text without such a place stays whole.
    lines: cut before line ends alone. The piece there has no letter, so that no run of words goes over the cut.
    """
    cuts, held = _line_cuts() if lines else _cuts(), ""
    for block in blocks:
        held += block
        start = 0
        while len(held) - start > size:
            cut = _last_cut(cuts, held, start + 1, start + size) or _first_cut(cuts, held, start + size)
            if cut is None:
                break
            yield held[start:cut]
            start = cut
        held = held[start:]
    if held:
        yield held


def _last_cut(cuts, text, start, end):
    """The last sure cut in text[start:end], looked for in its last part alone; None if there is none."""
    found = None
    for match in cuts.finditer(text, max(start, end - 256), end):
        found = match.start()
    return found


def _first_cut(cuts, text, start):
    match = cuts.search(text, start)
    return match.start() if match else None


@functools.cache
def _line_cuts():
    return re.compile(f"(?<=[{_ranges('L') + _ranges('N')}])[\\r\\n]")


@functools.cache
def _cuts():
    letters = _ranges("L") + _ranges("N")
    return re.compile(f"(?<=[{letters}])[{SPACE}]|(?<=[^{SPACE}])[ \\t]")


@functools.cache
def _ranges(kind, bound=0x110000):
    """The characters below ``bound`` whose general category begins with ``kind``, as ranges for a bracket."""
    found, start = [], None
    for code in range(bound):
        inside = unicodedata.category(chr(code))[0] == kind
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            found.append((start, code - 1))
            start = None
    if start is not None:
        found.append((start, code))
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in found)
