"""Rollouts, steps and whole runs of PPO and GRPO: the same on both wings, and what they must do on each."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import numpy_ref.grpo.loop
import numpy_ref.ppo.loop
import torch_impl.grpo.loop
import torch_impl.ppo.loop
from numpy_ref import checkpoint_file
from numpy_ref.config import SampleConfig
from numpy_ref.errors import BadSteps, RunWarning, UserError
from numpy_ref.rl import settings as rl_settings
from numpy_ref.rl.parts import policy_params
from numpy_ref.rl.prompts import TaskPrompts
from numpy_ref.rl.rewards import Each, Judge
from numpy_ref.tasks.builtin import find
from parity_tests import rl_toys
from parity_tests.rl_toys import CONFIG, TRAIN, base, judge, source
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)

PPO = rl_settings.PPOConfig(prompts=6, group=2, tokens=6, eval_prompts=3, eval_samples=2)
GRPO = rl_settings.GRPOConfig(prompts=4, group=4, tokens=6, eval_prompts=3, eval_samples=2, kl_every=1)
RUNS = {
    "ppo": (PPO, {}),
    "ppo, everything on": (
        dataclasses.replace(
            PPO, critic="critic", epochs=2, minibatches=2, entropy=0.01, kl_loss=0.1, kl_weighted=True, kl_target=1.0,
            top_k=100, temperature=0.8, dual_clip=3.0, missing_end=0.3, gamma=0.99, by="sequence",
        ),
        {"accumulate": 2},
    ),
    "grpo": (GRPO, {}),
    "grpo, everything on": (
        dataclasses.replace(
            GRPO, epochs=2, minibatches=3, kl_loss=0.1, kl_loss_kind="k3", dynamic=2, top_p=0.9, objective="gspo",
            baseline="rloo", adaptive=0.5, reward_clip=0.9, clip_high=0.28,
        ),
        {"accumulate": 2},
    ),
    "dr. grpo": (dataclasses.replace(GRPO, objective="dr_grpo", baseline="mean", stop_kl=1e-4, epochs=3), {}),
    "cispo": (dataclasses.replace(GRPO, objective="cispo", clip_high=4.0, epochs=2), {}),
}  # fmt: skip


def run(wing, settings, out, train=TRAIN, prompts=None, rewards=None, **options):
    """A run of the wing in ``out``; (Run, rows of its log)."""
    kind = "ppo" if isinstance(settings, rl_settings.PPOConfig) else "grpo"
    function = getattr(wing.module(f"{kind}.loop"), f"train_{kind}")
    start = None if options.get("resume") else wing.array(base())
    found = function(CONFIG, train, settings, prompts or source("sort-2", "copy-3"), rewards or judge(), start, out, **options)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return found, rows


def steady(row):
    """What of a row does not depend on the clock."""
    return {name: value for name, value in row.items() if not name.startswith(("seconds", "time", "tokens_per", "new_tokens_per"))}


witnessed = {}


def witness(wing, monkeypatch):
    """A judge that notes in ``witnessed`` which ids are rewarded, while the wing's loops note their advantages."""
    said, found = witnessed[str(wing)] = [], []
    for kind in ("ppo", "grpo"):
        loop = wing.module(f"{kind}.loop")
        plainly = loop.advantages

        def noted(run, batch, settings, plainly=plainly):
            made = plainly(run, batch, settings)
            found.append(plain(made["advantages"]).copy())
            return made

        monkeypatch.setattr(loop, "advantages", noted)
    return Judge((Each("letters", lambda one: said.append(one.ids) or rl_toys.letters(one)),))


