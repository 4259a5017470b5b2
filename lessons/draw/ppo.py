"""PPO's surrogate: what a token earns by moving, and where it earns nothing more."""

import numpy as np

from lessons.draw.picture import BLUE, INK, QUIET, RED, drawing
from numpy_ref.ppo.objective import policy_loss


def ppo(clip_low=0.2, clip_high=0.2, ratios=None, advantages=None):
    """Left: the surrogate over the ratio, for a good token and a bad one, with its slope; right: the ratios of an update.

    ratios, advantages: (n,) of the tokens of a rollout after some steps, or None for the left panel alone.
    """
    known = ratios is not None
    title = f"PPO pays for a ratio between {1 - clip_low:g} and {1 + clip_high:g}, and not for more"
    with drawing(title, 10.5 if known else 7, 4.2) as (figure, picture):
        panels = figure.subplots(1, 1 + known, squeeze=False)[0]
        _surrogate(panels[0], clip_low, clip_high)
        if known:
            _update(panels[1], np.asarray(ratios), np.asarray(advantages), clip_low, clip_high)
    return picture


def _surrogate(axes, low, high):
    ratio = np.linspace(0.4, 1.8, 281)
    axes.axvspan(1 - low, 1 + high, color="#eef4f9")
    for advantage, colour, dashes, name in ((1.0, BLUE, (None, None), "a good token, A = 1"), (-1.0, RED, (5, 1.5), "a bad token, A = -1")):
        one = np.zeros((len(ratio), 1))
        loss = [policy_loss(np.log(r).reshape(1, 1), one[:1], np.full((1, 1), advantage), np.ones((1, 1), bool), low, high)[0] for r in ratio]
        axes.plot(ratio, -np.array(loss), color=colour, dashes=dashes, linewidth=2, label=name)
    axes.plot([1, 1], [1, -1], "o", color=INK, markersize=5)
    axes.annotate("where every update begins", (1, 0), ha="center", va="center", fontsize=9, color=QUIET)
    axes.set(xlabel="ratio: how much likelier the token has become", ylabel="what it earns", xlim=(0.4, 1.8), ylim=(-1.9, 2.1))
    axes.legend(loc="upper left")


def _update(axes, ratios, advantages, low, high):
    axes.axvspan(1 - low, 1 + high, color="#eef4f9", label="inside the clip")
    bins = np.linspace(min(0.4, ratios.min()), max(1.8, min(ratios.max(), 3.0)), 41)
    good = advantages > 0
    axes.hist(np.clip(ratios[good], bins[0], bins[-1]), bins, color=BLUE, label="good tokens", alpha=0.9)
    axes.hist(np.clip(ratios[~good], bins[0], bins[-1]), bins, histtype="step", hatch="////", color=RED, label="bad tokens", linewidth=1.2)
    held = np.where(good, ratios > 1 + high, ratios < 1 - low).mean()
    axes.set(title=f"an update: {100 * held:.0f} % of the tokens win nothing more", xlabel="ratio", ylabel="tokens", yscale="log")
    axes.legend()
