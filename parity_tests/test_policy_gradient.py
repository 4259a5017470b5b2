"""Exact expectations: over a handful of tokens every average can be written out, so that signs and factors can't hide.

A property that holds for both wings is asked of both; what a whole of them computes is compared with nothing of ours.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import numpy_ref.grpo.advantages
import numpy_ref.ppo.objective
import numpy_ref.rl.kl
import numpy_ref.training.token_logprobs
import torch_impl.grpo.advantages
import torch_impl.ppo.objective
import torch_impl.rl.kl
import torch_impl.training.token_logprobs
from parity_tests.wings import WINGS

V = 4


def softmax(logits):
    p = np.exp(logits - logits.max())
    return p / p.sum()


def gradient_of(function, logits, step=1e-6):
    """By central differences: nothing of what is tested is used."""
    found = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += step
        down[place] -= step
        found[place] = (function(up) - function(down)) / (2 * step)
    return found


def kl_of(reference, backwards=False):
    def kl(logits):
        p, q = softmax(logits), softmax(reference)
        p, q = (q, p) if backwards else (p, q)
        return float(np.sum(p * np.log(p / q)))

    return kl


def token_gradients(wing, logits, slope):
    """For each token y the gradient of slope_y ln p_y by the logits: (V, V)."""
    rows, targets = np.tile(logits, (V, 1)), np.arange(V)
    if wing.package == "numpy_ref":
        return wing.module("training.token_logprobs").token_logprobs(rows, targets)[1](slope)
    rows = torch.tensor(rows, requires_grad=True)
    found = wing.module("training.token_logprobs").token_logprobs(rows, torch.tensor(targets))
    return torch.autograd.grad(found, rows, torch.tensor(slope))[0].numpy()


def estimates(wing, logprobs, reference, kind, old=None):
    """(values, slopes) of an estimator at every token; with ``old`` weighted by the ratio."""
    if wing.package == "numpy_ref":
        value, vjp = wing.module("rl.kl").kl_estimate(logprobs, reference, kind)
        slope = vjp(np.ones_like(value))
        if old is not None:
            ratio = np.exp(logprobs - old)
            return ratio * value, ratio * (value + slope)
        return value, slope
    leaf = torch.tensor(logprobs, requires_grad=True)
    value = wing.module("rl.kl").kl_estimate(leaf, torch.tensor(reference), kind)
    value = value if old is None else (leaf - torch.tensor(old)).exp() * value
    return value.detach().numpy(), torch.autograd.grad(value.sum(), leaf)[0].numpy()


LOGITS = np.random.default_rng(5).standard_normal((3, V))  # policy, reference, an older policy
POLICY, REFERENCE, OLD = LOGITS
LOG_P, LOG_Q, LOG_OLD = (np.log(softmax(row)) for row in LOGITS)


@pytest.mark.parametrize("wing", WINGS, ids=str)
@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_estimators_are_right_on_average(wing, kind):
    values, _ = estimates(wing, LOG_P, LOG_Q, kind)
    np.testing.assert_allclose(softmax(POLICY) @ values, kl_of(REFERENCE)(POLICY), rtol=1e-12)


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_k3_is_never_negative_and_k2_is_half_a_square(wing):
    assert (estimates(wing, LOG_P, LOG_Q, "k3")[0] >= 0).all()
    np.testing.assert_allclose(estimates(wing, LOG_P, LOG_Q, "k2")[0], (LOG_P - LOG_Q) ** 2 / 2, rtol=1e-12)


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_average_gradients_of_the_estimators(wing):
    """As losses over the policy's own draws: k1 has none, k2 that of KL(policy || reference), k3 that of the reverse."""
    wanted = {
        "k1": np.zeros(V),
        "k2": gradient_of(kl_of(REFERENCE), POLICY),
        "k3": gradient_of(kl_of(REFERENCE, backwards=True), POLICY),
    }
    for kind, right in wanted.items():
        _, slope = estimates(wing, LOG_P, LOG_Q, kind)
        mean = softmax(POLICY) @ token_gradients(wing, POLICY, slope)
        np.testing.assert_allclose(mean, right, atol=1e-8, err_msg=kind)


@pytest.mark.parametrize("wing", WINGS, ids=str)
@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_weighted_estimators_are_right_off_policy_too(wing, kind):
    """Over an older policy's draws r k averages to KL(policy || reference), and its gradient to the gradient of that."""
    values, slope = estimates(wing, LOG_P, LOG_Q, kind, LOG_OLD)
    old = softmax(OLD)
    np.testing.assert_allclose(old @ values, kl_of(REFERENCE)(POLICY), rtol=1e-12)
    right = gradient_of(kl_of(REFERENCE), POLICY)
    np.testing.assert_allclose(old @ token_gradients(wing, POLICY, slope), right, atol=1e-8)


def surrogate_slopes(wing, logprobs, old, advantages):
    """Gradient of each token's own clipped surrogate by its log-probability (n,)."""
    arrays = [np.asarray(a)[:, None] for a in (logprobs, old, advantages)] + [np.ones((len(logprobs), 1), bool)]
    module = wing.module("ppo.objective")
    if wing.package == "numpy_ref":
        return module.policy_loss(*arrays, denominator=1)[1](np.float64(1.0))[:, 0]
    leaf = torch.tensor(arrays[0], requires_grad=True)
    loss = module.policy_loss(leaf, *map(torch.tensor, arrays[1:]), denominator=1)
    return torch.autograd.grad(loss, leaf)[0].numpy()[:, 0]


REWARDS = np.array([0.3, -1.0, 2.0, 0.5])