# Every declaration of ``test_mirror`` that points here is a part of these runs: train_ppo, train_grpo, advantages, begin,
# resumed, reinforce, iterate, learn, policy_gradients, gather, completions, held_out, learnable, kl_weights, output_of.
@pytest.mark.parametrize("name", RUNS)
def test_whole_runs_agree(name, tmp_path, monkeypatch):
    """Three iterations from the same seed: the same completions, rewards and advantages, and parameters within 1e-9."""
    settings, changes = RUNS[name]
    train = dataclasses.replace(TRAIN, **changes)
    (one, rows), (other, other_rows) = (run(wing, settings, tmp_path / str(wing), train, rewards=witness(wing, monkeypatch)) for wing in WINGS)
    (said, advantages), (other_said, other_advantages) = (witnessed[str(wing)] for wing in WINGS)
    assert said == other_said and len(said) > 3 * settings.prompts * settings.group  # those of evaluations, too
    for found, other_found in zip(advantages, other_advantages, strict=True):
        np.testing.assert_allclose(found, other_found, rtol=1e-9, atol=1e-9)
    assert one.extra == pytest.approx(other.extra) and (one.position, one.tokens) == (other.position, other.tokens)
    for row, other_row in zip(rows, other_rows, strict=True):
        assert steady(row) == pytest.approx(steady(other_row), rel=1e-9, abs=1e-9)
    moved = 0.0
    for parameter, value in one.params.items():
        np.testing.assert_allclose(value, plain(other.params[parameter]), rtol=0, atol=1e-9, err_msg=parameter)
        moved = max(moved, np.abs(value - base().get(parameter, value)).max())
    assert moved > 1e-3, "the run has not learnt anything"
    assert sum(row["reward_std"] for row in rows) > 0


@both
@pytest.mark.parametrize("name", ["ppo, everything on", "grpo, everything on"])
def test_a_resumed_run_is_the_same_to_the_last_bit(wing, name, tmp_path):
    settings, changes = RUNS[name]
    train = dataclasses.replace(TRAIN, **changes)
    whole, rows = run(wing, settings, tmp_path / "whole", train)
    run(wing, settings, tmp_path / "cut", train, stop_after=1)
    again, more = run(wing, settings, tmp_path / "cut", train, resume=True)
    assert [steady(row) for row in rows] == [steady(row) for row in more]
    assert whole.extra == again.extra and whole.extra["rollouts"] >= 3
    for parameter, value in plain(whole.params).items():
        np.testing.assert_array_equal(value, plain(again.params[parameter]), err_msg=parameter)


def test_a_run_goes_on_in_the_other_wing(tmp_path):
    whole, _ = run(WINGS[0], PPO, tmp_path / "whole")
    run(WINGS[0], PPO, tmp_path / "cut", stop_after=2)
    again, _ = run(WINGS[1], PPO, tmp_path / "cut", resume=True)
    for parameter, value in whole.params.items():
        np.testing.assert_allclose(value, plain(again.params[parameter]), rtol=0, atol=1e-9)


def experience(wing, settings, seed=0):
    """(params, batch with advantages) of a first rollout, and the module of its loss."""
    kind = "ppo" if isinstance(settings, rl_settings.PPOConfig) else "grpo"
    loop = wing.module(f"{kind}.loop")
    config = dataclasses.replace(CONFIG, output=getattr(settings, "critic", "tokens"))
    params = wing.module("rl.policy").with_value(wing.array(base()), config)
    frozen = checkpoint_file.Run(config, TRAIN, params, {}, extra={"kl": 1.0})
    own = wing.array(base())
    batch, _ = wing.module("rl.experience").gather(own, CONFIG, source(), judge(), settings, seed)
    batch["reference"] = batch["logprobs"]
    batch |= loop.advantages(frozen, batch, settings)
    return params, config, batch, getattr(wing.module(f"{kind}.loss"), f"{kind}_loss")


def gradients(wing, settings, params, config, batch, objective, by, accumulate=1):
    batch = {name: batch.get(name) for name in wing.module("rl.step").LEARNT}
    loss, grads, *_ = wing.module("rl.step").policy_gradients(
        params, batch, config, settings, objective, 0.0, by, accumulate
    )
    return float(loss), plain(grads)


