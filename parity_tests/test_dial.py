"""One number chooses a model and its training; what it chooses must be possible, grow, and give way to options."""

import pytest

from numpy_ref import dial
from numpy_ref.config import parameter_count
from parity_tests.trained import run, wing  # noqa: F401  (fixture)


def test_every_depth_is_a_model_that_trains():
    """The settings check themselves; a deeper model is larger, sees more tokens and steps more gently."""
    before = None
    for depth in range(1, dial.DEEPEST + 1):
        model, train = dial.settings(depth)
        now = parameter_count(model), train.steps * train.batch * model.context
        assert now[1] == pytest.approx(dial.TOKENS_A_PARAMETER * now[0], rel=0.05)
        assert train.batch // train.accumulate * model.context <= 2 * dial.ROWS_AT_ONCE
        if before:
            assert now > before[0] and train.lr <= before[1]
        before = now, train.lr


def test_little_text_is_not_read_forever():
    model, train = dial.settings(4)
    fewer = dial.limited(model, train, 100_000)
    assert fewer.steps * fewer.batch * model.context <= 1.02 * dial.EPOCHS * 100_000
    assert dial.limited(model, train, 10**12) == train
    assert dial.limited(model, train, 100_000, given={"lr": 1.0}).lr == train.lr


def test_the_estimate_counts_what_inspect_counts():
    model, train = dial.settings(2)
    words = dial.estimate(model, train, 10**6, 1e12)
    tokens = train.steps * train.batch * model.context
    assert f"{tokens:,} tokens ({tokens / 1e6:.1f} times the text)" in words and "GiB" in words


def test_depth_trains_on_either_side(wing, tmp_path, capsys):  # noqa: F811
    options = ("--data", "samples", "--steps", 2, "--eval-tokens", 256, "--device", "cpu")
    assert run(wing, "train", "--depth", 1, "--out", tmp_path / "run", *options) == 0
    err = capsys.readouterr().err
    assert "FLOP" in err and "86,208 parameters" in err
    for wrong, words in ((("--depth", 0), "1 to 64"), (("--depth", 2, "--preset", "tiny"), "both")):
        assert run(wing, "train", *wrong, "--out", tmp_path / "other", *options) == 2
        assert words in capsys.readouterr().err
