"""Metrics of answers, against worked examples that others have published and against their definitions."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref.errors import UserError
from numpy_ref.sft import metrics


def test_normalisation_is_squads():
    assert metrics.normalised("  The Cat's  (a) hat, an  ANT! ") == "cats hat ant"
    assert metrics.normalised("theatre another") == "theatre another"
    assert metrics.normalised("1,000.5") == "10005"


def test_exact_match_and_f1():
    assert metrics.exact_match("the Normans.", ["Normans", "Danes"]) == 1.0 and metrics.exact("the Normans.", ["Normans"]) == 0.0
    assert metrics.f1("in the 10th century", ["10th and 11th centuries", "10th century"]) == pytest.approx(4 / 5)
    assert metrics.f1("b b c", ["b d"]) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))  # one b counts once
    assert metrics.f1("", [""]) == 1.0 and metrics.f1("the", [""]) == 1.0 and metrics.f1("x", [""]) == metrics.f1("", ["x"]) == 0.0


def test_rouge_l_of_lins_examples():
    """Section 3 of the paper: S2 and S3 share two words with the reference's bigram, but S2 keeps their order."""
    reference = ["police killed the gunman"]
    assert metrics.rouge_l("police kill the gunman", reference) == pytest.approx(3 / 4)
    assert metrics.rouge_l("the gunman kill police", reference) == pytest.approx(2 / 4)
    assert metrics.rouge_l("the gunman police killed", reference) == pytest.approx(2 / 4)
    assert metrics.rouge_l("a b c d e", ["a c e"], beta=2.0) == pytest.approx(5 * 1.0 * 0.6 / (1.0 + 4 * 0.6))
    assert metrics.rouge_l("x", ["y", "X"]) == 1.0 and metrics.rouge_l("", ["y"]) == 0.0 == metrics.rouge_l("!", ["y"])


ACTION = "It is a guide to action which ensures that the military always obeys the commands of the party"
ACTION_REFERENCES = [
    "It is a guide to action that ensures that the military will forever heed Party commands",
    "It is the guiding principle which guarantees the military forces always being under the command of the Party",
    "It is the practical guide for the army always to heed the directions of the party",
]
READ = "he read the book because he was interested in world history"
READ_REFERENCES = ["he was interested in world history because he read the book"]


def test_bleu_of_published_examples():
    """Papineni's candidate and the corpus of two, with the values that NLTK's documentation gives for them."""
    assert metrics.bleu([ACTION], [ACTION_REFERENCES], smoothing="none") == pytest.approx(0.5045666840058485, abs=1e-12)
    both = metrics.bleu([ACTION, READ], [ACTION_REFERENCES, READ_REFERENCES], smoothing="none")
    assert both == pytest.approx(0.5920778868801042, abs=1e-12)
    alone = [metrics.bleu([a], [r], smoothing="none") for a, r in ((ACTION, ACTION_REFERENCES), (READ, READ_REFERENCES))]
    assert abs(sum(alone) / 2 - both) > 0.01  # a corpus is not the mean of its sentences


def test_bleu_clips_and_smooths():
    assert metrics.bleu(["the " * 7], [["the cat is on the mat"]], order=1) == pytest.approx(2 / 7)  # Papineni's example 2
    short = [["the cat is on the mat"]]
    assert metrics.bleu(["the cat"], short, order=2) == pytest.approx(math.exp(1 - 6 / 2))  # all matches, brevity alone
    assert metrics.bleu(["cat the mat on"], short, smoothing="none") == 0.0
    # 4 of 4 words, 1 of 3 pairs ("the mat"), then half of 1 of 2 triples and a quarter of the only four
    expected = math.exp(1 - 6 / 4) * (1 * (1 / 3) * (0.5 / 2) * (0.25 / 1)) ** 0.25
    assert metrics.bleu(["cat the mat on"], short) == pytest.approx(expected)
    assert metrics.bleu(["cat"], [["cat"]]) == 1.0 and metrics.bleu(["x"], [["cat"]]) == 0.0 == metrics.bleu([""], [["cat"]])
    assert metrics.bleu([""], [[""]]) == 1.0
    with pytest.raises(UserError, match="exponential"):
        metrics.bleu(["a"], [["a"]], smoothing="laplace")


def test_the_reference_nearest_in_length_counts():
    """Of two that are equally near, the shorter one, so that no answer is called too short that need not be."""
    assert metrics.bleu(["a b c"], [["a b c d e f g", "a b c d"]], order=1) == pytest.approx(math.exp(1 - 4 / 3))
    assert metrics.bleu(["a b c"], [["a b c d", "a b"]], order=1) == 1.0


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_mean_over_all_choices(samples, data):
    right, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    outcomes = [number < right for number in range(samples)]
    subsets = list(itertools.combinations(outcomes, k))
    assert metrics.pass_at_k(samples, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_of_the_paper_and_beyond_its_range():
    assert metrics.pass_at_k(200, 4, 1) == pytest.approx(4 / 200)
    assert metrics.pass_at_k(5, 3, 3) == 1.0 and metrics.pass_at_k(10, 0, 10) == 0.0
    for wrong in ((4, 1, 5), (4, 1, 0), (4, 5, 1)):
        with pytest.raises(UserError, match="not defined"):
            metrics.pass_at_k(*wrong)


def test_longest_common_subsequence_by_the_table():
    rng = random.Random(0)
    for _ in range(200):
        a, b = ([rng.choice("abcd") for _ in range(rng.randrange(90))] for _ in range(2))
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, j in itertools.product(range(len(a)), range(len(b))):
            table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
        assert metrics.common_subsequence(a, b) == table[-1][-1]


@given(st.lists(st.text("ab c.", max_size=12), min_size=1, max_size=3), st.text("ab c.", max_size=12))
def test_every_metric_is_between_0_and_1_and_1_for_the_reference_itself(references, answer):
    for metric in (metrics.exact, metrics.exact_match, metrics.f1, metrics.rouge_l):
        assert 0.0 <= metric(answer, references) <= 1.0 and metric(references[-1], references) == 1.0
    assert 0.0 <= metrics.bleu([answer], [references]) <= 1.0 + 1e-12
    assert metrics.bleu(references[:1], [references]) == pytest.approx(1.0)