@both
@pytest.mark.parametrize("kind", ["ppo", *rl_settings.OBJECTIVES])
def test_how_the_batch_is_cut_changes_nothing(wing, kind):
    """One, three or five parts, also of unequal sizes: the same loss and gradients."""
    settings = PPO if kind == "ppo" else dataclasses.replace(GRPO, objective=kind)
    by = wing.module("grpo.objective").BY.get(kind, "token")
    made = experience(wing, settings)
    loss, whole = gradients(wing, settings, *made, by)
    for parts in (3, 5, 100):
        other, cut = gradients(wing, settings, *made, by, parts)
        np.testing.assert_allclose(other, loss, rtol=1e-11, atol=1e-13)
        for name, grad in whole.items():
            np.testing.assert_allclose(cut[name], grad, rtol=1e-9, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("positions", ["rope", "learned", "sinusoidal"])
@pytest.mark.parametrize("output", ["value", "critic"])
def test_reading_a_prompt_once_changes_nothing(positions, output):
    """Completions of one prompt share its computation on the Torch side: the same values and gradients, also for prompts of
    unequal length, groups of unequal size and completions that count nothing."""
    config = dataclasses.replace(CONFIG, positions=positions, output=output, layers=2)
    params = WINGS[1].module("rl.policy").with_value(WINGS[1].array(base(dataclasses.replace(config, output="tokens"))), config)
    generator = torch.Generator().manual_seed(0)
    params = {name: value + 0.1 * torch.randn(value.shape, generator=generator, dtype=value.dtype) for name, value in params.items()}
    own = WINGS[1].module("rl.rollout").rollout(
        policy_params(params),
        dataclasses.replace(config, output="tokens"), [[1, 2, 3], [4, 5], [6] * 9], SampleConfig(tokens=6, top_k=100), (258,), 5,
    )  # fmt: skip
    batch = WINGS[1].module("rl.batch").chosen(own, torch.tensor([0, 1, 2, 3, 4, 7, 8, 10, 11, 12, 13, 14]))
    batch["mask"][3] = False
    found = []
    for shared in (None, (batch["prompts"], batch["starts"])):
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        outputs = WINGS[1].module("rl.policy").policy(
            batch["tokens"], batch["mask"], leaves, config, kept=batch["kept"], shared=shared
        )
        total = sum((one * torch.sin(torch.arange(one.numel()).view(one.shape) + n)).sum() for n, one in enumerate(outputs))
        found.append([*outputs, *torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)])
    for plain_one, shared_one in zip(*found):
        torch.testing.assert_close(shared_one, plain_one, rtol=1e-10, atol=1e-12)
    packed = WINGS[1].module("rl.shared_prompts")._packed(batch["tokens"], batch["mask"], batch["prompts"], batch["starts"])
    assert packed is not None and packed[0].numel() < 0.8 * batch["tokens"].numel(), "nothing was shared: the test shows nothing"


@both
def test_rows_without_a_gradient_are_left_out_of_no_sum(wing):
    """Groups that are all alike are not computed, and still count in the mean."""
    params, config, batch, objective = experience(wing, GRPO)
    batch = dict(batch)
    flat = plain(batch["advantages"]).copy()
    flat[:8] = 0.0
    batch["advantages"] = wing.array(flat)
    loss, grads = gradients(wing, GRPO, params, config, batch, objective, "token")
    settings = dataclasses.replace(GRPO, entropy=1e-300)  # now every row has something to say
    other, whole = gradients(wing, settings, params, config, batch, objective, "token")
    np.testing.assert_allclose(loss, other, rtol=1e-12)
    for name, grad in whole.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-9, atol=1e-14, err_msg=name)


