"""Notebooks from their plain-text twins: ``NN_name.py`` in percent format is the source, ``NN_name.ipynb`` is built from it.

    # %% [markdown]        a cell of text, every line commented out
    # %%                   a cell of code

Cells run one after the other in one namespace, in this process; Jupyter is not needed. What a cell prints is kept, and its
last expression as text, or as a picture where it has a ``_repr_png_``, as in Jupyter.
"""

import ast
import base64
import contextlib
import io
import json
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from numpy_ref.errors import UserError

FOLDER = Path(__file__).parent
MARK, TEXT = "# %%", "# %% [markdown]"


@dataclass
class Cell:
    """``kind`` "markdown" or "code", its source, and for code the outputs of nbformat 4."""

    kind: str
    source: str
    outputs: list = field(default_factory=list)


class CellError(Exception):
    """A cell that stopped with an error; the message says which and why."""


def twins():
    """The plain-text twin of every lesson, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def find(name):
    """The twin of a lesson by its number, name or file. Raises UserError with those that exist."""
    asked = Path(name).stem
    for path in twins():
        if asked in (path.stem, path.stem[:2], path.stem[3:]) or asked.isdigit() and int(asked) == int(path.stem[:2]):
            return path
    raise UserError(f"there is no lesson {name!r}; take one of {', '.join(path.stem for path in twins())}")


def read(path):
    """The cells of a percent-format file."""
    cells, kind, lines = [], None, []

    def close():
        if kind is not None:
            text = [line[2 if line.startswith("# ") else 1 :] if kind == "markdown" else line for line in lines]
            source = "\n".join(text).strip("\n")
            if source:
                cells.append(Cell(kind, source))

    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith(MARK):
            close()
            kind, lines = ("markdown" if line.startswith(TEXT) else "code"), []
        else:
            lines.append(line)
    close()
    return cells


def execute(cells, name="lesson"):
    """Run the code cells in one namespace and put what they show into ``outputs``. Raises CellError."""
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(cells, 1):
        if cell.kind == "code":
            cell.outputs = _run(cell.source, namespace, f"{name}, cell {number}")
    return cells


def _run(source, namespace, where):
    printed = io.StringIO()
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            exec(compile(tree, where, "exec"), namespace)
            value = eval(compile(ast.Expression(last.value), where, "eval"), namespace) if last else None
    except Exception as error:
        text = "".join(traceback.format_exception(error)[-6:])
        raise CellError(f"{where} stopped:\n{source}\n\n{printed.getvalue()}{text}") from None
    outputs = [{"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())}] if printed.getvalue() else []
    if value is not None:
        outputs.append({"output_type": "display_data", "metadata": {}, "data": _data(value)})
    return outputs


def _data(value):
    """A value as MIME types: a picture or plain text."""
    if hasattr(value, "_repr_png_"):
        png = base64.b64encode(value._repr_png_()).decode()
        return {"image/png": png, "text/plain": _lines(repr(value))}
    return {"text/plain": _lines(repr(value))}


def _lines(text):
    return text.splitlines(keepends=True)


def to_json(cells):
    """The notebook as the JSON of nbformat 4.5."""
    written, count = [], 0
    for number, cell in enumerate(cells, 1):
        one = {"cell_type": cell.kind, "id": f"cell-{number:02}", "metadata": {}, "source": _lines(cell.source)}
        if cell.kind == "code":
            count += 1
            one |= {"execution_count": count, "outputs": cell.outputs}
        written.append(one)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": written, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


def stored(path):
    """The cells of an .ipynb file, outputs included."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [Cell(cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])) for cell in cells]


def build(path):
    """Execute a twin and write its notebook beside it; returns the seconds that this took."""
    start = time.perf_counter()
    cells = execute(read(path), path.stem)
    seconds = time.perf_counter() - start
    path.with_suffix(".ipynb").write_text(to_json(cells), encoding="utf-8")
    return seconds


def reword(path):
    """Write the notebook anew with the outputs that it has; only its text, and how its code is laid out, may have changed.

    Raises UserError for anything else.
    """
    cells, target = read(path), path.with_suffix(".ipynb")
    old = [cell for cell in stored(target) if cell.kind == "code"] if target.exists() else []
    code = [cell for cell in cells if cell.kind == "code"]
    if [_meaning(cell) for cell in old] != [_meaning(cell) for cell in code]:
        raise UserError(f"the code of {path.name} has changed; build it without --text, so that it runs")
    for cell, before in zip(code, old):
        cell.outputs = before.outputs
    target.write_text(to_json(cells), encoding="utf-8")


def _meaning(cell):
    return ast.dump(ast.parse(cell.source))


def build_all(names, text=False):
    """Build some lessons, or all, and say how long each took; ``text``: keep the outputs where only text has changed."""
    for path in [find(name) for name in names] or twins():
        took = reword(path) if text else f"  {build(path):.1f} s"
        print(f"{path.with_suffix('.ipynb').name}{took or ''}", file=sys.stderr)
