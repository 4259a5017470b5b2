"""How busy each expert is over training."""

import io

from lessons.draw.picture import Picture
from numpy_ref import expert_log


def router(runs):
    """Heat maps of the loads, a row a run and a column a layer; below, imbalance, entropy and dropped choices.

    runs: name -> rows of a log, each with "step" and "experts" (``expert_log.row``).
    """
    buffer = io.BytesIO()
    expert_log.draw(runs, buffer)
    return Picture(buffer.getvalue(), "Load of the experts over training")