@both
def test_the_order_of_rows_changes_nothing(wing):
    params, config, batch, objective = experience(wing, GRPO)
    _, grads = gradients(wing, GRPO, params, config, batch, objective, "token")
    order = np.random.default_rng(0).permutation(len(batch["tokens"]))
    shuffled = wing.module("rl.batch").chosen(batch, wing.array(order))
    _, others = gradients(wing, GRPO, params, config, shuffled, objective, "token")
    for name, grad in grads.items():
        np.testing.assert_allclose(others[name], grad, rtol=1e-9, atol=1e-13, err_msg=name)


@both
@pytest.mark.parametrize("settings", [GRPO, dataclasses.replace(PPO, value_coefficient=0.0, kl_reward=0.0)], ids=["grpo", "ppo"])
def test_the_first_step_is_reinforce(wing, settings):
    """Nothing has moved: all ratios are 1, none is clipped, and the gradient is that of -mean(A ln policy), by autograd
    through a model that was written for nothing else."""
    params, config, batch, objective = experience(wing, settings)
    _, grads = gradients(wing, settings, params, config, batch, objective, "token")
    tokens, mask = torch.tensor(plain(batch["tokens"])), torch.tensor(plain(batch["mask"]))
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in base().items()}
    logits = WINGS[1].module("model.transformer").transformer(tokens[:, :-1], leaves, CONFIG)
    chosen = torch.log_softmax(logits, -1).gather(-1, tokens[:, 1:, None])[..., 0]
    np.testing.assert_allclose(chosen.detach().numpy()[mask], plain(batch["logprobs"])[mask], rtol=1e-10)
    loss = -(chosen * torch.tensor(plain(batch["advantages"])))[mask].mean()
    right = torch.autograd.grad(loss, list(leaves.values()))
    for name, grad in zip(leaves, right):
        np.testing.assert_allclose(grads[name], grad.numpy(), rtol=1e-8, atol=1e-12, err_msg=name)


@both
def test_adding_to_all_rewards_changes_no_update_of_grpo(wing, tmp_path):
    shifted = Judge((Each("letters", lambda one: rl_toys.letters(one) + 7.0),))
    one, _ = run(wing, GRPO, tmp_path / "a")
    other, _ = run(wing, GRPO, tmp_path / "b", rewards=shifted)
    for name, value in plain(one.params).items():
        np.testing.assert_allclose(plain(other.params[name]), value, rtol=0, atol=1e-6)


@both
def test_greedy_rollouts_are_what_generate_writes(wing):
    """The same tokens as the engine behind the command line, with prompts of unequal length and rows that end early."""
    params, prompts = wing.array(base()), [np.array([1, 2, 3]), np.array([9]), np.array([4, 5, 6, 7])]
    options = SampleConfig(tokens=8, greedy=True)
    batch = plain(wing.module("rl.rollout").rollout(params, CONFIG, prompts, options, (17,)))
    texts = plain(wing.module("inference.generate").generate(params, CONFIG, wing.array(prompts), options))
    for row, text in enumerate(texts):
        start = batch["starts"][row]
        said = batch["tokens"][row, start : start + batch["lengths"][row]]
        cut = text[: list(text).index(17) + 1] if 17 in text else text
        np.testing.assert_array_equal(said, cut)


@both
def test_completions_of_a_prompt_do_not_depend_on_the_others(wing):
    """Alone, a prompt has the logits that it has in a batch: no padding, no neighbour, no group changes them."""
    params, options = wing.array(base()), SampleConfig(tokens=5, seed=4)
    rollout = wing.module("rl.rollout").rollout
    together = plain(rollout(params, CONFIG, [np.array([1, 2]), np.array([3] * 6)], options, (), 2))
    alone = plain(rollout(params, CONFIG, [np.array([1, 2])], options, (), 2))
    width = alone["tokens"].shape[1]
    np.testing.assert_array_equal(together["tokens"][:2, :width], alone["tokens"])
    np.testing.assert_allclose(together["logprobs"][:2, : width - 1], alone["logprobs"], rtol=1e-10)


