"""The experiment with experts, made short: every run leaves a row, and the report says what the rows hold."""

import json

import numpy as np
import pytest

from bench import experts, experts_report
from numpy_ref.config import active_parameter_count
from numpy_ref.data.token_files import prepare
from torch_impl.tokenizers.byte import encode


@pytest.fixture
def short(monkeypatch):
    """A few steps of small models on a few pages."""
    monkeypatch.setattr(experts, "STEPS", 4)
    monkeypatch.setattr(experts, "KEPT", 1)
    monkeypatch.setattr(experts, "SIZE", {"width": 32, "feed_forward": 48, "context": 32, "layers": 3})
    text = {}

    def texts(folder):
        text["read"] = prepare("samples", folder, encode, "uint8")
        return dict.fromkeys(experts.TOPICS, text["read"])

    monkeypatch.setattr(experts, "texts", texts)
    return text


def test_runs_leave_rows_and_a_report(tmp_path, short, capsys):
    arguments = ["--seeds", "1", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert experts.main(arguments) == 0
    found = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert [row["arm"] for row in found] == list(experts.ARMS)
    held_out = len(short["read"].validation) - 1
    for row in found[1:]:
        counts = np.array(row["chosen"]["help"])
        assert counts.shape == (2, 8, len(experts.CLASSES)) and (counts.sum((1, 2)) == 2 * held_out).all()
        assert row["load"]["step"] == [1, 2, 3, 4] and row["loss"]["all"] == pytest.approx(row["loss"]["help"])
    text = (tmp_path / "out" / "experts.md").read_text()
    assert all(f"| {name} |" in text for name in experts_report.MEANINGS.values()) and "mixture 2" in text
    assert all((tmp_path / "out" / name).stat().st_size > 10_000 for name in ("balance.png", "roles.png"))
    said = capsys.readouterr().err.count("seed 0")
    assert experts.main(arguments) == 0  # nothing is trained again
    assert said == len(experts.ARMS) and "seed 0" not in capsys.readouterr().err


def test_a_byte_meets_as_many_parameters():
    """But for the routers, which a dense model has not."""
    (dense, _), *mixed = (experts.configs(arm, 0) for arm in experts.ARMS)
    for model, _ in mixed:
        routers = len(model.moe_layers) * model.experts * model.width
        biases = len(model.moe_layers) * model.experts * model.router_bias
        assert active_parameter_count(model) == active_parameter_count(dense) + routers + biases


def test_classes_of_bytes():
    names = [experts.CLASSES[kind] for kind in experts.classes(np.frombuffer(b"aZ7 \n\t_\xc3", np.uint8))]
    assert names == ["small letters", "capitals", "digits", "spaces", "line ends", "spaces", "marks", "marks"]


def test_information():
    """Nothing where both are independent, all where one follows from the other."""
    independent, known = np.outer([1.0, 2, 3], [4.0, 1]), np.diag([2.0, 1, 1])
    assert experts_report.information(independent) == pytest.approx(0, abs=1e-12)
    assert experts_report.information(known) == pytest.approx(1)
    half = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])  # two experts tell four classes into two halves
    assert experts_report.information(half) == pytest.approx(0.5)
