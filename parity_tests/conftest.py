"""Hypothesis profiles, one thread a process, and a place for what the tests measured."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from hypothesis import HealthCheck, Phase, settings  # noqa: E402
from hypothesis.database import DirectoryBasedExampleDatabase  # noqa: E402
from hypothesis.internal.conjecture import providers  # noqa: E402

torch.set_num_threads(1)

# Hypothesis also draws constants that it reads in the modules imported so far. Which those are depends on the tests that
# the same process ran before: the only thing that would differ from run to run under ``derandomize``.
if hasattr(providers, "_get_local_constants"):
    providers._get_local_constants = lambda: providers._local_constants

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

# `make test` draws the same examples everywhere and every time: what it says of a change is not chance. Nights explore.
settings.register_profile(
    "dev", max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET
)
settings.register_profile(
    "ci", max_examples=50, deadline=None, derandomize=True, database=None, print_blob=True, suppress_health_check=QUIET
)
settings.register_profile(  # new examples every night; failures are kept, and the worst error is hunted with target()
    "nightly",
    max_examples=2000,
    deadline=None,
    derandomize=False,
    database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
    print_blob=True,
    suppress_health_check=QUIET,
)
settings.register_profile(  # for planted bugs: what matters is whether any example catches one, not the smallest such
    "mutate",
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=QUIET,
)


def pytest_configure(config):
    # Loaded by name, after registering: Hypothesis would load a profile of its own where $CI is set.
    chosen = config.getoption("--hypothesis-profile", default=None)
    settings.load_profile(chosen or os.environ.get("PARITY_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_collection_modifyitems(config, items):
    """Compiling takes longest: it starts first, so that other processes work meanwhile. Long checks run at night."""
    items.sort(key=lambda item: "compiled" not in item.name)
    if settings.default.max_examples < 1000:
        night = [item for item in items if item.get_closest_marker("nightly")]
        if night:
            config.hook.pytest_deselected(items=night)
            items[:] = [item for item in items if item not in night]
