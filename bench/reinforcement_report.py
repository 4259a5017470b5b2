"""The report of ``bench.reinforcement``: tables and pictures of its rows."""

import json
import math
import statistics

import torch

from bench.report_parts import table
from numpy_ref.files import replace
from numpy_ref.plots import BLUE, INK, PALE, QUIET, RED, canvas, halo, smooth
from numpy_ref.run_plots import COLOURS, DASHES

LETTERS, BYTES = 26, 256


def write(out, rows, environment):
    """rows.jsonl, pictures and rl.md in the folder ``out``; runs that were not made now keep the rows that are there."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "rows.jsonl"
    old = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = merged(old, rows)
    replace(path, lambda file: file.write("".join(json.dumps(row) + "\n" for row in rows).encode()))
    text = ["# Reinforcement learning that works", INTRODUCTION.format(
        torch=torch.__version__.partition("+")[0], cpu=environment.get("cpu", "a CPU"))]  # fmt: skip
    for kind, section in SECTIONS.items():
        own = [row for row in rows if row["experiment"] == kind]
        if own:
            text += section(own, out)
    replace(out / "rl.md", lambda file: file.write(("\n\n".join(text) + "\n").encode()))
    print(out / "rl.md")


def merged(old, new):
    """The rows of both, by experiment and seed; of a run with rows in both, the new one."""
    found = {(row["experiment"], row["name"], row["seed"]): row for row in [*old, *new]}
    return sorted(found.values(), key=lambda row: (list(SECTIONS).index(row["experiment"]), row["seed"]))


INTRODUCTION = (
    "Written by `python -m bench.reinforcement` (`make rl`). Every run is a single thread of float32, PyTorch {torch}, {cpu}; "
    "CPU seconds are those of that thread, evaluations included. Each seed draws its own weights, examples, prompts and samples. Answers count as right "
    "if they are exactly right and end by themselves; held-out prompts have digits that no training prompt has, in any order."
)


def runs(rows, name):
    return [row for row in rows if row["name"] == name]


def percent(values):
    """Values of the seeds, and their mean in bold, as cells."""
    return ", ".join(f"{value:.1%}" for value in values), f"**{statistics.mean(values):.1%}**"


def worked(rows):
    """Seconds of the processor, where they were noted."""
    seconds = [row["cpu_seconds"] for row in rows if row.get("cpu_seconds")]
    return f"{statistics.mean(seconds):.0f}" if seconds else ""


def column(rows, name, place=-1):
    """A number of an evaluation, the last or the first, of each seed."""
    return [row["curve"][place][name] for row in rows]


# -- sorting ------------------------------------------------------------------------------------------------------


def sorting(rows, out):
    """What 100 labelled examples give, and what rewards add to them."""
    names = (("taught", "fine-tuned on 100 examples"), ("GRPO", "then GRPO"), ("PPO", "then PPO"))
    names += (("more steps", "instead, more steps on the same examples"),)
    lines = []
    for name, words in names:
        own = runs(rows, name)
        if own:
            others = [f"{statistics.mean(column(own, figure)):.1%}" for figure in ("pass_1", "pass_8")]
            lines.append((words, *percent(column(own, "greedy")), *others, f"{own[0]['updates']:,}", worked(own)))
    picture(out / "sorting.png", rows)
    prompts = "32 prompts x 8 completions for GRPO, 256 prompts for PPO, whose critic is a head on the policy's trunk"
    return [
        "## Sorting eight digits",
        "A policy of 0.83 million parameters (bytes; 4 layers of width 128), fine-tuned for 120 steps on 100 labelled examples, is then "
        f"rewarded: 1 for a right answer, else 0. An update is a rollout of 256 completions ({prompts}) and one pass over it in four "
        "minibatches; where all completions of a prompt are worth the same, GRPO draws others, from up to two rollouts more. 1,000 held-out "
        "prompts; sampled: at temperature 1.",
        table(("", "greedy, right (seeds)", "mean", "sampled", "any of 8 samples", "updates", "CPU s"), lines),
        "![Right answers over updates](sorting.png)",
        phases(rows),
    ]


def phases(rows):
    """Where the time of a run goes."""
    words = []
    for name in ("GRPO", "PPO"):
        splits = [row["split"] for row in runs(rows, name)]
        if splits:
            total = statistics.mean(sum(split.values()) for split in splits)
            shares = [f"{phase} {statistics.mean(split[phase] for split in splits) / total:.0%}" for phase in splits[0]]
            words.append(f"{name}: {', '.join(shares)}")
    return f"Time of an update: {'; '.join(words)}."


def picture(path, rows):
    """Right answers over updates, held out and to the prompts that are learnt from; the control beside them."""
    with canvas(path, figsize=(11, 4.3)) as figure:
        greedy, sampled = figure.subplots(1, 2, sharey=True)
        for name, colour in (("GRPO", BLUE), ("PPO", RED)):
            own = runs(rows, name)
            if own:
                curves(greedy, own, colour, name)
                for row in own:
                    sampled.plot(100 * smooth(row["log"]["reward"]), color=colour, linewidth=0.8, alpha=0.45)
                mean = [100 * statistics.mean(values) for values in zip(*(row["log"]["reward"] for row in own))]
                sampled.plot(smooth(mean), color=colour, linewidth=2.2, label=name)
        control = runs(rows, "more steps")
        if control:
            end = 100 * statistics.mean(column(control, "greedy"))
            greedy.axhline(end, color=INK, linewidth=1.2, linestyle="--")
            greedy.annotate(f"more steps on the same examples: {end:.1f} %", (greedy.get_xlim()[1], end), xytext=(-6, -14),
                            textcoords="offset points", ha="right", color=INK, path_effects=halo())  # fmt: skip
        greedy.set(title="1,000 held-out prompts, greedy", ylabel="per cent sorted right", xlabel="update", ylim=(25, 95))
        sampled.set(title="The rollouts: fresh prompts, sampled", xlabel="update")
        greedy.legend(loc="upper left")


def curves(axes, rows, colour, label, figure="greedy"):
    """Each seed thin, their mean thick."""
    steps = sorted(set.intersection(*({point["step"] for point in row["curve"]} for row in rows)))
    lines = [[100 * point[figure] for point in row["curve"] if point["step"] in steps] for row in rows]
    for line in lines:
        axes.plot(steps, line, color=colour, linewidth=0.8, alpha=0.45)
    mean = [statistics.mean(values) for values in zip(*lines)]
    axes.plot(steps, mean, color=colour, linewidth=2.2, marker="o", markersize=4, label=f"{label}: {mean[0]:.1f} to {mean[-1]:.1f} %")


# -- letters ------------------------------------------------------------------------------------------------------


def lexical(rows, out):
    """What a price on distance does, measured and as it should be."""
    prices, lines = sorted({row["price"] for row in rows}), []
    for price in prices:
        own = [row for row in rows if row["price"] == price]
        reward, distance = ([last(row, name) for row in own] for name in ("reward", "kl_completion"))
        share, best = optimum(price)
        lines.append((f"{price:g}", f"{statistics.mean(reward):.3f}", f"{min(reward):.3f} to {max(reward):.3f}", f"{share:.3f}",
                      f"{statistics.mean(distance):.2f}", f"{min(distance):.2f} to {max(distance):.2f}", f"{best:.2f}",
                      f"{(1 - LETTERS / BYTES) / price:.1f}" if price else "none"))  # fmt: skip
    lexical_picture(out / "lexical.png", rows, prices)
    slowest = max(sum(row.get("cpu_seconds", row["wall_seconds"]) for row in rows if row["seed"] == seed) for seed in {row["seed"] for row in rows})
    return [
        "## Letters",
        "An untrained model of 0.07 million parameters writes 16 bytes and is paid the share of small letters among them. A nat of "
        "distance from the untrained model costs a price. The best policy under a price p is known: it makes every letter exp(1 / 16p) "
        "times as likely as it was, beside other bytes, and it can't be further away than the gain in reward / p. GRPO with the mean of "
        f"the others as baseline, 60 updates of 128 texts; means of the last ten. All {len(prices)} prices of a seed take {slowest:.0f} s of one core.",
        table(("price", "reward", "of seeds", "best policy's", "KL, nats a text", "of seeds", "best policy's", "bound"), lines),
        "![Reward and distance over updates, by price](lexical.png)",
    ]


def last(row, name):
    """The mean of a number over the last ten updates that have it."""
    return statistics.mean([value for value in row["log"][name] if value is not None][-10:])


def optimum(price, length=16, share=LETTERS / BYTES):
    """(reward, nats a text) of the policy that is best under a price: q / (1 - q) = s / (1 - s) exp(1 / (length price))."""
    if not price:
        return 1.0, length * math.log(1 / share)
    odds = share / (1 - share) * math.exp(1 / (length * price))
    q = odds / (1 + odds)
    return q, length * (q * math.log(q / share) + (1 - q) * math.log((1 - q) / (1 - share)))


def lexical_picture(path, rows, prices):
    with canvas(path, figsize=(11, 4.2)) as figure:
        both = figure.subplots(1, 2)
        for number, price in enumerate(prices):
            own = [row for row in rows if row["price"] == price]
            style = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.8, "label": f"{price:g}"}
            for axes, name in zip(both, ("reward", "kl_completion")):
                mean = [statistics.mean(values) for values in zip(*(row["log"][name] for row in own))]
                axes.plot(range(1, len(mean) + 1), smooth(mean), **style)
                if price:
                    axes.plot([len(mean) + 1.5], [optimum(price)[name != "reward"]], marker="<", color=style["color"], clip_on=False)
        both[0].set(title="Reward: the share of letters", ylabel="mean", xlabel="update", ylim=(0, 1.03))
        both[1].set(title="Distance from the untrained model", ylabel="nats a text", xlabel="update", ylim=(0, None))
        both[0].legend(title="price of a nat", loc="upper left", alignment="left")
        both[1].annotate("triangles: of the best policy", (0.02, 0.94), xycoords="axes fraction", color=QUIET)


# -- preferences --------------------------------------------------------------------------------------------------


def preference(rows, out):
    """A reward model's score and the truth, over a run that only sees the score."""
    models = {row["name"]: [one for one in rows if one["name"] == row["name"]] for row in rows if "accuracy" in row}
    judged = [
        (f"{own[0]['pairs']:,}", f"{own[0]['updates']:,}", *percent([row["accuracy"] for row in own])) for own in models.values()
    ]
    chases = {row["name"]: [one for one in rows if one["name"] == row["name"]] for row in rows if "price" in row}
    lines = []
    for own in chases.values():
        series = {name: average(own, name) for name in ("reward_score", "reward_right", "reward_closeness", "kl_completion")}
        top = max(range(len(series["reward_right"])), key=lambda place: series["reward_right"][place])
        score, right, near, distance = series.values()
        lines.append((
            own[0]["pairs"], f"{own[0]['price']:g}", f"{score[0]:+.2f} to **{score[-1]:+.2f}**",
            f"{right[0]:.1%}, at most {right[top]:.1%}, in the end **{right[-1]:.1%}**",
            f"{near[0]:.3f} to **{near[-1]:.3f}**", f"{distance[-1]:.1f}",
        ))  # fmt: skip
    chase_picture(out / "preference.png", chases)
    return [
        "## A reward model's score, and the truth",
        "Reward models begin as the fine-tuned policy and learn from pairs of answers with different numbers of mistakes. PPO then sees "
        "nothing but the model's score (mean 0 and deviation 1 on the policy's own answers); what the answers are truly worth is only "
        "noted: the share that is right, and closeness, 1 - edits / length.",
        table(("training pairs", "steps", "held-out pairs in the right order (seeds)", "mean"), judged),
        "Sampled answers to fresh prompts, means of the seeds over ten updates, first and last:",
        table(("reward model", "price of a nat a token", "score", "right", "closeness", "KL, nats an answer"), lines),
        "![The model's score and the truth over updates](preference.png)",
    ]