@both
def test_rollouts_follow_the_policy(wing):
    """The first tokens of many completions come as often as the model says, within 4.5 standard errors."""
    params, options = wing.array(base()), SampleConfig(tokens=1, seed=9, temperature=1.4)
    many = 4000
    batch = plain(wing.module("rl.rollout").rollout(params, CONFIG, [np.array([5, 6])], options, (), many))
    logits = wing.call("model.transformer", "transformer", np.array([[5, 6]]), base(), CONFIG)[0, -1]
    p = np.exp(logits / 1.4 - (logits / 1.4).max())
    p /= p.sum()
    seen = np.bincount(batch["tokens"][:, 2], minlength=CONFIG.vocab_size) / many
    assert (np.abs(seen - p) <= 4.5 * np.sqrt(p * (1 - p) / many) + 1e-9).all()


@both
def test_failing_rewards_are_counted_and_named(wing, tmp_path):
    """A function that raises on some completions and returns NaN for others: the run goes on, and says so once."""

    def moody(one):
        if len(one.ids) % 3 == 0:
            raise ZeroDivisionError("no luck")
        return math.nan if one.ids[0] % 5 == 0 else 0.5

    rewards = Judge((Each("letters", rl_toys.letters), Each("moody", moody)))
    settings = dataclasses.replace(GRPO, top_k=250, tokens=5, group=8)
    with pytest.warns(RunWarning, match="'moody'") as told:
        _, rows = run(wing, settings, tmp_path, rewards=rewards)
    assert len([one for one in told if "moody" in str(one.message)]) == 1
    assert sum(row["failed_moody"] for row in rows) > 0 and all(row["failed_letters"] == 0 for row in rows)
    assert all(math.isfinite(row["reward"]) for row in rows)


@both
def test_a_run_stops_at_a_failing_reward_if_asked(wing, tmp_path):
    def broken(one):
        raise KeyError("answer")

    rewards = Judge((Each("broken", broken),), "stop")
    with pytest.raises(UserError, match="'broken' raised KeyError"):
        run(wing, GRPO, tmp_path, rewards=rewards)


@both
@pytest.mark.parametrize("settings", [PPO, GRPO], ids=["ppo", "grpo"])
def test_nothing_to_learn_from_is_a_skipped_step(wing, settings, tmp_path):
    """No completion has a reward: weights and optimiser stay, and the log says that the step was skipped."""
    rewards = Judge((Each("nothing", lambda one: math.nan),))
    with pytest.warns(RunWarning, match="nothing"):
        found, rows = run(wing, settings, tmp_path, rewards=rewards)
    assert all(row["skipped"] for row in rows)
    for name, value in base().items():
        np.testing.assert_array_equal(plain(found.params[name]), value)
    with pytest.raises(BadSteps, match="no completion to learn from 2 times in a row, up to step 2"):
        run(wing, settings, tmp_path / "stopped", dataclasses.replace(TRAIN, bad_steps=2), rewards=rewards)


@both
def test_dynamic_sampling_fills_up_with_groups_that_differ(wing):
    """Groups whose rewards are all equal are replaced, as long as further rollouts are allowed."""
    settings = dataclasses.replace(GRPO, dynamic=6, group=2, prompts=4)
    even = Judge((Each("even", lambda one: float(one.ids[0] % 2)),))
    batch, facts = wing.module("rl.experience").gather(
        wing.array(base()), CONFIG, source(), even, settings, 0
    )
    rewards = plain(batch["rewards"]).reshape(-1, 2)
    assert (rewards[:, 0] != rewards[:, 1]).all() and len(rewards) == 4
    assert 1 < facts["rollouts"] <= 7 and facts["drawn"] == 4 * facts["rollouts"]


