"""The lessons: each notebook says what its twin says and has run; one runs here, all of them at night; the pictures."""

import argparse
import json

import numpy as np
import pytest

from lessons import notebook
from lessons.__main__ import build_parser, main
from lessons.draw import loss_surface, tokens
from numpy_ref.__main__ import main as numpy_main
from numpy_ref.errors import UserError

TWINS = notebook.twins()
SHORT = next(path for path in TWINS if path.stem == "01_transformer")


@pytest.mark.parametrize("path", TWINS, ids=lambda path: path.stem)
def test_a_notebook_is_its_twin_with_outputs(path):
    cells, built = notebook.read(path), notebook.stored(path.with_suffix(".ipynb"))
    assert [(cell.kind, cell.source) for cell in built] == [(cell.kind, cell.source) for cell in cells], (
        f"run python -m lessons build {path.stem}"
    )
    shown = [output for cell in built for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown), "a lesson has a picture"
    assert not any(output["output_type"] == "error" for output in shown)
    assert cells[0].kind == "markdown" and cells[0].source.startswith(f"# Lesson {int(path.stem[:2])}: ")


@pytest.mark.parametrize("path", TWINS, ids=lambda path: path.stem)
def test_a_notebook_is_what_jupyter_reads(path):
    """The fields that nbformat 4.5 requires, and no others."""
    book = json.loads(path.with_suffix(".ipynb").read_text())
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5) and set(book) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in book["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | code


def run(path):
    cells = notebook.execute(notebook.read(path), path.stem)
    assert all(cell.outputs or cell.kind == "markdown" or "import" in cell.source for cell in cells)


def test_one_lesson_runs():
    run(SHORT)


@pytest.mark.nightly
@pytest.mark.parametrize("path", [path for path in TWINS if path != SHORT], ids=lambda path: path.stem)
def test_every_lesson_runs(path):
    run(path)


def test_what_a_cell_shows_is_kept(tmp_path):
    path = tmp_path / "01_x.py"
    path.write_text("# %% [markdown]\n# # Title\n#\n# words\n\n# %%\nx = 2\nprint('seen')\nx + 1\n\n# %%\ny = x\n")
    cells = notebook.execute(notebook.read(path))
    assert cells[0].source == "# Title\n\nwords"
    assert cells[1].outputs[0]["text"] == ["seen\n"] and cells[1].outputs[1]["data"]["text/plain"] == ["3"]
    assert cells[2].outputs == []
    path.with_suffix(".ipynb").write_text(notebook.to_json(cells))
    path.write_text(path.read_text().replace("words", "other words"))
    notebook.reword(path)
    again = notebook.stored(path.with_suffix(".ipynb"))
    assert again[0].source.endswith("other words") and again[1].outputs == cells[1].outputs
    path.write_text("# %%\nx = 1\n\n# %%\nx / 0\n")
    with pytest.raises(UserError, match="code of 01_x.py has changed"):
        notebook.reword(path)
    with pytest.raises(notebook.CellError, match="cell 2 stopped"):
        notebook.execute(notebook.read(path))


# -- pictures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run folder of a tiny model."""
    folder = tmp_path_factory.mktemp("lessons") / "run"
    options = "--steps 3 --batch 2 --eval-every 0 --eval-tokens 64 --layers 1 --width 16 --heads 2 --feed-forward 16"
    assert numpy_main(["train", "--preset", "tiny", *options.split(), "--data", "samples", "--out", str(folder)]) == 0
    return folder


PICTURES = {
    "attention": ["--checkpoint", "RUN", "--prompt", "a line"],
    "rope": ["--scaling", "yarn", "--width", "16"],
    "sampling": ["--checkpoint", "RUN", "--temperature", "0.3", "--temperature", "3"],
    "loss": ["--checkpoint", "RUN", "--data", str(notebook.FOLDER / "02_training.py"), "--steps", "3"],
    "curves": ["RUN"],
    "tokens": ["--text", "naïve 😀 text"],
    "router": ["EXPERTS"],
    "ppo": ["--clip-high", "0.28"],
    "grpo": ["0 0 1", "1 1 1", "0 0.5 1", "--baseline", "rloo"],
    "poincare": ["--children", "2", "--levels", "3"],
    "model": ["gpt2", "llama-7b"],
}


def test_every_picture_is_asked_for_here():
    parser = subparser(subparser(build_parser(), "draw"), None)
    assert set(parser) == set(PICTURES)


def subparser(parser, name):
    """One subcommand of a parser, or with None all of them by name."""
    choices = next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return choices if name is None else choices[name]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_drawn_from_the_command_line(name, trained, tmp_path, capsys):
    out = tmp_path / "deep" / "picture.png"
    rows = [{"step": step, "loss": 1.0, "experts": {"load": [[0.25, 0.75]], "dropped": [0.0], "entropy": [0.6]}} for step in range(3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = {"RUN": str(trained), "EXPERTS": str(tmp_path)}
    arguments = [places.get(argument, argument) for argument in PICTURES[name]]
    assert main(["draw", name, *arguments, "--out", str(out)]) == 0, capsys.readouterr().err
    assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 5000


WRONG = (
    ["draw", "rope", "--width", "7", "--out", "a.png"],
    ["draw", "rope", "--out", "a.jpg"],
    ["draw", "sampling", "--checkpoint", "RUN", "--top-p", "2", "--out", "a.png"],
    ["draw", "attention", "--checkpoint", "RUN", "--head", "9", "--out", "a.png"],
    ["draw", "attention", "--checkpoint", "nowhere", "--out", "a.png"],
    ["draw", "loss", "--checkpoint", "RUN", "--data", "nowhere", "--out", "a.png"],
    ["draw", "nothing", "--out", "a.png"],
    ["draw", "router", "RUN", "--out", "a.png"],
    ["draw", "grpo", "0 1", "1", "--out", "a.png"],
    ["draw", "grpo", "no number", "--out", "a.png"],
    ["draw", "ppo", "--clip-low", "0", "--out", "a.png"],
    ["draw", "poincare", "--children", "50", "--out", "a.png"],
    ["draw", "poincare", "--points", "nowhere", "--out", "a.png"],
    ["draw", "model", "gpt9", "--out", "a.png"],
    ["build", "99"],
    ["check"],
)


@pytest.mark.parametrize("command", WRONG, ids=" ".join)
def test_wrong_input_is_one_line(command, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(trained) if part == "RUN" else part for part in command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error


def test_a_drawn_slice_goes_through_the_weights():
    """The middle of the slice is the loss of the weights themselves, and directions are as long as the weights."""
    params = {"a": np.random.default_rng(0).standard_normal((3, 5)), "b": np.ones(4)}
    (direction, _) = loss_surface.directions(params)
    assert np.allclose(np.linalg.norm(direction["a"], axis=1), np.linalg.norm(params["a"], axis=1)) and not direction["b"].any()
    shares, values = loss_surface.slice_of(lambda p: float(np.sum(p["a"] ** 2)), params, steps=5)
    assert values[2, 2] == np.sum(params["a"] ** 2) and values.shape == (5, 5) and shares[2] == 0


def test_tokens_are_drawn_where_their_characters_end():
    text = "né😀"
    assert tokens._characters(text, [bytes([b]) for b in text.encode()]) == [
        ("n", 0), ("◦", 1), ("é", 2), ("◦", 3), ("◦", 4), ("◦", 5), ("😀", 6)
    ]  # fmt: skip
    assert tokens._characters(text, [text.encode()]) == [(text, 0)]