def average(rows, name, width=10):
    """The mean over seeds, and over ``width`` updates at a time."""
    mean = [statistics.mean(values) for values in zip(*(row["log"][name] for row in rows))]
    width = min(width, len(mean))
    return [statistics.mean(mean[start : start + width]) for start in range(len(mean) - width + 1)]


def chase_picture(path, chases):
    panels = (("reward_score", "The model's score, which PPO sees", "deviations"),)
    panels += (("reward_right", "The truth: right answers", "share"),)
    with canvas(path, figsize=(11, 4.2)) as figure:
        for axes, (name, title, unit) in zip(figure.subplots(1, len(panels)), panels):
            for number, (label, own) in enumerate(chases.items()):
                style = {"color": COLOURS[number], "dashes": DASHES[number] if DASHES[number][0] else ()}
                for row in own if len(own) > 1 else ():
                    axes.plot(smooth(row["log"][name]), color=style["color"], linewidth=0.6, alpha=0.35)
                mean = average(own, name)
                axes.plot(range(5, 5 + len(mean)), mean, linewidth=2, label=label, **style)
            axes.set(title=title, ylabel=unit, xlabel="update")
        axes.legend(loc="best")


# -- harder tasks -------------------------------------------------------------------------------------------------


def ladder(rows, out):
    """Before, after, and the control, a line each; then task by task where there are several."""
    lines, each, shown = [], [], []
    for name in rungs(rows):
        made = {name_of: runs(rows, f"{name}, {name_of}") for name_of in suffixes(rows, name)}
        for words, own in made.items():
            sampled = [f"{statistics.mean(column(own, figure)):.1%}" for figure in ("pass_1", "pass_8")]
            lines.append((f"{name}: {WORDS.get(words, words)}", *percent(column(own, "greedy")), *sampled, f"{own[0]['updates']:,}", worked(own)))
        first = next(iter(made.values()))[0]
        shown.append(f"{name}: {first['examples']:,}")
        if len(first["tasks"]) > 1:
            own = [(WORDS.get(words, words), *by_task(own)) for words, own in made.items()]
            each.append(table((f"{name}, right, greedy", *first["tasks"]), own))
    ladder_picture(out / "ladder.png", rows)
    return [
        "## Harder tasks",
        "Run with `--ladder`: the same policy and GRPO, at a learning rate of 1e-4. Longer digits: examples of 3 to 5 digits and a few of 6 to "
        "8, asked for 5 to 8. Addition: answers as they are written, the first digit first. Countdown: three numbers, each once, to "
        "reach a given one; a tenth of the reward for any other expression of them. The control takes about the time of fine-tuning and "
        f"GRPO together for more steps on the same examples ({'; '.join(shown)}). Up to 500 held-out prompts, the tasks in equal shares.",
        table(("", "greedy, right (seeds)", "mean", "sampled", "any of 8 samples", "updates", "CPU s"), lines),
        "![Right answers before, after, and of the control](ladder.png)",
        *each,
    ]


