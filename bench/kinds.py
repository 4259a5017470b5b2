"""Kinds of measurements that have a file of their own. A new one is a module and a line here.

Such a module has ``groups(options)``, lists of jobs for ``plan``; ``measure(job)``, the answer of a worker;
``sections(found, drawn)``, texts of the report; and ``PICTURES``, file name -> function of the measured rows.
A job may say how many ``rounds`` it takes and how many seconds an answer may take (``timeout``).
"""

import importlib

MODULES = (  # in the order of the report
    "speedrun", "inference", "windows", "quality", "speculation", "kernels", "tokenizing", "memory", "tuning", "preferences", "updates",
    "moe", "io", "reliability", "hyperbolic", "units",
)  # fmt: skip
KINDS = {
    "inference": "inference",
    "window": "windows",
    "quality": "quality",
    "speculation": "speculation",
    "attention": "kernels",
    "tokenizing": "tokenizing",
    "memory": "memory",
    "tuning": "tuning",
    "reward": "preferences",
    "updates": "updates",
    "moe": "moe",
    "io": "io",
    "speedrun": "speedrun",
    "reliability": "reliability",
    "hyperbolic": "hyperbolic",
    "units": "units",
}


def modules():
    """The modules, in the order of the report."""
    return [importlib.import_module(f"bench.{name}") for name in MODULES]


def measure(job):
    """The answer to a job of one of these kinds."""
    return importlib.import_module(f"bench.{KINDS[job['kind']]}").measure(job)
