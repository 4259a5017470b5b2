"""An average of the weights over the last steps, which is often a better model than the weights themselves."""


def ema(averages, params, decay, step):
    """Exponential moving average of every weight (Polyak and Juditsky 1992; of networks: arXiv:1703.01780, eq. 1).

        a = d a + (1 - d) w,    d = min(decay, (1 + step) / (10 + step))

    The average looks back about 1 / (1 - decay) steps. The first ones look back less, or the random weights at the
    beginning would stay in the average of a short run.

    averages, params: dicts of arrays; step: from 0 -> new dict.
    """
    decay = min(decay, (1 + step) / (10 + step))
    return {name: decay * average + (1.0 - decay) * params[name] for name, average in averages.items()}
