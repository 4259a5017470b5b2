"""Who speaks and who writes when several processes train one model; here, where there is one, it does both.

``torch_impl/training/distributed.py`` has the same for processes that ``torchrun`` has started.
"""

import contextlib
import os

from numpy_ref.errors import UserError

DEFINITION = "the environment of a process: no arrays"


class Alone:
    """One process, the first and the only one."""

    rank, world = 0, 1

    def first(self, call, then):
        """``call()`` on the first process; ``then()`` on the others, once the first is done."""
        return call()

    def agree(self, number):
        """The largest of the numbers that the processes bring."""
        return number


ALONE = Alone()


def launched():
    """How many processes ``torchrun`` (or what sets its variables) has started; None when this one stands alone."""
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return None
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except ValueError:
        rank, world = -1, 0
    if not 0 <= rank < world:
        given = f"RANK={os.environ['RANK']!r} and WORLD_SIZE={os.environ['WORLD_SIZE']!r}"
        raise UserError(f"{given} name no process; start training by torchrun, or unset both")
    return world


@contextlib.contextmanager
def alone(device="auto"):
    """A context for a wing that trains in one process; gives ``ALONE``. Raises UserError where several were started."""
    world = launched()
    if world not in (None, 1):
        raise UserError(
            f"the NumPy reference trains in one process and {world} were started; "
            "start it without torchrun, or take: torchrun -m torch_impl train"
        )
    yield ALONE
