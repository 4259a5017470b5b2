"""All pages of the book, written to a folder: ``python -m lessons book --out runs/book``."""

import sys
import time
from pathlib import Path

from lessons import notebook
from lessons.book import components, lessons, stories
from lessons.book.caught import caught_by
from lessons.book.layout import CSS, Page, whole
from lessons.book.markdown import render
from lessons.catalogue import EXERCISES
from parity_tests.components import COMPONENTS

HERE = Path(__file__).parent.parent


def build(out):
    """Write the book; returns its pages."""
    start = time.perf_counter()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    caught = caught_by(COMPONENTS, out / ".caught.json")
    pages = every_page(out, caught)
    for page in pages:
        (out / page.file).write_text(whole(page, pages), encoding="utf-8")
    (out / "style.css").write_text(CSS)
    print(f"{len(pages)} pages in {out}, begin with {out / 'index.html'} ({time.perf_counter() - start:.0f} s)", file=sys.stderr)
    return pages


def every_page(out, caught):
    """The pages in the order of reading."""
    word = _words()
    front = Page("index.html", "Reading order", render((HERE / "README.md").read_text(), _link, word))
    glossary = Page("glossary.html", "Symbols and shapes", render((HERE / "glossary.md").read_text(), _link, word))
    bugs = Page("bugs.html", "Bugs that fooled good engineers", stories.html_of(caught))
    return [front, *lessons.pages(out, word), glossary, bugs, *components.pages(caught)]


def _words():
    """A function: the name of a component or exercise, as `code` in a text -> the file of its page; else None."""
    places = {component.name: components.file_of(component) for component in COMPONENTS}
    twins = {int(path.stem[:2]): path for path in notebook.twins()}
    for exercise in EXERCISES:
        if exercise.lesson in twins:
            places[exercise.name] = f"{lessons.file_of(twins[exercise.lesson])}#{exercise.name}"
    return places.get


def _link(target):
    """Links between the Markdown files, as links between the pages."""
    notebooks = {f"{path.stem}.ipynb": lessons.file_of(path) for path in notebook.twins()}
    return {"glossary.md": "glossary.html"}.get(target) or notebooks.get(target, target)
