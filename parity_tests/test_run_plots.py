"""Pictures of runs: the command on both wings, the numbers behind them, and what it says about folders that are none."""

import json

import numpy as np
import pytest

from numpy_ref import inspect, log, plots, run_plots
from numpy_ref.config import ModelConfig, TrainConfig, to_json
from numpy_ref.presets import preset
from parity_tests.trained import checkpoint, run, runs, wing  # noqa: F401  (fixtures)


def test_any_number_of_runs_in_one_picture(wing, runs, tmp_path, capsys):
    for number, more in ((1, []), (2, ["--peak", "0.5"]), (9, [])):
        out = tmp_path / "deep" / f"{number}.png"
        folders = (list(runs.values()) * 5)[:number]
        assert run(wing, "plot", *folders, "--out", out, *more) == 0
        assert out.read_bytes().startswith(b"\x89PNG") and f"wrote {out}" in capsys.readouterr().err


def panels(monkeypatch, drawn, tmp_path):
    """(titles, lines) of a picture, by looking at its axes before they are saved."""
    seen = {}
    panel = run_plots._panel

    def remembered(axes, *arguments):
        panel(axes, *arguments)
        seen[axes.get_title(loc="left")] = axes

    monkeypatch.setattr(run_plots, "_panel", remembered)
    run_plots.draw(drawn, tmp_path / "a.png")
    return seen


def test_the_axes_carry_the_logged_numbers(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "smooth", lambda values: values)
    curves = run_plots.Curves(checkpoint, peak=2.0)
    rows = log.read_rows(checkpoint / log.NAME)
    flops = 3 * inspect.flops_forward(preset("tiny")[0])
    seen = panels(monkeypatch, {"a": curves, "b": curves}, tmp_path)
    assert list(seen) == ["Loss over optimiser steps", "Loss over tokens", "Loss over seconds of training", "Loss over FLOPs of training",
                          "Learning rate", "Gradient norm, before clipping", "Throughput", "Model FLOPs utilisation"]  # fmt: skip
    losses = [row["loss"] for row in rows]
    tokens = np.array([row["tokens"] for row in rows])
    for title, x in (("Loss over optimiser steps", [row["step"] for row in rows]), ("Loss over tokens", tokens),
                     ("Loss over seconds of training", [row["time"] for row in rows]), ("Loss over FLOPs of training", tokens * flops)):  # fmt: skip
        line, circles = seen[title].lines[:2]
        assert np.allclose(line.get_xdata(), x) and np.allclose(line.get_ydata(), losses)
        assert np.allclose(circles.get_ydata(), [row["val_loss"] for row in rows if "val_loss" in row])
        assert [text.get_text() for text in seen[title].texts] == ["a", "b"]
    speed = np.array([row["tokens_per_second"] for row in rows])
    assert np.allclose(seen["Model FLOPs utilisation"].lines[0].get_ydata(), 100 * speed * flops / 2e12)


def test_without_a_peak_there_is_no_utilisation(checkpoint, tmp_path, monkeypatch):
    seen = panels(monkeypatch, {"a": run_plots.Curves(checkpoint)}, tmp_path)
    assert len(seen) == 7 and not seen["Throughput"].texts


def test_names_at_the_ends_do_not_lie_on_each_other(checkpoint, tmp_path, monkeypatch):
    seen = panels(monkeypatch, {f"run {n}": run_plots.Curves(checkpoint) for n in range(8)}, tmp_path)
    heights = sorted(text.xy[1] for text in seen["Loss over tokens"].texts)
    assert len(heights) == 8 and min(np.diff(heights)) > 0.06


def test_names_tell_folders_apart():
    assert run_plots.names(["a/x", "b/x", "c/y"]) == ["a/x", "b/x", "c/y"]
    assert run_plots.names(["a/x", "a/y/"]) == ["x", "y"]
    assert run_plots.names(["a/x", "a/x"]) == ["x 1", "x 2"]


@pytest.mark.parametrize("device, peak", [("NVIDIA H100 80GB HBM3", 989.4e12), ("NVIDIA H100 PCIe", 756.5e12), ("NVIDIA H200", 989.4e12),
                                          ("NVIDIA A100-SXM4-40GB", 312e12), ("Tesla T4", 65e12), ("NVIDIA L4", 121e12), ("cpu", None),
                                          ("NVIDIA L40S", 362e12), ("", None)])  # fmt: skip
def test_peaks_are_found_by_name(device, peak):
    assert run_plots.peak_of(device) == peak


def test_skipped_steps_leave_gaps(tmp_path):
    rows = [{"step": i, "tokens": i, "time": 1.0, "loss": None if i % 3 == 0 else 2.0, "lr": 0.1, "grad_norm": None, "tokens_per_second": 1.0}
            | ({"skipped": True} if i % 3 == 0 else {}) for i in range(1, 9)]  # fmt: skip
    (tmp_path / log.NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"model": json.loads(to_json(ModelConfig())), "train": json.loads(to_json(TrainConfig()))}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    plots.training_curve(rows, tmp_path / "a.png")
    run_plots.draw({"a": run_plots.Curves(tmp_path)}, tmp_path / "b.png")
    assert np.isnan(run_plots.Curves(tmp_path).column("loss")).sum() == 2


@pytest.mark.parametrize("folder, options, words", [("", ["--out", "a.jpg"], ".png"), ("", ["--out", "a.png", "--peak", "0"], "above 0"),
                                                    ("empty", ["--out", "a.png"], "log.jsonl")])  # fmt: skip
def test_what_can_not_be_drawn(wing, checkpoint, tmp_path, monkeypatch, capsys, folder, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert run(wing, "plot", tmp_path / folder if folder else checkpoint, *options) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and not (tmp_path / "a.png").exists()
