"""Preference files: what they may say, what they may not, and the synthetic ones."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numpy_ref.errors import UserError
from numpy_ref.reward.preferences import GRADES, Preference, corrupted, graded, preference, read, split, worth, write
from numpy_ref.tasks.builtin import DEFAULTS, KINDS, find
from numpy_ref.tasks.task import Draws, closeness, edits, example, examples

PAIR = {"prompt": "sort 312=", "chosen": "123", "rejected": "132"}
RANKED = {"prompt": "sort 312=", "ranked": ["123", "132", "321"]}


def of(**record):
    return preference(json.dumps(record), "line 1")


def test_all_forms_are_read(tmp_path):
    path = tmp_path / "pairs.jsonl"
    records = [PAIR, PAIR | {"margin": 2}, PAIR | {"tie": True}, RANKED, PAIR | {"system": "Be brief.", "source": "me"}]
    path.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    found = read(path)
    assert [one.answers for one in found] == [("123", "132")] * 3 + [("123", "132", "321"), ("123", "132")]
    assert [one.margin for one in found] == [None, 2.0, None, None, None]
    assert [one.tie for one in found] == [False, False, True, False, False]
    assert found[3].place == f"'{path}', line 4"
    system, user, assistant = found[4].conversations[1]
    assert system == {"role": "system", "content": "Be brief."} and user["content"] == "sort 312="
    assert assistant == {"role": "assistant", "content": "132"}
    assert len(found[3].conversations) == 3 and len(found[0].conversations[0]) == 2


WRONG = {
    "[1]": "every line has to be one object",
    "{": "is not JSON",
    '{"prompt": "a"}': 'it has no "chosen"; give "chosen" and "rejected", or "ranked"',
    '{"chosen": "a", "rejected": "b"}': 'it has no "prompt"',
    '{"prompt": 3, "chosen": "a", "rejected": "b"}': '"prompt" must be a text, got 3',
    '{"prompt": "a", "chosen": "b"}': 'it has no "rejected"',
    '{"prompt": "a", "rejected": "b"}': 'it has no "chosen"',
    '{"prompt": "a", "chosen": "b", "rejected": "b"}': '"chosen" and "rejected" are the same answer, \'b\'',
    '{"prompt": "a", "chosen": "", "rejected": "b"}': '"chosen" is empty',
    '{"prompt": "a", "chosen": "b", "rejected": ""}': '"rejected" is empty',
    '{"prompt": "a", "chosen": ["b"], "rejected": "c"}': '"chosen" must be a text',
    '{"prompt": "a", "chosen": "b", "rejected": "c", "margin": -1}': '"margin" must be a number of at least 0, got -1',
    '{"prompt": "a", "chosen": "b", "rejected": "c", "margin": NaN}': '"margin" must be a number',
    '{"prompt": "a", "chosen": "b", "rejected": "c", "margin": true}': '"margin" must be a number',
    '{"prompt": "a", "chosen": "b", "rejected": "c", "tie": 1}': '"tie" must be true or false',
    '{"prompt": "a", "chosen": "b", "rejected": "c", "tie": true, "margin": 0.5}': "a tie has no margin",
    '{"prompt": "a", "chosen": "b", "ranked": ["c", "d"]}': 'it has "ranked" and "chosen"',
    '{"prompt": "a", "ranked": ["c"]}': '"ranked" must be a list of at least two answers',
    '{"prompt": "a", "ranked": ["c", "d", "c"]}': "answer 1 and answer 3 are the same answer",
    '{"prompt": "a", "ranked": ["c", "d", "e"], "tie": true}': "a ranking of 3 answers has no",
    '{"prompt": "a", "chosen": "\\ud800", "rejected": "c"}': "half a surrogate pair",
    '{"prompt": "a", "system": 1, "chosen": "b", "rejected": "c"}': '"system" must be a text',
}


@pytest.mark.parametrize("line, message", WRONG.items(), ids=range(len(WRONG)))
def test_wrong_lines_are_named(tmp_path, line, message):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(PAIR) + "\n" + line + "\n")
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(f"'{path}', line 2") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_and_an_empty_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="is empty; give a JSONL file of comparisons"):
        read(tmp_path / "empty.jsonl")


texts = st.text(min_size=1, max_size=8).filter(lambda text: text.encode("utf-8", "ignore").decode() == text)


@given(prompt=st.text(max_size=8).filter(lambda t: t.encode("utf-8", "ignore").decode() == t),
       answers=st.lists(texts, min_size=2, max_size=4, unique=True), margin=st.none() | st.floats(0, 9), tie=st.booleans())  # fmt: skip
@settings(max_examples=20)
def test_what_is_written_is_read_again(tmp_path_factory, prompt, answers, margin, tie):
    path = tmp_path_factory.mktemp("preferences") / "pairs.jsonl"
    pair = len(answers) == 2
    one = Preference(prompt, tuple(answers), None if tie or not pair else margin, tie and pair)
    write(path, [one, one])
    assert [(p.prompt, p.answers, p.margin, p.tie) for p in read(path)] == [(prompt, one.answers, one.margin, one.tie)] * 2


def test_a_prompt_is_on_one_side_only():
    pairs = [of(prompt=f"p{n // 3}", chosen=f"a{n}", rejected="b") for n in range(300)]
    train, held_out = split(pairs)
    assert len(train) + len(held_out) == 300 and 3 <= len(held_out) <= 90
    assert not {one.prompt for one in train} & {one.prompt for one in held_out}
    with pytest.raises(UserError, match="1 different prompts leave nothing to hold out|1 different prompts leave nothing to train"):
        split(pairs[:3])


@pytest.mark.parametrize("kind", KINDS)
def test_graded_answers_are_ranked_by_their_mistakes(kind):
    task = find(f"{kind}-{DEFAULTS[kind]}")
    truth = {one.prompt: one for one in examples(task, "train", 60, seed=5)}
    for one in graded(task, "train", 60, seed=5, margins=True):
        better, worse = (worth(task, truth[one.prompt], answer) for answer in one.answers)
        assert better > worse and one.margin == better - worse and not one.tie
    for one in graded(task, "train", 20, seed=5, ties=1.0):
        assert one.tie and one.answers[0] != one.answers[1]
        assert len({worth(task, truth[one.prompt], answer) for answer in one.answers}) == 1
    lists = graded(task, "train", 20, seed=5, answers=3)
    for one in lists:
        values = [worth(task, truth[one.prompt], answer) for answer in one.answers]
        assert values == sorted(values, reverse=True) and len(set(values)) == len(values)
    assert lists == graded(task, "train", 20, seed=5, answers=3)
    assert not {one.prompt for one in graded(task, "held_out", 5)} & set(truth)


@given(seed=st.integers(0, 10**6), count=st.integers(0, GRADES))
@settings(max_examples=60)
def test_mistakes_are_counted_by_the_fewest_edits(seed, count):
    one = example(find("sort-6"), "train", 0, seed)
    text = corrupted(one.answer, count, "0123456789", Draws(seed))
    assert edits(one.answer, text) == count and text
    assert (closeness(one, text, True) == 1) == (count == 0)


def test_ties_come_as_often_as_asked_and_too_many_grades_are_refused():
    ties = sum(one.tie for one in graded(find("sort-6"), "train", 400, ties=0.25))
    assert 60 <= ties <= 140  # a pinned draw: 100 on average
    with pytest.raises(UserError, match="give 2 to 5"):
        graded(find("sort-6"), "train", 3, answers=6)
