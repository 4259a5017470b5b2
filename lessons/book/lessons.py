"""The lessons as pages: their notebooks, with the exercises where the text asks for them."""

import ast
import base64
import html

from lessons import notebook
from lessons.book.highlight import python
from lessons.book.layout import Page
from lessons.book.markdown import inline, render
from lessons.catalogue import EXERCISES

REPOSITORY = "../../"


def file_of(path):
    return f"lesson-{path.stem.replace('_', '-')}.html"


def pages(out, word):
    """The page of every lesson; its pictures go to ``out``. word: code -> file of its page or None."""
    found = []
    for path in notebook.twins():
        cells = notebook.stored(path.with_suffix(".ipynb"))
        title = cells[0].source.partition("\n")[0].removeprefix("# ")
        body = [_cell(cell, number, path, out, word) for number, cell in enumerate(cells, 1)]
        own = [exercise for exercise in EXERCISES if exercise.lesson == int(path.stem[:2])]
        body.append('<h2 id="exercises">The exercises of this lesson</h2>')
        body.append("<p class='note'>Each begins with <code>python -m lessons check NAME</code> and is graded by the parity harness.</p>")
        body += [exercise_html(exercise, word) for exercise in own]
        found.append(Page(file_of(path), title, "\n".join(body)))
    return found


def _cell(cell, number, path, out, word):
    if cell.kind == "markdown":
        return render(cell.source, word=word)
    parts = [f"<pre><code>{python(cell.source)}</code></pre>"]
    for place, output in enumerate(cell.outputs):
        data = output.get("data", {})
        if "image/png" in data:
            file = f"{path.stem}-{number:02}-{place}.png"
            (out / file).write_bytes(base64.b64decode(data["image/png"]))
            title = "".join(data["text/plain"]).removeprefix("Picture(").removesuffix(")").strip("'\"")
            parts.append(f'<img src="{file}" alt="{html.escape(title)}" loading="lazy">')
        else:
            text = "".join(output.get("text") or data.get("text/plain", ""))
            parts.append(f'<pre class="output">{html.escape(text.rstrip())}</pre>')
    return "\n".join(parts)


def exercise_html(exercise, word):
    """The task of an exercise, its hints one by one, and what is given."""
    tree = ast.parse(exercise.gap.read_text())
    task = ast.get_docstring(tree).partition("\n")[2].strip("\n")
    rest = exercise.gap.read_text().split('"""', 2)[2].strip("\n")
    hints = "".join(f"<details class='hint'><summary>Hint {n}</summary><p>{inline(text)}</p></details>" for n, text in enumerate(exercise.hints, 1))
    return (
        f'<div class="exercise" id="{exercise.name}"><h3>{exercise.name}: {html.escape(exercise.title)}</h3>'
        f"<p class='note'>about {exercise.minutes} minutes; <code>python -m lessons check {exercise.name}</code></p>"
        f"{render(task, word=word)}<details><summary>What is given</summary><pre><code>{python(rest)}</code></pre></details>{hints}</div>"
    )