WORDS = {"taught": "fine-tuned", "more steps": "instead, more steps"}  # of runs; all others are reinforcement


def rungs(rows):
    """Names of the rungs that have been begun, in the order of their rows."""
    return list(dict.fromkeys(row["name"].partition(", ")[0] for row in rows))


def suffixes(rows, name):
    """What the runs of a rung are called."""
    return list(dict.fromkeys(row["name"].partition(", ")[2] for row in rows if row["name"].startswith(f"{name}, ")))


def by_task(rows):
    """The mean over seeds of right greedy answers to each task, as cells."""
    return [f"{statistics.mean(row['tasks'][task] for row in rows):.1%}" for task in rows[0]["tasks"]]


def ladder_picture(path, rows):
    """A panel a rung; bars: what each run can do, greedy, sampled and as any of eight."""
    names, colours = rungs(rows), {"taught": PALE, "GRPO": BLUE, "more steps": QUIET}
    with canvas(path, figsize=(4 * max(2, len(names)), 3.8)) as figure:
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names):
            made = [(words, runs(rows, f"{name}, {words}")) for words in suffixes(rows, name)]
            width = 0.84 / len(made)
            for place, (words, own) in enumerate(made):
                heights = [100 * statistics.mean(column(own, figure)) for figure in ("greedy", "pass_1", "pass_8")]
                places = [group + width * (place - (len(made) - 1) / 2) for group in range(3)]
                bars = axes.bar(places, heights, 0.92 * width, color=colours.get(words, RED), label=WORDS.get(words, words))
                axes.bar_label(bars, fmt="%.0f", fontsize=8, color=INK, padding=1)
            axes.set(title=name, xticks=range(3), xticklabels=("greedy", "sampled", "any of 8"), ylim=(0, 105))
            axes.grid(axis="x", visible=False)
            axes.legend(loc="upper left", fontsize=8)
        panels[0].set(ylabel="per cent of held-out prompts right")


SECTIONS = {"sorting": sorting, "lexical": lexical, "preference": preference, "ladder": ladder}
