"""SIGKILL in the middle of steps and saves: a few here, fifty at night (``python -m parity_tests.kill`` prints a table)."""

import pytest

from parity_tests import kill


def lost_nothing(tally, times):
    assert tally["kills"] == times and tally["runs that end bit-identical"] >= 1, dict(tally)
    assert not any(tally[name] for name in kill.WRONG), dict(tally)
    assert tally["falls back with a warning"] == tally["newest checkpoints damaged"]


def test_three_kills(tmp_path, monkeypatch):
    monkeypatch.setattr(kill, "EVERY", 1)  # each damages the newest checkpoint too, where there is an older one
    tally = kill.torture(3, seed=1, out=tmp_path, wings=("numpy_ref",))
    lost_nothing(tally, 3)


@pytest.mark.nightly
def test_fifty_kills(tmp_path):
    tally = kill.torture(50, seed=2, out=tmp_path)
    lost_nothing(tally, 50)
    assert tally["kills in training"] and tally["kills in a save"]  # how many of each is for the machine to say
