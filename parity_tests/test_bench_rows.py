"""What the bench makes of its measurements, on synthetic ones: rows, ratios, limits, regressions, what is shown."""

import pytest

from bench import environment, report, rows

SHAPE = {"preset": "tiny", "batch": 2}
CELL = {
    "kind": "component",
    "name": "layer_norm",
    "implementation": "torch",
    "dtype": "float32",
    "compiled": False,
    "allocator": "tuned",
    "shape": SHAPE,
}


def row(processes, run="now", status="ok", **more):
    """A synthetic row of a component with these medians."""
    base = CELL | {
        "mode": "both",
        "status": status,
        "schema": rows.SCHEMA,
        "run": run,
        "commit": "none",
        "dirty": False,
    }
    base |= {"time": "2026-01-01T00:00:00Z", "environment": {"cpu": "a", "threads": 1}}
    if status != "ok":
        return base | {"reason": "because", "parity": None} | more
    low, median, high = rows.quartiles(processes)
    seconds = {"low": low, "median": median, "high": high, "processes": processes, "fastest": low, "repeats": 3}
    return base | {"seconds": seconds, "flops": 100.0, "bytes": 10, "memory": 1, "parity": {"worst": 0.1}} | more


def test_roofline_share():
    """The slower of arithmetic and traffic limits; the copy rate is the one for a buffer of that size."""
    peaks = {"matmul": {"float32": 100.0}, "copy": {10: 50.0, 1000: 5.0}}
    assert rows.roofline(row([2.0], flops=100.0, bytes=10), peaks) == {
        "least_seconds": 1.0,
        "limit": "compute",
        "share": 0.5,
    }
    limit = rows.roofline(row([8.0], flops=100.0, bytes=20), peaks)
    assert limit["limit"] == "memory" and limit["share"] == pytest.approx(0.5)
    assert rows.bandwidth(peaks["copy"], 5000) == 5.0


def test_medians_spread_and_ratios():
    """Quartiles by interpolation; ratios pair the processes of one round, so that a slow round cancels."""
    assert rows.quartiles([4.0, 1.0, 2.0, 3.0]) == (1.75, 2.5, 3.25)
    assert rows.quartiles([7.0]) == (7.0, 7.0, 7.0)
    assert rows.ratio(row([2.0, 20.0, 2.0]), row([1.0, 10.0, 1.0])) == (2.0, 2.0, 2.0)
    answers = [
        {
            "status": "ok",
            "parity": {"worst": w},
            "modes": {
                "both": {
                    "flops": 1,
                    "bytes": 2,
                    "tokens": 6,
                    "memory": m,
                    "seconds": {"median": s, "fastest": s, "repeats": 3},
                }
            },
        }
        for s, m, w in ((1.0, 5, 0.1), (3.0, 7, 0.3), (2.0, 6, 0.2))
    ]
    stamp = {
        key: value for key, value in row([1.0]).items() if key in ("run", "time", "commit", "dirty", "environment")
    }
    (made,) = rows.combine(CELL, answers, stamp)
    rows.check(made)
    assert made["seconds"]["median"] == 2.0 and made["seconds"]["repeats"] == 9 and made["tokens_per_second"] == 3.0
    assert made["memory"] == 6 and made["parity"]["worst"] == 0.3 and made["seconds"]["processes"] == [1.0, 3.0, 2.0]
    (spoilt,) = rows.combine(CELL, [*answers, {"status": "parity_failed", "reason": "y", "modes": ["both"]}], stamp)
    assert spoilt["status"] == "parity_failed" and "seconds" not in spoilt


def test_rows_that_contradict_themselves_are_refused():
    """A wrong cell with a time, a right one without, an unknown status, a missing field."""
    rows.check(row([1.0]))
    rows.check(row([], status="parity_failed"))
    for broken in (
        row([1.0]) | {"status": "parity_failed"},
        row([], status="error") | {"status": "ok"},
        row([1.0]) | {"status": "fine"},
        {k: v for k, v in row([1.0]).items() if k != "commit"},
    ):
        with pytest.raises(ValueError):
            rows.check(broken)


def test_regressions():
    """Slower by more than 5 % and than the noise, in every process, in the same cell and environment: only then."""
    history = [row([value], run=f"old {n}") for n, value in enumerate((9.0, 1.00, 1.01, 0.99, 1.00, 1.02))]

    def found(processes, **more):
        return [factor for _, factor in rows.regressions(history, [row(processes, **more)])]

    assert found([1.2, 1.3, 1.25]) == [pytest.approx(1.25)]  # the 9.0 is older than the last five
    assert found([1.02, 1.03, 1.04]) == []  # within 5 %
    assert found([0.9, 1.3, 1.3]) == []  # one process was not slower
    assert found([0.5, 0.5, 0.5]) == []
    assert found([1.2, 1.3, 1.25], dtype="bfloat16") == [] == found([1.2, 1.3, 1.25], mode="forward")
    assert found([1.2, 1.3, 1.25], environment={"cpu": "b", "threads": 1}) == []
    assert rows.regressions([row([1.0], run="same")], [row([2.0], run="same")]) == []
    noisy = [row([value], run=f"old {value}") for value in (1.0, 1.3, 0.7, 1.2, 0.8)]
    assert rows.regressions(noisy, [row([1.5, 1.5, 1.5])]) == []


def test_newest_rows_win(tmp_path):
    """A cell that was measured again is shown once; one that is refused now has no time left in the report."""
    old = row([1.0], run="a")
    again = row([2.0], run="b")
    assert report.latest([old, again]) == [again]
    refused = row([], run="b", status="parity_failed", mode="all")
    assert report.latest([old, refused]) == [refused]
    rows.append(tmp_path / "x" / "2026-01-01-none.jsonl", [old])
    rows.append(tmp_path / "x" / "2026-01-01-none.jsonl", [refused])
    assert rows.read([tmp_path / "x" / "2026-01-01-none.jsonl"]) == [old, refused]
    with pytest.raises(FileNotFoundError, match="python -m bench"):
        report.write(tmp_path)


def test_nothing_personal_in_results():
    """Reasons lose their folders; the device's folder is named after the hardware."""
    assert environment.without_paths("no file /home/someone/deep/model.py here") == "no file model.py here"
    assert environment.without_paths("1/2 of 3 GB/s, a/b") == "1/2 of 3 GB/s, a/b"
    assert environment.slug({"cpu": "Some CPU (R) 3.0GHz", "threads": 2}) == "some-cpu-r-3-0ghz-2-threads"
    assert environment.slug({"gpu": "NVIDIA H200", "cpu": "x", "threads": 2}) == "nvidia-h200"
