"""Exponential moving average of the weights."""

import torch

TORCH_ONLY = {"ema_"}


def ema(averages, params, decay, step):
    """average + (1 - d) (param - average) for each parameter, d = min(decay, (1 + step) / (10 + step)).

    The minimum forgets the random start (as TensorFlow's moving averages with ``num_updates`` do). Dicts of (...) ->
    new dict; step from 0.
    """
    decay = _decay(decay, step)
    return {name: torch.lerp(average, params[name], 1 - decay) for name, average in averages.items()}


@torch.no_grad()
def ema_(averages, params, decay, step):
    """``ema`` in place: one call for all weights."""
    torch._foreach_lerp_(list(averages.values()), [params[name] for name in averages], 1 - _decay(decay, step))


def _decay(decay, step):
    return min(decay, (1 + step) / (10 + step))
