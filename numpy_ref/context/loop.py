"""Training a model that tells pseudo-words apart."""

import numpy as np

from numpy_ref.context.evaluate import measure
from numpy_ref.context.initialise import initialise
from numpy_ref.context.step import train_step
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.rng import STREAM_ORDER, permuted
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.schedules import learning_rate


def train_senses(config, train_config, train, held_out, report=None):
    """Train on Examples; returns the parameters and a list of measures on the held-out ones.

    Each pass over the examples has an order of its own; what is left of a pass behind its last whole batch is passed over.
    The measures of ``evaluate.measure`` with the "step", every ``eval_every`` steps and at the end; ``report(measures)`` is
    told of each.
    """
    c = train_config
    dtype = choose_dtype(c.dtype, choose_device(c.device), config)
    params, rows = initialise(config, c.seed, dtype), []
    states, batches = init_states(params, c), max(1, len(train) // c.batch)
    for step in range(c.steps):
        epoch, number = divmod(step, batches)
        places = np.arange(number * c.batch, min((number + 1) * c.batch, len(train)))
        chosen = permuted(places, len(train), c.seed, STREAM_ORDER + epoch)
        batch = train.tokens[chosen], train.pairs[chosen], train.senses[chosen]
        _, params, states = train_step(params, states, *batch, config, c, learning_rate(step, c))
        if step + 1 == c.steps or c.eval_every and (step + 1) % c.eval_every == 0:
            found = measure(params, config, held_out.tokens, held_out.pairs, held_out.senses)
            rows.append({"step": step + 1} | found)
            if report:
                report(rows[-1])
    return params, rows
