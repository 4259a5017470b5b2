"""What an iteration writes in the log: numbers of several rollouts or optimiser steps as one row."""

DEFINITION = "sums and means of a log's numbers"

SUMS = ("generated", "judged", "new_tokens")


def step_means(found):
    """One row of metrics from those of several optimiser steps: means, of ``ratio_max`` the largest.

    "skipped" if any of them was, or none was an update; "updates": how many were.
    """
    names = [name for name in found[0] if name != "skipped"]
    values = {name: [float(one[name]) for one in found if name in one] for name in names}
    means = {name: max(values[name]) if name == "ratio_max" else sum(values[name]) / len(values[name]) for name in names}
    updates = sum("loss" in one for one in found)
    skipped = updates == 0 or any(one.get("skipped") for one in found)
    return {"loss": 0.0, "lr": 0.0, "grad_norm": 0.0} | means | {"skipped": bool(skipped), "updates": updates}


NOTHING = {"loss": 0.0, "lr": 0.0, "grad_norm": 0.0, "skipped": True, "updates": 0}  # of a rollout without anything to learn


def rollout_facts(found, settings):
    """One row of facts from those of several rollouts: means, and sums of times, tokens and failures.

    A fact "parts" or "failed" is {name of a reward: number}, and becomes reward_NAME and failed_NAME.
    """
    sums = {name: sum(one[name] for one in found) for name in SUMS}
    means = {
        name: sum(one[name] for one in found) / len(found)
        for name in found[0]
        if name not in (*SUMS, "parts", "failed")
    }
    for name in found[0]["parts"]:
        means[f"reward_{name}"] = sum(one["parts"][name] for one in found) / len(found)
        means[f"failed_{name}"] = sum(one["failed"][name] for one in found)
    return means | sums | {"rollouts": len(found), "drawn": len(found) * settings.prompts}


def row(facts, metrics, scored, updated):
    """The row of a step: facts of its rollouts, metrics of its updates, and where the seconds went."""
    seconds = {
        "seconds_generation": facts["generated"],
        "seconds_scoring": facts["judged"] + scored,
        "seconds_update": updated,
    }
    rate = facts["new_tokens"] / max(sum(seconds.values()), 1e-9)
    kept = {name: value for name, value in facts.items() if name not in (*SUMS, "rollouts", "drawn")}
    return metrics | kept | seconds | {"new_tokens": facts["new_tokens"], "new_tokens_per_second": rate}


def tell_cold(before, report):
    """A note to ``report`` (a Progress, or None) if no sample of any held-out prompt is right before the first step."""
    found = {int(name.removeprefix("pass_")): share for name, share in before.items() if name.startswith("pass_")}
    if report and found and not max(found.values()):
        report.note(
            f"none of the held-out prompts is answered right in {max(found)} samples of each: rewards for right answers alone will "
            "teach nothing; fine-tune longer, begin with an easier --task, or add --reward closeness"
        )
