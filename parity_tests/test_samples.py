"""What a run shows of itself while it trains: samples, and event files for TensorBoard."""

import dataclasses
import json
import sys
from types import SimpleNamespace

from parity_tests.test_loop import MODEL, assert_same, dataset, train
from parity_tests.test_saving import FEW, both
from parity_tests.trained import SMALL, run
from parity_tests.wings import WINGS


@both
def test_samples_while_it_trains(tmp_path, wing, capsys):
    options = ("--sample-every", 2, "--sample-prompt", "A bird", "--steps", 4)
    assert run(wing, "train", *SMALL, "--data", "samples", "--out", tmp_path, *options) == 0
    text = (tmp_path / "samples.txt").read_text()
    assert text.startswith("--- step 2\nA bird") and "--- step 4\nA bird" in text
    assert "step 2: A bird" in capsys.readouterr().err


def test_samples_change_nothing(tmp_path):
    for wing in WINGS:
        seen = []
        runs = [train(wing, MODEL, dataclasses.replace(FEW, sample_every=every), dataset(), tmp_path / f"{wing}{every}",
                      sample=lambda run: seen.append(run.step)) for every in (0, 5)]
        assert_same(*runs, 0)
        assert seen == [5, 10]


def test_without_tensorboard_a_line_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert run(WINGS[0], "train", *SMALL, "--data", "samples", "--out", tmp_path, "--tensorboard") == 2
    assert "--tensorboard needs the package tensorboard" in capsys.readouterr().err


def test_event_files_get_every_number_of_every_step(tmp_path, monkeypatch):
    """With a stand-in for the package: the calls are those of its EventFileWriter."""
    events = []
    record = lambda **fields: SimpleNamespace(**fields)  # noqa: E731
    writer = SimpleNamespace(add_event=events.append, close=lambda: events.append("closed"))
    modules = {
        "tensorboard": {}, "tensorboard.compat": {}, "tensorboard.compat.proto": {}, "tensorboard.summary": {},
        "tensorboard.summary.writer": {}, "tensorboard.compat.proto.event_pb2": {"Event": record},
        "tensorboard.compat.proto.summary_pb2": {"Summary": type("Summary", (SimpleNamespace,), {"Value": record})},
        "tensorboard.summary.writer.event_file_writer": {"EventFileWriter": lambda folder: writer},
    }
    for name, contents in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__path__=[], **contents))
    assert run(WINGS[0], "train", *SMALL, "--data", "samples", "--out", tmp_path, "--tensorboard") == 0
    assert events.pop() == "closed" and [event.step for event in events] == [1, 2, 3, 4, 5, 6]
    tags = [{value.tag for value in event.summary.value} for event in events]
    always = {"loss", "lr", "grad_norm", "tokens_per_second"}
    assert tags == [always, always, always | {"val_loss"}] * 2
    assert json.loads((tmp_path / "config.json").read_text())["device"] == "cpu"
