"""What must not change an update of PPO or GRPO: padding, completions without a reward, the order of groups; and in which
unit the distance is held. In both wings."""

import dataclasses

import numpy as np
import pytest

import numpy_ref.rl.step
import torch_impl.rl.step
from numpy_ref.rl.settings import OBJECTIVES
from parity_tests import rl_toys
from parity_tests.test_rl import GRPO, PPO, TRAIN, experience, run
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)
KINDS = {"ppo": PPO} | {kind: dataclasses.replace(GRPO, objective=kind) for kind in OBJECTIVES}
COLUMNS = ("mask", "logprobs", "kept", "advantages", "returns", "values", "reference")  # of targets, one fewer than tokens


def update(wing, settings, made, changes=lambda batch: batch):
    """(metrics, parameters) after one step of ``learn`` on a batch of ``experience``, changed as NumPy arrays."""
    params, config, batch, objective = made
    by = wing.module("grpo.objective").BY.get(getattr(settings, "objective", "ppo"), "token")
    names = [name for name in wing.module("rl.step").LEARNT if batch.get(name) is not None]
    changed = {name: wing.array(value) for name, value in changes({name: plain(batch[name]) for name in names}).items()}
    params = {name: wing.array(plain(value).copy()) for name, value in params.items()}
    states = wing.module("training.optimizer").init_states(params, TRAIN)
    metrics, params, _ = wing.module("rl.step").learn(
        params, states, changed, config, TRAIN, settings, objective, settings.kl_loss, by, 0
    )
    return {name: float(value) for name, value in metrics.items()}, {name: plain(value) for name, value in params.items()}


def same(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-9, abs=1e-12)
    for name, value in one[1].items():
        np.testing.assert_allclose(other[1][name], value, rtol=0, atol=1e-9, err_msg=name)


@both
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_metric_and_no_update(wing, kind):
    """TRL's entropy and KL were means over padding, too, and its entropy negative for two years."""
    settings = dataclasses.replace(KINDS[kind], entropy=0.01, kl_loss=0.1)
    made = experience(wing, settings)

    def wider(batch):
        wide = {"tokens": np.pad(batch["tokens"], ((0, 0), (0, 5)), constant_values=7)}
        for name in set(COLUMNS) & set(batch):
            if batch[name].shape[1] > 1:
                fill = {"constant_values": False if name == "mask" else -7.0}
                wide[name] = np.pad(batch[name], ((0, 0), (0, 5)), **fill)
        return batch | wide

    found = update(wing, settings, made)
    same(found, update(wing, settings, made, wider))
    assert 0 < found[0]["entropy"] <= np.log(rl_toys.CONFIG.vocab_size)
    assert found[0]["ratio_mean"] == pytest.approx(1, rel=1e-9) and found[0]["kl_old"] == pytest.approx(0, abs=1e-9)


@both
@pytest.mark.parametrize("kind", KINDS)
def test_completions_without_a_reward_count_nowhere(wing, kind):
    """prime-rl's steps that were NaN still counted in the denominator: here they are as if they had not been written."""
    settings = dataclasses.replace(KINDS[kind], entropy=0.01)
    made = experience(wing, settings)
    rows = len(plain(made[2]["tokens"]))
    out = np.arange(rows) % 4 == 1

    def masked(batch):
        return batch | {"mask": batch["mask"] & ~out[:, None]}

    def without(batch):
        return {name: value[~out] for name, value in batch.items()}

    same(update(wing, settings, made, masked), update(wing, settings, made, without))


@both
def test_the_order_of_groups_and_of_completions_changes_nothing(wing):
    """Groups in another order, and completions in another order within theirs, advantages computed anew."""
    made = experience(wing, GRPO)
    rewards = np.random.default_rng(0).standard_normal((GRPO.prompts, GRPO.group))
    order = np.random.default_rng(1)
    groups = order.permutation(GRPO.prompts)
    within = np.stack([order.permutation(GRPO.group) for _ in groups])
    rows = (groups[:, None] * GRPO.group + within).ravel()

    def advantages(values):
        return plain(wing.call("grpo.advantages", "group_advantages", values, GRPO.baseline)).reshape(-1, 1)

    first = update(wing, GRPO, made, lambda batch: batch | {"advantages": advantages(rewards)})
    shuffled = advantages(np.take_along_axis(rewards[groups], within, 1))
    same(first, update(wing, GRPO, made, lambda batch: {name: value[rows] for name, value in batch.items()} | {"advantages": shuffled}))


@both
def test_the_distance_is_held_in_nats_a_completion(wing, tmp_path):
    """verl and OpenRLHF feed Ziegler's controller nats a token, where its target is one of whole completions."""
    settings = dataclasses.replace(PPO, kl_target=1.0, kl_horizon=100, epochs=2)
    _, rows = run(wing, settings, tmp_path, dataclasses.replace(TRAIN, lr=3e-2))
    assert all(row["kl_completion"] == pytest.approx(row["kl"] * row["length"], rel=1e-9, abs=1e-12) for row in rows)
    for row, following in zip(rows, rows[1:]):
        error = np.clip(row["kl_completion"] / settings.kl_target - 1, -0.2, 0.2)
        factor = 1 + error * settings.prompts * settings.group / settings.kl_horizon
        assert following["kl_weight"] == pytest.approx(row["kl_weight"] * factor, rel=1e-12)
    assert rows[0]["kl_weight"] == 1 and rows[1]["kl_weight"] < 1  # nothing has moved yet: cheaper


@both
@pytest.mark.parametrize("settings", [PPO, GRPO], ids=["ppo", "grpo"])
def test_a_rollout_is_left_once_the_policy_is_too_far_away(wing, settings):
    """The minibatch that finds it there is not learnt from: weights are those after as many updates as are counted."""
    made = experience(wing, settings)
    far = dataclasses.replace(settings, epochs=6, stop_kl=1e-5)
    stopped, params = update(wing, far, made)
    assert stopped["stopped_early"] == 1 and 1 <= stopped["updates"] < 6
    _, others = update(wing, dataclasses.replace(settings, epochs=int(stopped["updates"])), made)
    for name, value in params.items():
        np.testing.assert_array_equal(others[name], value)
    assert "stopped_early" not in update(wing, dataclasses.replace(far, stop_kl=1e3), made)[0]