@both
@pytest.mark.parametrize("share, levels", [(1.0, [0.0, 0.25, 0.5]), (0.0, [0.0, 0.0, 0.0])], ids=["right", "wrong"])
def test_difficulty_follows_what_is_right_not_what_is_paid(wing, share, levels, tmp_path):
    """Rewards in units of their own say nothing about a pass rate; only the tasks' judges move the level."""
    tasks = [dataclasses.replace(find(name), judge=lambda *_: share, needs_end=False) for name in ("sort-2", "sort-3", "sort-4")]
    settings = dataclasses.replace(GRPO, adaptive=0.5, tokens=3)
    rewards = Judge((Each("letters", lambda one: 7 * rl_toys.letters(one) - 20),))
    found, rows = run(wing, settings, tmp_path, prompts=TaskPrompts(tasks, rl_toys.SPEECH), rewards=rewards)
    assert [row["level"] for row in rows] == levels and all(row["passed"] == share for row in rows)
    assert found.extra["level"] == pytest.approx(levels[-1] + 0.25 * share)  # so a resumed run goes on from there


@both
def test_dynamic_sampling_gives_up(wing):
    settings = dataclasses.replace(GRPO, dynamic=2)
    flat = Judge((Each("flat", lambda one: 1.0),))
    batch, facts = wing.module("rl.experience").gather(wing.array(base()), CONFIG, source(), flat, settings, 0)
    assert facts["rollouts"] == 3 and len(batch["tokens"]) == 16 and facts["zero_variance"] == 1


@both
def test_truncated_completions_are_left_out_if_asked(wing):
    """They still count in the baseline of their group."""
    params, config, batch, objective = experience(wing, dataclasses.replace(GRPO, top_k=200, tokens=3))
    settings = dataclasses.replace(GRPO, drop_truncated=True)
    rows = plain(wing.module("rl.loop").learnable(batch, settings))
    np.testing.assert_array_equal(rows, plain(batch["ended"]))
    assert plain(wing.module("rl.loop").learnable(batch, GRPO)).all()


@both
def test_prompts_that_do_not_fit_are_refused(wing):
    rollout, params = wing.module("rl.rollout").rollout, wing.array(base())
    with pytest.raises(UserError, match="prompt 1 has 38 tokens"):
        rollout(params, CONFIG, [np.array([1]), np.array([1] * 38)], SampleConfig(tokens=6), (0,))
    with pytest.raises(UserError, match="prompt 0"):
        rollout(params, CONFIG, [np.array([], np.int64)], SampleConfig(tokens=6), (0,))


@both
def test_a_base_that_is_no_language_model_is_refused(wing, tmp_path):
    reward = dataclasses.replace(CONFIG, output="reward")
    for kind, settings in (("ppo", PPO), ("grpo", GRPO)):
        train = getattr(wing.module(f"{kind}.loop"), f"train_{kind}")
        with pytest.raises(UserError, match="tokens"):
            train(reward, TRAIN, settings, source(), judge(), {}, tmp_path)


@both
def test_a_run_without_its_reference_does_not_resume(wing, tmp_path):
    run(wing, GRPO, tmp_path, stop_after=1)
    (tmp_path / "reference" / "checkpoint.npz").unlink()
    with pytest.raises(UserError, match="reference"):
        run(wing, GRPO, tmp_path, resume=True)


def test_settings_refuse_what_can_not_work():
    for changes, words in (
        ({"group": 1}, "group of at least 2"),
        ({"clip_low": 0.0}, "clip_low"),
        ({"dual_clip": 0.5}, "dual_clip"),
        ({"minibatches": 100}, "more than the 16 completions"),
        ({"kl_target": 6.0}, "kl_loss"),
        ({"objective": "ppo"}, "dapo"),
        ({"objective": "gspo", "dual_clip": 3.0}, "gspo has no dual clip"),
        ({"temperature": 0.0}, "temperature"),
    ):
        with pytest.raises(UserError, match=words):
            dataclasses.replace(GRPO, **changes)
    with pytest.raises(UserError, match="critic"):
        dataclasses.replace(PPO, critic="none")
