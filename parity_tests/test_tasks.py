"""The built-in tasks: reproducible, judged rightly, and without a held-out prompt in training."""

import json
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_ref.data.corpus import documents
from numpy_ref.errors import UserError
from numpy_ref.tasks import countdown
from numpy_ref.tasks.builtin import CLASSES, DEFAULTS, KINDS, QUESTIONS, find, sentences
from numpy_ref.tasks.task import Draws, Example, closeness, example, examples, is_held_out, normalised, score

kinds = pytest.mark.parametrize("kind", KINDS)
EASY = {kind: find(f"{kind}-{KINDS[kind][0]}") for kind in KINDS}


@kinds
@given(seeds=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), number=st.integers(0, 2**40), hard=st.booleans())
@settings(max_examples=30)
def test_no_held_out_prompt_is_ever_trained_on(kind, seeds, number, hard):
    """Whatever seed, number and difficulty: the side is a matter of the prompt, so the two never meet."""
    least, most = KINDS[kind][:2]
    task = find(f"{kind}-{most if hard else least}")
    sides = {"train": seeds[0], "held_out": seeds[1]}
    for split, seed in sides.items():
        one = example(task, split, seed, number)
        assert is_held_out(f"{task.kind} {one.key}") == (split == "held_out")
        assert one == example(task, split, seed, number)


@kinds
def test_train_and_held_out_prompts_are_disjoint(kind):
    """Also where prompts are few: the easiest difficulty, many draws, several seeds."""
    sides = {split: [example(EASY[kind], split, seed, n) for seed in (0, 1) for n in range(250)] for split in ("train", "held_out")}
    prompts = {split: {one.prompt for one in found} for split, found in sides.items()}
    assert not prompts["train"] & prompts["held_out"]
    keys = {split: {one.key for one in found} for split, found in sides.items()}
    assert not keys["train"] & keys["held_out"]
    assert len(prompts["train"]) >= 5 and prompts["held_out"]


def test_the_same_question_asked_otherwise_is_on_the_same_side():
    """12+34 is 34+12, and an order of digits is no new sum of digits to sort."""
    draws = Draws("pairs")
    for _ in range(300):
        one, other = draws.below(1000), draws.below(1000)
        first = KINDS["add"][4](_Fixed(one, other), 3)
        second = KINDS["add"][4](_Fixed(other, one), 3)
        assert first.key == second.key and first.answer == second.answer == str(one + other)
    sort = KINDS["sort"][4]
    assert sort(_Fixed(text="3120"), 4).key == sort(_Fixed(text="0213"), 4).key == "0123"


class _Fixed:
    """Draws that were decided before."""

    def __init__(self, *numbers, text=""):
        self.numbers, self.given = list(numbers), text

    def below(self, size):
        return self.numbers.pop(0)

    def text(self, alphabet, length):
        return self.given


@kinds
def test_the_right_answer_has_full_marks_and_must_end(kind):
    task = find(f"{kind}-{DEFAULTS[kind]}")
    for one in examples(task, "train", 20, seed=3):
        assert score(task, one, one.answer, ended=True) == 1.0 == closeness(one, one.answer, ended=True)
        assert score(task, one, one.answer, ended=False) == (0.0 if task.needs_end else 1.0)
        assert closeness(one, one.answer, ended=False) < 1.0
        for wrong in ("", one.answer[:-1], one.answer + "~", " " + one.answer):
            assert 0 <= score(task, one, wrong, True) <= 1
            if task.kind not in ("class", "questions"):
                assert score(task, one, wrong, True) == 0.0


@pytest.mark.parametrize("kind", ("sort", "add", "reverse", "copy"))
def test_answers_are_what_the_prompt_asks_for(kind):
    """Computed another way from the prompt alone."""
    solve = {
        "sort": lambda given: "".join(digit * given.count(digit) for digit in string.digits),
        "add": lambda given: str(sum(int(number) for number in given.split("+"))),
        "reverse": lambda given: "".join(given[-1 - i] for i in range(len(given))),
        "copy": lambda given: given,
    }
    for level in (KINDS[kind][0], DEFAULTS[kind], KINDS[kind][1]):
        for one in examples(find(f"{kind}-{level}"), "held_out", 3, seed=1):
            word, given = one.prompt.removesuffix("=").split()
            assert word == kind and one.answer == solve[kind](given)


