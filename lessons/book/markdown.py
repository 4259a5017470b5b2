"""The Markdown that the lessons are written in, as HTML: a small part of the language, and nothing else.

Headings, paragraphs, lists, tables, code (fenced or indented), links, pictures, **bold**, *italic*, `code`. An arXiv number
becomes a link wherever it stands.
"""

import html
import re

from lessons.book.highlight import python

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def render(text, link=lambda target: target, word=lambda code: None):
    """HTML of a text. link(target) rewrites the targets of links; word(code) may give a target for `code`."""
    lines, parts, place = text.split("\n"), [], 0
    while place < len(lines):
        line = lines[place]
        if not line.strip():
            place += 1
            continue
        for starts, block in BLOCKS:
            if starts(line, lines, place):
                part, place = block(lines, place, lambda words: inline(words, link, word))
                parts.append(part)
                break
    return "\n".join(parts)


def inline(text, link=lambda target: target, word=lambda code: None):
    """HTML of a line or a paragraph."""
    found = []
    for number, part in enumerate(re.split(r"``(.+?)``|`([^`]+)`", text)):
        if part is None:
            continue
        if number % 3:
            code, target = f"<code>{html.escape(part)}</code>", word(part)
            found.append(f'<a href="{target}">{code}</a>' if target else code)
        else:
            found.append(_words(part, link))
    return "".join(found)


def _words(text, link):
    text = html.escape(text, quote=False)
    text = re.sub(r"!\[([^\]]*)\]\(([^)]+)\)", lambda m: f'<img src="{link(m[2])}" alt="{html.escape(m[1])}">', text)
    text = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", lambda m: f'<a href="{link(m[2])}">{m[1]}</a>', text)
    text = ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', text)
    text = re.sub(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", r"<strong>\1</strong>", text, flags=re.DOTALL)
    return re.sub(r"(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?![\w*])", r"<em>\1</em>", text)


def anchor(text):
    """The id of a heading."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


# -- blocks: (lines, place, inline) -> (HTML, place after it) -------------------------------------------------------


def _heading(lines, place, words):
    level, _, text = lines[place].partition(" ")
    return f'<h{len(level)} id="{anchor(text)}">{words(text)}</h{len(level)}>', place + 1


def _fenced(lines, place, words):
    end = next((i for i in range(place + 1, len(lines)) if lines[i].startswith("```")), len(lines))
    source = "\n".join(lines[place + 1 : end])
    body = python(source) if lines[place].strip() == "```python" else html.escape(source)
    return f"<pre><code>{body}</code></pre>", end + 1


def _indented(lines, place, words):
    end = place
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
        end += 1
    source = "\n".join(line[4:] for line in lines[place:end]).rstrip()
    return f'<pre class="equation">{html.escape(source)}</pre>', end


def _list(lines, place, words):
    kind, items = ("ol" if lines[place][0].isdigit() else "ul"), []
    while place < len(lines) and lines[place].strip():
        if _item(lines[place]):
            items.append(re.sub(r"^(-|\d+\.) +", "", lines[place]))
        elif items and lines[place].startswith("  "):
            items[-1] += "\n" + lines[place].strip()
        else:
            break
        place += 1
    return f"<{kind}>" + "".join(f"<li>{words(item)}</li>" for item in items) + f"</{kind}>", place


def _table(lines, place, words):
    end = place
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    rows = [_cells(line) for line in lines[place:end]]
    head, body = rows[0], rows[2:]
    html_rows = "".join("<tr>" + "".join(f"<td>{words(cell)}</td>" for cell in row) + "</tr>" for row in body)
    header = "<tr>" + "".join(f"<th>{words(cell)}</th>" for cell in head) + "</tr>"
    return f'<div class="table"><table><thead>{header}</thead><tbody>{html_rows}</tbody></table></div>', end


def _cells(line):
    """The cells of a row; a | inside `code` is not a border."""
    codes = []

    def keep(match):
        codes.append(match[0])
        return f"\0{len(codes) - 1}\0"

    cells = re.sub(r"`[^`]+`", keep, line.strip().strip("|")).split("|")
    return [re.sub("\0(\\d+)\0", lambda m: codes[int(m[1])], cell).strip() for cell in cells]


def _paragraph(lines, place, words):
    end = place
    while end < len(lines) and lines[end].strip() and (end == place or not _begins(lines[end], lines, end)):
        end += 1
    return f"<p>{words(chr(10).join(lines[place:end]))}</p>", end


def _item(line):
    return re.match(r"(-|\d+\.) +\S", line)


def _begins(line, lines, place):
    """Whether a block other than a paragraph begins here."""
    return any(starts(line, lines, place) for starts, block in BLOCKS if block is not _paragraph and block is not _indented)


BLOCKS = (
    (lambda line, lines, place: re.match(r"#{1,4} ", line), _heading),
    (lambda line, lines, place: line.startswith("```"), _fenced),
    (lambda line, lines, place: line.startswith("    "), _indented),
    (lambda line, lines, place: line.startswith("|") and place + 1 < len(lines) and lines[place + 1].startswith("|-"), _table),
    (lambda line, lines, place: _item(line), _list),
    (lambda line, lines, place: True, _paragraph),
)
