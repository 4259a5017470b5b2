"""Mistakes of well-known frameworks, each as a test that ours does not make it. In both wings."""

import numpy as np
import pytest
import torch

import numpy_ref.ppo.objective
import torch_impl.ppo.objective
from numpy_ref.config import SampleConfig
from parity_tests import rl_toys
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("wing", WINGS, ids=str)
ALL = np.ones((1, 4), bool)


@both
def test_torchtune_whitening_keeps_the_mean(wing):
    """Its ``shift_mean`` means the opposite, so that advantages keep their mean, and its test computes the same."""
    x = np.array([[0.5, 1.5, 2.5, 3.5]])
    found = wing.call("rl.masked", "whiten", x, ALL)
    np.testing.assert_allclose(found.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(found.var(ddof=1), 1, rtol=1e-7)
    np.testing.assert_allclose(wing.call("rl.masked", "whiten", x, ALL, False) - found, 2 / np.std(x, ddof=1), rtol=1e-7)


@both
def test_rlhf_book_estimators_point_the_wrong_way(wing):
    """A policy that is surer than the reference of what it draws is at a positive distance from it."""
    p, q = np.array([0.9, 0.1]), np.array([0.5, 0.5])
    k1 = wing.call("rl.kl", "kl_estimate", np.log(p), np.log(q), "k1")
    k3 = wing.call("rl.kl", "kl_estimate", np.log(p), np.log(q), "k3")
    right = np.sum(p * np.log(p / q))
    np.testing.assert_allclose([p @ k1, p @ k3], right, rtol=1e-12)


@both
@pytest.mark.parametrize("distance", [99.0, -99.0, 1000.0, -1000.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_k3_is_finite_far_out(wing, distance, dtype):
    """TRL's is infinite at 99 nats, OpenRLHF's has a gradient of NaN, verl's of 0: the token never comes back."""
    logprobs = np.array([-distance], dtype) if distance > 0 else np.array([distance], dtype)
    reference = np.array([-2 * distance if distance > 0 else 0.0], dtype)
    if wing.package == "numpy_ref":
        value, vjp = wing.module("rl.kl").kl_estimate(logprobs, reference)
        slope = vjp(np.ones_like(value))
    else:
        leaf = torch.tensor(logprobs, requires_grad=True)
        value = wing.module("rl.kl").kl_estimate(leaf, torch.tensor(reference))
        slope = torch.autograd.grad(value.sum(), leaf)[0].numpy()
        value = value.detach().numpy()
    assert np.isfinite(value).all() and (value > 0).all()
    below = logprobs < reference
    assert np.isfinite(slope).all() and (slope[below] < -1).all() and (slope[~below] > 0).all()


@both
def test_trl_puts_the_score_behind_the_end(wing):
    """With the score on the first padding token the end token's advantage depends on what the critic says of padding."""
    mask = np.array([[True, True, True, False]])
    rewards = wing.call("ppo.advantages", "token_rewards", np.array([0.7]), np.zeros((1, 4)), mask, 0.0)
    np.testing.assert_array_equal(rewards, [[0, 0, 0.7, 0]])
    for padding in (0.0, 0.5, -1.0, np.nan):
        values = np.array([[0.1, 0.2, 0.0, padding]])
        advantages, returns = wing.call("ppo.advantages", "gae", rewards, values, mask)
        np.testing.assert_allclose(advantages[0, 2], 0.7)
        assert returns[0, 3] == advantages[0, 3] == 0


@both
def test_roll_lets_masked_values_leak(wing):
    """A critic's 100 on an observation token between two turns must not reach the tokens before it."""
    mask = np.array([[True, False, True]])
    rewards = np.array([[0.0, 0.0, 1.0]])
    found = [
        wing.call("ppo.advantages", "gae", rewards, np.array([[0.0, leak, 0.0]]), mask, 1.0, 0.95) for leak in (0.0, 100.0)
    ]
    np.testing.assert_allclose(found[0][0], [[0.95, 0, 1]])
    for clean, leaked in zip(*found):
        np.testing.assert_array_equal(clean, leaked)


@both
@pytest.mark.parametrize("seed", range(5))
def test_nothing_behind_a_mask_changes_a_bit(wing, seed):
    """Whatever stands there, NaN and infinities included: advantages, returns, whitened ones and losses stay the same."""
    rng = np.random.default_rng(seed)
    mask = rng.random((3, 7)) < 0.6
    names = ("rewards", "values", "old_values", "logprobs", "old_logprobs", "entropy", "reference")
    clean = {name: rng.standard_normal((3, 7)) for name in names}
    dirty = {name: np.where(mask, x, rng.choice([np.nan, np.inf, -1e30, 5.0], (3, 7))) for name, x in clean.items()}

    def results(a):
        advantages, returns = wing.call("ppo.advantages", "gae", a["rewards"], a["values"], mask)
        pair = a["logprobs"], a["old_logprobs"]
        terms = {"kl": 0.1, "weighted": True, "bonus": 0.1}
        return [
            advantages, returns, wing.call("rl.masked", "whiten", a["rewards"], mask),
            wing.call("rl.masked", "explained_variance", a["values"], returns, mask),
            wing.call("ppo.objective", "policy_loss", *pair, advantages, mask),
            wing.call("ppo.objective", "value_loss", a["values"], a["old_values"], returns, mask),
            wing.call("grpo.objective", "gspo_loss", *pair, advantages[:, :1], mask),
            wing.call("grpo.objective", "cispo_loss", *pair, advantages, mask),
            wing.call("rl.regulariser", "regulariser", a["logprobs"], a["entropy"], pair[1], a["reference"], mask, **terms),
            *wing.call("ppo.objective", "ratio_statistics", *pair, advantages, mask).values(),
        ]  # fmt: skip

    for one, other in zip(results(clean), results(dirty)):
        np.testing.assert_array_equal(one, other)


@both
def test_cleanrl_returns_of_stale_advantages(wing):
    """Returns belong to the advantages before whitening: at lambda 1 they are the sums of rewards to come."""
    rng = np.random.default_rng(0)
    rewards, values = rng.standard_normal((2, 2, 5))
    _, returns = wing.call("ppo.advantages", "gae", rewards, values, np.ones((2, 5), bool), 1.0, 1.0)
    np.testing.assert_allclose(returns, np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1], atol=1e-12)


@both
def test_verl_sequence_mean_depends_on_the_number_of_processes(wing):
    """Parts with one denominator add up to the whole, however the rows are cut; means of the parts' means do not."""
    rng = np.random.default_rng(1)
    x, mask = rng.standard_normal((6, 5)), rng.random((6, 5)) < 0.5
    mask[2] = False
    for by in ("token", "sequence", "length"):
        whole = wing.call("rl.masked", "aggregate", x, mask, by)
        denominator = int(wing.module("rl.masked").loss_denominator(wing.array(mask), by))
        for cuts in ([3], [1, 2], [1, 2, 3, 4, 5]):
            parts = zip(np.split(x, cuts), np.split(mask, cuts))
            total = sum(wing.call("rl.masked", "aggregate", *part, by, denominator) for part in parts)
            np.testing.assert_allclose(total, whole, rtol=1e-12)


@both
def test_verl_singletons_keep_their_reward(wing):
    valid = np.array([[True, False, False]])
    for kind in ("deviation", "mean", "rloo"):
        found = wing.call("grpo.advantages", "group_advantages", np.array([[5.0, 1.0, 2.0]]), kind, valid)
        np.testing.assert_array_equal(found, np.zeros((1, 3)))


@both
@pytest.mark.parametrize("reward", [0.1, 0.7, 1.0, 1e8 + 0.3, 1 / 3])
def test_nemo_rl_divides_what_rounding_leaves(wing, reward):
    """Equal rewards have advantages of exactly 0, also where their mean is not exactly one of them."""
    for kind in ("deviation", "mean", "rloo"):
        for group in (3, 7, 10):
            rewards = np.full((1, group), reward, np.float32)
            found = wing.call("grpo.advantages", "group_advantages", rewards, kind, None, 1e-9)
            np.testing.assert_array_equal(found, np.zeros((1, group)))


@both
def test_verl_nearly_equal_rewards_are_bounded(wing):
    """Rewards that differ in their last digits: no advantage exceeds (n - 1) / sqrt(n), the most a deviation allows."""
    rewards = np.array([[0.7, 0.7, 0.7, 0.7000001]])
    found = wing.call("grpo.advantages", "group_advantages", rewards, "deviation", None, 1e-12)
    assert np.abs(found).max() <= 3 / 2 + 1e-9


@both
def test_one_success_among_eight(wing):
    """With n - 1: 2.474; with n it would be 2.645. Without the deviation 0.875, beside the others' mean 1."""
    rewards = np.eye(8)[:1]
    found = {
        kind: wing.call("grpo.advantages", "group_advantages", rewards, kind, None, 1e-12)[0, 0]
        for kind in ("deviation", "mean", "rloo")
    }
    np.testing.assert_allclose([found["deviation"], found["mean"], found["rloo"]], [2.4748737, 0.875, 1.0], rtol=1e-6)


@both
def test_trl_metrics_count_the_padding(wing):
    """Ratio, KL and shares are those of the tokens that count, however wide the batch is."""
    logprobs, old = np.array([[-1.0, -2.0]]), np.array([[-1.5, -1.0]])
    mask, one = np.ones((1, 2), bool), np.ones((1, 1))
    narrow = wing.call("ppo.objective", "ratio_statistics", logprobs, old, one, mask)
    wide = [np.pad(a, ((0, 3), (0, 6)), constant_values=-7.0) for a in (logprobs, old)]
    padded = wing.call(
        "ppo.objective", "ratio_statistics", *wide, np.ones((4, 1)), np.pad(mask, ((0, 3), (0, 6)))
    )
    for name, value in narrow.items():
        np.testing.assert_allclose(padded[name], value, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(narrow["ratio_mean"], (np.exp(0.5) + np.exp(-1)) / 2)


def rolled(wing, prompts, group=4, config=rl_toys.CONFIG, **sample):
    params = wing.array(rl_toys.base(config))
    ids = [np.array(prompt) for prompt in prompts]
    options = SampleConfig(**{"tokens": 6, "seed": 1} | sample)
    return params, wing.module("rl.rollout").rollout(params, config, ids, options, (258, 259, 3), group)


def scored(wing, params, batch, temperature, config=rl_toys.CONFIG):
    result = wing.module("rl.policy").policy(
        batch["tokens"], batch["mask"], params, config, temperature, batch["kept"]
    )
    return np.asarray((result[0] if wing.package == "numpy_ref" else result)[0])


@both
@pytest.mark.parametrize(
    "sample", [{}, {"temperature": 0.6}, {"top_k": 20}, {"top_p": 0.8}, {"temperature": 0.6, "top_p": 0.95, "top_k": 20}], ids=str
)
def test_rollouts_are_scored_under_what_was_drawn_from(wing, sample):
    """RLHF book's policies draw at 0.6 among 20 tokens and are scored at 1 over all; TRL's ratios were .965 under top-k 20
    and .896 under top-p .8. Ours are 1: the first pass over a rollout finds nothing changed."""
    params, batch = rolled(wing, [[1, 2, 3], [4, 5], [6] * 9], **sample)
    temperature = sample.get("temperature", 1.0)
    found = scored(wing, params, batch, temperature)
    mask, old = np.asarray(batch["mask"]), np.asarray(batch["logprobs"])
    np.testing.assert_allclose(np.exp(found - old)[mask], 1.0, rtol=1e-9)


@both
def test_nanochat_never_trains_the_end(wing):
    """The stop token is part of the completion: it counts in the mask, has a log-probability, and carries the reward."""
    _, batch = rolled(wing, [[1, 2, 3]] * 20, group=8, tokens=12, top_k=60, temperature=1.3)
    tokens, mask = np.asarray(batch["tokens"]), np.asarray(batch["mask"])
    ended = np.flatnonzero(np.asarray(batch["ended"]))
    assert len(ended) >= 3, "no completion ended: the test shows nothing"
    last = np.asarray(batch["starts"] + batch["lengths"]) - 1
    for row in ended:
        assert tokens[row, last[row]] in (258, 259, 3)
        assert mask[row, last[row] - 1] and not mask[row, last[row] :].any()
        assert np.asarray(batch["logprobs"])[row, last[row] - 1] < 0
    assert not np.isin(tokens[:, 3:][np.arange(tokens.shape[1] - 3) < (last - 3)[:, None]], (258, 259, 3)).any()


@both
def test_padding_changes_no_log_probability(wing):
    """NeMo-Aligner's ratio was not 1 where rows were padded to another width."""
    params, batch = rolled(wing, [[1, 2, 3], [4, 5]], group=2)
    alone = scored(wing, params, batch, 1.0)
    wider = dict(batch)
    if wing.package == "numpy_ref":
        wider["tokens"] = np.pad(batch["tokens"], ((0, 0), (0, 5)), constant_values=7)
        wider["mask"] = np.pad(batch["mask"], ((0, 0), (0, 5)))
    else:
        wider["tokens"] = torch.nn.functional.pad(batch["tokens"], (0, 5), value=7)
        wider["mask"] = torch.nn.functional.pad(batch["mask"], (0, 5))
    padded = scored(wing, params, wider, 1.0)[:, : alone.shape[1]]
    np.testing.assert_allclose(padded, alone, rtol=1e-12, atol=1e-15)


@both
def test_no_ratio_overflows(wing):
    """TRL's ratio is unguarded: 1000 nats are inf, and inf times an advantage of 0 is NaN."""
    logprobs, old = np.array([[0.0, -1000.0]]), np.array([[-1000.0, 0.0]])
    for advantages in ([[0.0, 0.0]], [[1.0, -1.0]], [[-1.0, 1.0]]):
        arrays = logprobs, old, np.array(advantages), np.ones((1, 2), bool)
        assert np.isfinite(wing.call("ppo.objective", "policy_loss", *arrays))
        assert all(np.isfinite(value) for value in wing.call("ppo.objective", "ratio_statistics", *arrays).values())
        assert np.isfinite(wing.call("grpo.objective", "cispo_loss", *arrays))
