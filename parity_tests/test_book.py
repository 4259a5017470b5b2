"""The book: every page is whole, every link leads somewhere, nothing is missing; and the Markdown and sources behind it."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from lessons import notebook
from lessons.book import build, components, layout, stories
from lessons.book.caught import caught_by
from lessons.book.highlight import python
from lessons.book.markdown import inline, render
from lessons.book.sources import sources
from lessons.catalogue import EXERCISES
from parity_tests.components import COMPONENTS
from parity_tests.components.norms import LAYER_NORM

VOID = {"meta", "link", "img", "br", "hr"}


class Outline(HTMLParser):
    """Ids, links, pictures and text of a page; unbalanced tags raise."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.pictures = [], [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag == "img":
            assert found.get("alt"), "a picture without words for who can't see it"
            self.pictures.append(found["src"])

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """{file: HTML} of all pages, and the folder where their pictures lie; without looking what catches the bugs."""
    out = tmp_path_factory.mktemp("book")
    pages = build.every_page(out, {})
    return {page.file: layout.whole(page, pages) for page in pages}, out


def test_every_page_is_whole_and_every_link_leads_somewhere(book):
    pages, out = book
    outlines = {file: Outline(text) for file, text in pages.items()}
    for file, outline in outlines.items():
        assert len(set(outline.ids)) == len(outline.ids), f"{file}: an id occurs twice"
        for link in outline.links:
            target, _, place = unquote(link).partition("#")
            if re.match(r"https?:", link) or target == "style.css":
                continue
            assert (target or file) in outlines, f"{file} links to {link}"
            assert not place or place in outlines[target or file].ids, f"{file} links to {link}"
        assert all((out / picture).exists() for picture in outline.pictures)


def test_every_component_lesson_and_exercise_is_in_it(book):
    pages, _ = book
    for component in COMPONENTS:
        text = pages[components.file_of(component)]
        assert "The reference" in text or "NumPy: the reference" in text
        assert text.count("<tr><td>") >= len(component.bugs)
    together = "".join(pages.values())
    assert all(f'id="{exercise.name}"' in together for exercise in EXERCISES)
    assert len([page for page in pages if page.startswith("lesson-")]) == len(notebook.twins())


def test_the_stories_are_of_bugs_that_are_planted():
    names = {(component.name, bug.name) for component in COMPONENTS for bug in component.bugs}
    assert all((story.component, story.bug) in names for story in stories.STORIES)


def test_a_planted_bug_is_told_by_the_property_that_fails(tmp_path):
    found = caught_by([LAYER_NORM], tmp_path / "caught.json")
    assert found["layer_norm", "slope term forgotten in dx"] == "the gradient of x"
    assert found["layer_norm", "dbias averaged over rows"] == "the gradient of bias"
    assert found["layer_norm", "1 + weight"] == "the value"
    assert caught_by([LAYER_NORM], tmp_path / "caught.json") == found


@pytest.mark.nightly
def test_every_planted_bug_is_told_by_a_property(tmp_path):
    found = caught_by(COMPONENTS, tmp_path / "caught.json")
    assert sum(not words for words in found.values()) <= len(found) // 10


def test_the_reading_order_counts_right():
    text = (build.HERE / "README.md").read_text()
    for path in notebook.twins():
        own = [exercise for exercise in EXERCISES if exercise.lesson == int(path.stem[:2])]
        hours = max(1, round(sum(exercise.minutes for exercise in own) / 60))
        row = next(line for line in text.splitlines() if f"({path.stem}.ipynb)" in line)
        assert f"| {len(own)}, about {hours} h |" in row, f"{path.stem}: {len(own)} exercises, about {hours} h"


def test_sources_leave_the_docstring_out_and_bring_their_helpers():
    path, text = sources(next(one for one in COMPONENTS if one.name == "softmax").numpy)
    assert path == "numpy_ref/model/softmax.py"
    assert text.index("def softmax") < text.index("def _peak") and '"""Positive weights' not in text
    assert "def log_softmax" not in text


MARKDOWN = {
    "# A b": '<h1 id="a-b">A b</h1>',
    "one\ntwo": "<p>one\ntwo</p>",
    "    x = 1\n    y": '<pre class="equation">x = 1\ny</pre>',
    "- one\n  more\n- two": "<ul><li>one\nmore</li><li>two</li></ul>",
    "1. one\n2. two": "<ol><li>one</li><li>two</li></ol>",
    "| a | b |\n|---|---|\n| `x | y` | 2 |": (
        '<div class="table"><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody>'
        "<tr><td><code>x | y</code></td><td>2</td></tr></tbody></table></div>"
    ),
    "words:\n- one": "<p>words:</p>\n<ul><li>one</li></ul>",
    "```\na < b\n```": "<pre><code>a &lt; b</code></pre>",
}


@pytest.mark.parametrize("text", MARKDOWN)
def test_markdown(text):
    assert render(text) == MARKDOWN[text]


def test_inline_markdown():
    assert inline("a * b and *c* and **d e** and `x*y*z`") == "a * b and <em>c</em> and <strong>d e</strong> and <code>x*y*z</code>"
    assert inline("see [here](there.md), arXiv:1706.03762 <b>") == (
        'see <a href="there.md">here</a>, <a href="https://arxiv.org/abs/1706.03762">arXiv:1706.03762</a> &lt;b&gt;'
    )


def test_python_in_colours_loses_nothing():
    source = 'def f(x):\n    """doc"""\n    # why\n    return f"{x + 1:.2f}" if x < 2 else None\n'
    coloured = python(source)
    assert re.sub("<[^>]+>", "", coloured).replace("&lt;", "<").replace("&quot;", '"') == source
    assert '<span class="k">def</span> <span class="f">f</span>' in coloured and '<span class="c"># why</span>' in coloured
    assert python("not python (") == "not python ("
