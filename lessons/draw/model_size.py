"""What a model is made of, and what its training holds in memory."""

from lessons.draw.picture import BLUE, COLOURS, INK, drawing
from numpy_ref.inspect import describe

HATCHES = ("", "//", "..", "xx")


def model_size(models, title="Parameters and memory"):
    """Left: parameters by part; right: memory of a training step. models: name -> (ModelConfig, TrainConfig)."""
    facts = {name: describe(*both) for name, both in models.items()}
    height = 1.1 + 0.34 * sum(len(one["parts"]) + 1 for one in facts.values())
    with drawing(title, 10.5, max(3.2, height)) as (figure, picture):
        left, right = figure.subplots(1, 2)
        _parts(left, facts)
        _memory(right, facts)
    return picture


def _parts(axes, facts):
    y, ticks = 0, []
    for name, one in facts.items():
        total = one["parameters"]
        axes.text(0, y, f"{name}: {total:,} parameters", fontweight="bold", va="center", fontsize=10)
        y += 1
        for part, number in sorted(one["parts"].items(), key=lambda item: -item[1]):
            share = 100 * number / total
            axes.barh(y, share, color=BLUE, height=0.7)
            axes.text(share + 1, y, f"{share:.1f} %", va="center", fontsize=9)
            ticks.append((y, part))
            y += 1
    axes.set_yticks([at for at, _ in ticks], [part for _, part in ticks])
    axes.set(ylim=(y - 0.3, -0.7), xlim=(0, 112), xlabel="share of the parameters in %")
    axes.grid(axis="y", visible=False)


def _memory(axes, facts):
    names = list(facts)
    bottoms = [0.0] * len(names)
    for number, part in enumerate(("parameters", "gradients", "optimiser", "activations")):
        sizes = [facts[name]["memory_training"][part] / 2**20 for name in names]
        axes.bar(range(len(names)), sizes, bottom=bottoms, color=COLOURS[number], hatch=HATCHES[number], edgecolor="white", width=0.6, label=part)
        bottoms = [a + b for a, b in zip(bottoms, sizes)]
    for place, total in enumerate(bottoms):
        axes.text(place, total, f"{total:,.1f} MiB" if total < 1e4 else f"{total / 1024:,.1f} GiB", ha="center", va="bottom", fontsize=9, color=INK)
    axes.set_xticks(range(len(names)), names)
    axes.set(title="memory of a training step, float32", ylabel="MiB", xlim=(-0.7, len(names) - 0.3))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.grid(axis="x", visible=False)