@pytest.mark.parametrize("wing", WINGS, ids=str)
@pytest.mark.parametrize("baseline", [0.0, 0.7, -3.0])
def test_the_policy_gradient_is_unbiased(wing, baseline):
    """On the first step, whatever the constant baseline: on average the gradient of the expected reward, negated."""
    slopes = surrogate_slopes(wing, LOG_P, LOG_P, REWARDS - baseline)
    np.testing.assert_array_equal(slopes, -(REWARDS - baseline))  # REINFORCE: ratio 1, nothing clipped
    mean = softmax(POLICY) @ token_gradients(wing, POLICY, slopes)
    right = gradient_of(lambda logits: -float(softmax(logits) @ REWARDS), POLICY)
    np.testing.assert_allclose(mean, right, atol=1e-8)


@pytest.mark.parametrize("wing", WINGS, ids=str)
@pytest.mark.parametrize("group", [2, 3])
@pytest.mark.parametrize(("kind", "factor"), [("rloo", lambda n: 1.0), ("mean", lambda n: (n - 1) / n)])
def test_group_baselines_on_average(wing, group, kind, factor):
    """Over all possible groups: leave-one-out is unbiased, the mean that includes the completion itself is short by 1 / n."""
    groups = np.array(list(itertools.product(range(V), repeat=group)))
    chance = np.prod(softmax(POLICY)[groups], axis=1)
    advantages = wing.call("grpo.advantages", "group_advantages", REWARDS[groups], kind)
    each = -advantages / group  # slope of the mean over the group
    gradients = np.stack([token_gradients(wing, POLICY, np.eye(V)[y]) [y] for y in range(V)])
    mean = np.einsum("g,gi,giv->v", chance, each, gradients[groups])
    right = gradient_of(lambda logits: -float(softmax(logits) @ REWARDS), POLICY)
    np.testing.assert_allclose(mean, factor(group) * right, atol=1e-8)


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_importance_weights_are_unbiased_off_policy(wing):
    """Without clipping the surrogate over an older policy's draws has the gradient of the expected reward."""
    module, advantages = wing.module("ppo.objective"), REWARDS - 0.4
    arrays = [a[:, None] for a in (LOG_P, LOG_OLD, advantages)] + [np.ones((V, 1), bool)]
    wide = {"clip_low": 1.0, "clip_high": 1e6, "denominator": 1}
    if wing.package == "numpy_ref":
        slopes = module.policy_loss(*arrays, **wide)[1](np.float64(1.0))[:, 0]
    else:
        leaf = torch.tensor(arrays[0], requires_grad=True)
        loss = module.policy_loss(leaf, *map(torch.tensor, arrays[1:]), **wide)
        slopes = torch.autograd.grad(loss, leaf)[0].numpy()[:, 0]
    mean = softmax(OLD) @ token_gradients(wing, POLICY, slopes)
    right = gradient_of(lambda logits: -float(softmax(logits) @ REWARDS), POLICY)
    np.testing.assert_allclose(mean, right, atol=1e-8)


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_sequences_of_two_tokens(wing):
    """A policy with memory over two tokens, every sequence written out: the token-wise gradient is that of the whole."""
    first, second = np.random.default_rng(6).standard_normal((2, V, V))
    first = first[0]
    rewards = np.random.default_rng(7).standard_normal((V, V))

    def expected(logits_first):
        p = softmax(logits_first)
        return -sum(p[a] * softmax(second[a])[b] * rewards[a, b] for a in range(V) for b in range(V))

    slopes = {a: sum(softmax(second[a])[b] * -rewards[a, b] for b in range(V)) for a in range(V)}
    mean = softmax(first) @ token_gradients(wing, first, np.array([slopes[a] for a in range(V)]))
    np.testing.assert_allclose(mean, gradient_of(expected, first), atol=1e-8)


@pytest.mark.parametrize("wing", WINGS, ids=str)
def test_log_probabilities_and_entropy_are_those_of_torch_distributions(wing):
    logits = np.random.default_rng(8).standard_normal((6, 9))
    targets = np.random.default_rng(9).integers(0, 9, 6)
    oracle = torch.distributions.Categorical(logits=torch.tensor(logits) / 0.7)
    found = wing.call("training.token_logprobs", "token_logprobs", logits, targets, 0.7)
    np.testing.assert_allclose(found, oracle.log_prob(torch.tensor(targets)), rtol=1e-13)
    entropy = wing.call("training.token_logprobs", "token_entropy", logits, 0.7)
    np.testing.assert_allclose(entropy, oracle.entropy(), rtol=1e-13)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(0.1, 50))
def test_laws_of_group_advantages(seed, shift, scale):
    """Adding to all rewards of a group changes nothing; multiplying them changes nothing under the deviation, and
    multiplies the others. The order in a group is the order of its advantages."""
    rng = np.random.default_rng(seed)
    rewards = rng.standard_normal((3, 5))
    for wing in WINGS:
        for kind in ("deviation", "mean", "rloo"):

            def advantages(r, kind=kind, wing=wing):
                return wing.call("grpo.advantages", "group_advantages", r, kind, None, 1e-12)

            found = advantages(rewards)
            np.testing.assert_allclose(advantages(rewards + shift), found, atol=1e-9)
            factor = 1.0 if kind == "deviation" else scale
            np.testing.assert_allclose(advantages(scale * rewards), factor * found, rtol=1e-9, atol=1e-9)
            order = rng.permutation(5)
            np.testing.assert_allclose(advantages(rewards[:, order]), found[:, order], atol=1e-12)
            np.testing.assert_allclose(found.sum(1), 0, atol=1e-9)
