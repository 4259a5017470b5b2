"""Training a model of pseudo-words; all examples lie on the device."""

import torch

from torch_impl.context.evaluate import measure
from torch_impl.context.initialise import initialise
from torch_impl.context.step import train_step
from torch_impl.device import choose_device
from torch_impl.rng import STREAM_ORDER, permuted
from torch_impl.training.loop import master_dtype
from torch_impl.training.optimizer import init_states
from torch_impl.training.schedules import learning_rate


def train_senses(config, train_config, train, held_out, report=None):
    """Train on Examples of NumPy arrays; returns the parameters and the held-out measures, each with its "step"."""
    c, device = train_config, choose_device(train_config.device)
    learnt, judged = (
        [torch.from_numpy(array).to(device) for array in (side.tokens, side.pairs, side.senses)] for side in (train, held_out)
    )
    params, rows = initialise(config, c.seed, master_dtype(c), device), []
    states, batches = init_states(params, c), max(1, len(train) // c.batch)
    for step in range(c.steps):
        epoch, number = divmod(step, batches)
        places = torch.arange(number * c.batch, min((number + 1) * c.batch, len(train)), device=device)
        chosen = permuted(places, len(train), c.seed, STREAM_ORDER + epoch)
        train_step(params, states, *(array[chosen] for array in learnt), config, c, learning_rate(step, c))
        if step + 1 == c.steps or c.eval_every and (step + 1) % c.eval_every == 0:
            rows.append({"step": step + 1} | measure(params, config, *judged))
            if report:
                report(rows[-1])
    return params, rows