@pytest.mark.parametrize("count", (2, 3, 4, 6))
def test_countdown_can_be_solved(count):
    """By Python's own arithmetic: every answer uses the numbers of its prompt and has the value asked for."""
    for one in examples(find(f"countdown-{count}"), "train", 60, seed=2):
        words = one.prompt.removesuffix("=").split()
        assert words[0] == "countdown" and words[2] == "from" and len(words) == 3 + count
        assert sorted(re.findall("[0-9]+", one.answer)) == sorted(words[3:])
        assert set(one.answer) <= set("0123456789+-*()") and eval(one.answer) == int(words[1])


def test_countdown_takes_any_right_expression_and_nothing_else():
    task, one = find("countdown-3"), Example("countdown 27 from 3 5 4=", "(5+4)*3", "")
    for completion in ("(5+4)*3", "3*(4+5)", "(3)*((4+5))", "3*5+3*4", "3*5+4", "5*4+7", "5*4*3", "3+4+5"):
        wanted = 1.0 if eval(completion) == 27 and sorted(re.findall("[0-9]", completion)) == ["3", "4", "5"] else 0.0
        tried = sorted(re.findall("[0-9]", completion)) == ["3", "4", "5"]
        assert score(task, one, completion, True) == (wanted or countdown.TRIED * tried), completion
        assert score(task, one, completion, False) == 0.0
    for broken in ("", "27", "(5+4)*3)", "((5+4)*3", "(5+4)3", "3*(4+5)=27", "-3+4*5", "3**5*4", "3 * (4+5)", "+", "3*(4+٥)",
                   "(" * 5000, "__import__('os')", "3*(4+5)\n", "()", "3*(4+5"):  # fmt: skip
        assert score(task, one, broken, True) == 0.0, broken


@given(st.recursive(st.integers(0, 999).map(str), lambda part: st.one_of(
    st.tuples(part, st.sampled_from("+-*"), part).map("".join), part.map("({})".format)), max_leaves=12))
@settings(max_examples=100)
def test_expressions_have_their_value(text):
    """Precedence, order and parentheses, against Python's; numbers are those that were written."""
    if len(text) <= countdown.LONGEST:
        assert countdown.evaluated(text) == (eval(text), [int(number) for number in re.findall("[0-9]+", text)])


def test_the_same_numbers_and_target_are_on_the_same_side():
    """A change of order is no new question."""
    sides = {}
    for split in ("train", "held_out"):
        for one in examples(find("countdown-2"), split, 300 if split == "train" else 30, seed=4):
            target, numbers = countdown.asked(one.prompt)
            assert sides.setdefault((target, *sorted(numbers)), split) == split


def test_sizes_follow_the_difficulty():
    for level in (2, 6, 31):
        assert {len(one.answer) for one in examples(find(f"sort-{level}"), "train", 20)} == {level}
        assert {len(one.answer) for one in examples(find(f"reverse-{level}"), "train", 20)} == {level}
    assert max(len(one.answer) for one in examples(find("add-4"), "train", 200)) == 5


def test_share_of_a_class():
    """Characters beyond the length count for nothing, and what is missing counts against."""
    task = find("class-4")
    one = Example("class 4 vowels abcd=", "aeio", "class 4 vowels abcd=")
    for completion, wanted in (("aeio", 1), ("aeioxxxx", 1), ("ae", 0.5), ("xaex", 0.5), ("", 0), ("AEIO", 0)):
        assert score(task, one, completion, ended=False) == wanted
    assert {one.prompt.split()[2] for one in examples(task, "train", 50)} == set(CLASSES)


