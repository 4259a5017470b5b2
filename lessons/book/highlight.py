"""Python in colours, by the standard library's tokenizer."""

import builtins
import html
import io
import keyword
import token
import tokenize

KINDS = {token.STRING: "s", token.NUMBER: "n", tokenize.COMMENT: "c"}
KINDS |= {getattr(token, name): "s" for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END") if hasattr(token, name)}
BUILTINS = set(dir(builtins))


def python(source):
    """HTML of a piece of Python, with spans of the classes k, s, n, c, b, f; plain where it can't be read as Python."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return html.escape(source)
    lines = source.splitlines(keepends=True)
    found, row, column, before = [], 1, 0, ""

    def until(end_row, end_column):
        nonlocal row, column
        parts = []
        while row < end_row:
            parts.append(lines[row - 1][column:])
            row, column = row + 1, 0
        if end_row <= len(lines):
            parts.append(lines[end_row - 1][column:end_column])
            column = end_column
        return html.escape("".join(parts))

    for one in tokens:
        if one.type in (token.ENDMARKER, token.NEWLINE, token.NL, token.INDENT, token.DEDENT):
            continue
        found.append(until(*one.start))
        text, kind = until(*one.end), _kind(one, before)
        found.append(f'<span class="{kind}">{text}</span>' if kind else text)
        before = one.string
    found.append(until(len(lines) + 1, 0))
    return "".join(found)


def _kind(one, before):
    if one.type in KINDS:
        return KINDS[one.type]
    if one.type != token.NAME:
        return None
    if keyword.iskeyword(one.string):
        return "k"
    if before in ("def", "class"):
        return "f"
    return "b" if one.string in BUILTINS and before != "." else None
