"""Every exercise, proved both ways: the gap fails, the reference passes, each typical mistake is told by name."""

import inspect

import numpy as np
import pytest

from lessons import grader
from lessons.__main__ import main
from lessons.catalogue import EXERCISES, find
from lessons.exercise import GAPS

MISTAKES = [(exercise, mistake) for exercise in EXERCISES for mistake in exercise.mistakes]


def name_of(value):
    return value if isinstance(value, str) else value.name


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_the_gap_fails(exercise):
    found = grader.grade(exercise, grader.load(exercise, exercise.gap))
    assert found.property == grader.GAP and "still empty" in found.words


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_the_reference_passes(exercise):
    assert grader.grade(exercise, exercise.solution()) is None


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES, ids=name_of)
def test_a_typical_mistake_is_told_by_name(exercise, mistake):
    found = grader.grade(exercise, exercise.mistaken(mistake), smallest=False)
    assert found is not None, f"{exercise.name}: nobody notices {name_of(mistake)}"
    assert found.mistake == mistake, f"{exercise.name}: {name_of(mistake)} was taken for {found}"


def test_every_gap_has_an_exercise_and_every_lesson_six():
    assert {path.stem for path in GAPS.glob("*.py")} == {exercise.name for exercise in EXERCISES}
    lessons = [exercise.lesson for exercise in EXERCISES]
    assert lessons == sorted(lessons) and min(lessons.count(lesson) for lesson in set(lessons)) >= 6


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_an_exercise_is_complete(exercise):
    text = exercise.gap.read_text()
    assert text.startswith(f'"""Lesson {exercise.lesson}: ') and exercise.function in text
    assert len(exercise.hints) >= 2 and len(exercise.mistakes) >= 3


# -- right answers that are written another way --------------------------------------------------------------------


def other_layer_norm(x, weight, bias, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def other_softmax(x):
    y = np.exp(x - x.max(axis=-1, keepdims=True))
    y = y / y.sum(axis=-1, keepdims=True)
    return y, lambda dy: y * (dy - np.einsum("...i,...i->...", dy, y)[..., None])


def other_attention(query, key, value, causal=False):
    scale = query.shape[-1] ** -0.5
    scores = np.einsum("hqd,hkd->hqk", query, key) * scale
    if causal:
        scores[:, ~np.tri(*scores.shape[1:], scores.shape[2] - scores.shape[1], dtype=bool)] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)

    def vjp(dy):
        dp = np.einsum("hqe,hke->hqk", dy, value)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
        return np.einsum("hqk,hkd->hqd", ds, key), np.einsum("hqk,hqd->hkd", ds, query), np.einsum("hqk,hqe->hke", p, dy)

    return np.einsum("hqk,hke->hqe", p, value), vjp


def other_silu(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, lambda dy: dy * (s + x * s / (1 + np.exp(x)))


def other_swiglu(x):
    a, b = np.split(x, 2, axis=-1)
    s = 1 / (1 + np.exp(-a))
    return a * s * b, lambda dy: np.concatenate((dy * b * s * (1 + a * (1 - s)), dy * a * s), axis=-1)


OTHERS = {
    "01_layer_norm": other_layer_norm, "01_softmax": other_softmax, "01_attention": other_attention,
    "03_silu": other_silu, "03_swiglu": other_swiglu,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_right_answer_passes_however_it_is_written(name):
    assert grader.grade(find(name), OTHERS[name]) is None


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def learner(tmp_path, capsys):
    """(run a command -> status and output, write an answer)."""
    folder = tmp_path / "answers"

    def run(*arguments):
        status = main([*arguments, "--answers", str(folder)])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    def write(name, text):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)

    return run, write


def test_a_learner_goes_from_the_gap_to_the_next_exercise(learner):
    run, write = learner
    exercise = EXERCISES[0]
    assert exercise.name in run("next")[1]
    status, text = run("check", exercise.name)
    assert status == 1 and "was written for you" in text
    status, text = run("check", exercise.name)
    assert status == 1 and "still empty" in text
    write(exercise.name, inspect.getsource(inspect.getmodule(inspect.unwrap(exercise.component.numpy))))
    status, text = run("check", exercise.name)
    assert status == 0 and "passed" in text and EXERCISES[1].name in text
    assert f"1 of {len(EXERCISES)}" in run("progress")[1]


def test_what_is_wrong_is_said_in_words(learner):
    run, write = learner
    write("03_rms_norm", "import numpy as np\ndef rms_norm(x, weight, eps=1e-6):\n    return x / (np.sqrt(np.mean(x * x, -1, keepdims=True)) + eps) * weight\n")
    status, text = run("check", "rms_norm")
    assert status == 1
    for words in ("what fails   the value", "eps belongs inside the square root", "the smallest input", "expected", "got", "03_rms_norm"):
        assert words in text, text


WRONG = {
    "    y =\n": ("Python can't read it", 2),
    "x = 1\n": ("has no function update_scale", 2),
    "import nothing_of_that_name\n": ("ModuleNotFoundError", 2),
    "def update_scale(scale, good_steps, finite, growth_interval): return oops\n": ("name 'oops' is not defined in line 1", 1),
    "def update_scale(scale, good_steps, finite, growth_interval): pass\n": ("other parts", 1),
    "def update_scale(): return 1\n": ("TypeError", 1),
}


@pytest.mark.parametrize("source", WRONG)
def test_bad_answers_are_met_with_a_line_not_a_traceback(learner, source):
    run, write = learner
    write("04_loss_scale", source)
    status, text = run("check", "loss_scale")
    words, wanted = WRONG[source]
    assert status == wanted and words in text and "Traceback" not in text, text


def test_names_are_forgiven_and_hints_come_one_by_one(learner):
    run, _ = learner
    assert run("hint", "lessons/exercises/03_rope.py")[1].count("\n  2  ") == 0
    assert "\n  2  " in run("hint", "rope")[1]
    status, text = run("check", "roop")
    assert status == 2 and "did you mean" in text
    assert "def rotary" in run("solution", "rope")[1]
