"""Runs of both wings, trained once for all tests of the commands."""

import pytest

from parity_tests.wings import WINGS

NAMES = [str(wing) for wing in WINGS]
SMALL = "--preset tiny --steps 6 --batch 2 --eval-every 3 --eval-tokens 256 --device cpu".split()
PROMPT = ["--prompt", "The "]


def run(wing, *argv):
    """A command line run in this process; returns the exit status."""
    return wing.module("__main__").main([str(part) for part in argv])


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A finished run folder of each wing."""
    folders = {}
    for wing in WINGS:
        folders[str(wing)] = tmp_path_factory.mktemp(str(wing)) / "run"
        assert run(wing, "train", *SMALL, "--data", "samples", "--out", folders[str(wing)]) == 0
    return folders


@pytest.fixture(params=WINGS, ids=NAMES)
def wing(request):
    """Each wing."""
    return request.param


@pytest.fixture
def checkpoint(wing, runs):
    """The run folder that this wing has trained."""
    return runs[str(wing)]