@given(answer=st.text("ab", max_size=6), completion=st.text("ab", max_size=6), ended=st.booleans())
def test_closeness_is_one_minus_the_edits(answer, completion, ended):
    """By the recursive definition of the edit distance, which is slow and plainly right."""
    right, given = answer + "$", completion + "$" * ended

    def edits(i, j):
        if not i or not j:
            return i + j
        same = edits(i - 1, j - 1) + (right[i - 1] != given[j - 1])
        return min(same, 1 + edits(i - 1, j), 1 + edits(i, j - 1))

    wanted = 1 - edits(len(right), len(given)) / max(len(right), len(given))
    found = closeness(Example("", answer, ""), completion, ended)
    assert abs(found - wanted) < 1e-12 and 0 <= found <= 1
    assert (found == 1) == (ended and completion == answer)


def test_every_question_has_its_answer_in_one_sentence_of_its_text():
    texts = {document.name.removesuffix(".txt"): document.text for document in documents("samples")}
    seen, used = set(), set()
    for number, line in enumerate(QUESTIONS.read_text(encoding="utf-8").splitlines(), 1):
        one = json.loads(line)
        holding = [sentence for sentence in sentences(texts[one["document"]]) if one["evidence"] in sentence]
        assert len(holding) == 1, f"line {number}: {one['evidence']!r} is in {len(holding)} sentences"
        assert one["answer"] in holding[0], f"line {number}: {one['answer']!r} is not in {holding[0]!r}"
        assert one["question"] not in seen, f"line {number} asks again"
        seen.add(one["question"])
        used.add(one["document"])
    assert used == set(texts)


def test_passages_hold_the_answer_and_as_many_sentences_as_asked():
    for level in (1, 3, 5):
        for kind in ("questions", "next-word"):
            for one in examples(find(f"{kind}-{level}"), "train", 40, seed=level):
                assert one.answer in one.prompt
                assert len(one.prompt.encode()) < 450 * level + 200


def test_questions_are_judged_by_their_words():
    task, one = find("questions-1"), Example("", "the school bus", "")
    for completion, wanted in (("The school bus.", 1), ("a  school bus", 1), ("school", 0), ("", 0), ("school  bus yes", 0)):
        assert score(task, one, completion, True) == wanted
    assert normalised("An apple, a day!") == "apple day"


def test_examples_are_different_and_few_prompts_are_an_error():
    found = examples(find("sort-3"), "train", 500, seed=1)
    assert len({one.prompt for one in found}) == 500
    assert examples(find("sort-3"), "train", 20, seed=1) == found[:20]
    assert examples(find("sort-3"), "train", 20, seed=2) != found[:20]
    with pytest.raises(UserError, match="only about 9[0-9] different prompts in train, not 200"):
        examples(find("add-1"), "train", 200)


def test_bytes_are_the_vocabulary():
    for kind in KINDS:
        for one in examples(EASY[kind], "train", 5):
            assert one.prompt and one.answer and one.prompt.isprintable() and "\n" not in one.answer


@pytest.mark.parametrize(
    "name, line",
    [
        ("sort-1", "sort has 2 to 64 digits"),
        ("sort-65", "sort has 2 to 64 digits"),
        ("sorting", "there is no task 'sorting'; choose one of sort, add"),
        ("", "there is no task ''"),
        ("add-x", "there is no task 'add-x'"),
        ("next-word-9", "next-word has 1 to 5 sentences"),
    ],
)
def test_wrong_names(name, line):
    with pytest.raises(UserError, match=line):
        find(name)


def test_wrong_split():
    with pytest.raises(UserError, match="choose train or held_out"):
        example(find("sort"), "test", 0, 0)
    assert find("next-word").name == "next-word-1" and find("sort").difficulty == 6


def test_the_stream_of_choices_never_changes():
    """Data sets must stay what they are: pinned."""
    draws = Draws("sort-6", "train", 0, 0)
    assert [draws.below(1000) for _ in range(10)] == [468, 216, 365, 243, 366, 819, 91, 878, 318, 805]
    counts = [0] * 7
    draws = Draws("evenly")
    for _ in range(7000):
        counts[draws.below(7)] += 1
    assert max(abs(count - 1000) for count in counts) < 150  # five standard deviations, and nothing here is random
