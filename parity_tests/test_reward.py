"""Reward models and DPO as wholes: runs that agree, parts that equal the whole, padding that nobody sees, learning."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from numpy_ref import log
from numpy_ref.config import ModelConfig, TrainConfig, parameter_shapes
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.errors import UserError
from numpy_ref.reward.dataset import Comparison, Comparisons, encoded
from numpy_ref.reward.preferences import Preference, graded
from numpy_ref.reward.settings import DPOConfig, RewardConfig
from numpy_ref.tasks.builtin import find
from numpy_ref.tokenizers.byte import encode
from parity_tests.test_properties import random_params
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)
CHAT = ChatFormat(256)
MODEL = ModelConfig(vocab_size=260, context=40, layers=2, width=16, heads=2, feed_forward=32, dropout=0.1)
REWARD = dataclasses.replace(MODEL, output="reward", dropout=0.0)
TRAIN = TrainConfig(steps=10, batch=8, lr=3e-3, warmup=2, eval_every=5, save_every=5, dtype="float64", device="cpu")


def comparisons(side="train", count=24, **more):
    return encoded(graded(find("sort-4"), side, count, **more), CHAT, encode, MODEL.context, pairs=more.get("answers", 2) == 2)


def dataset(count=24, **more):
    return Comparisons(comparisons(count=count, **more), comparisons("held_out", 10, **more))


def base(wing, model=MODEL, seed=0):
    params = wing.module("model.initialise").initialise(model, seed, wing.float64)
    return wing_run(wing, model, params)


def wing_run(wing, model, params):
    from numpy_ref.checkpoint_file import Run

    return Run(model, TRAIN, params, {name: {} for name in params})


def train(wing, kind, settings, data, out, train_config=TRAIN, **more):
    function = getattr(wing.module(f"{kind}.loop"), f"train_{kind}")
    return function(base(wing), train_config, settings, data, out, **more)


KINDS = {
    "bradley_terry": ("reward", RewardConfig(margin_scale=0.5, centring=0.01), {"ties": 0.3, "margins": True}),
    "margin_ranking": ("reward", RewardConfig(loss="margin_ranking"), {"ties": 0.3}),
    "plackett_luce": ("reward", RewardConfig(loss="plackett_luce"), {"answers": 3}),
    "dpo": ("dpo", DPOConfig(), {"ties": 0.3}),
    "ipo": ("dpo", DPOConfig(loss="ipo"), {}),
}
kinds = pytest.mark.parametrize("kind, settings, more", KINDS.values(), ids=KINDS)


@kinds
def test_ten_steps_are_the_same_on_both_sides(tmp_path, kind, settings, more):
    """``reward_step`` and ``dpo_step`` ten times in float64, to 1e-9: weights, and everything that the log says."""
    data = dataset(**more)
    config = dataclasses.replace(TRAIN, label_smoothing=0.1 if kind == "dpo" else 0.0, accumulate=2)
    runs = [train(wing, kind, settings, data, tmp_path / str(wing), config) for wing in WINGS]
    one, other = (plain(run.params) for run in runs)
    assert list(one) == list(other)
    assert max(np.abs(one[name] - other[name]).max() for name in one) < 1e-9
    rows = [log.read_rows(tmp_path / str(wing) / log.NAME) for wing in WINGS]
    assert len(rows[0]) == len(rows[1]) == 10
    for ours, theirs in zip(*rows):
        assert list(ours) == list(theirs)
        same = [name for name in ours if name not in ("time", "tokens_per_second")]
        assert all(abs((ours[name] or 0) - (theirs[name] or 0)) < 1e-9 for name in same)
    assert {"accuracy", "lead", "reward", "val_loss", "val_accuracy"} <= set(rows[0][-1])


@kinds
@pytest.mark.parametrize("first, second", [WINGS, WINGS[::-1]], ids=["numpy_then_torch", "torch_then_numpy"])
def test_a_run_goes_on_where_it_stopped(tmp_path, kind, settings, more, first, second):
    data = dataset(**more)
    whole = train(first, kind, settings, data, tmp_path / "whole")
    train(first, kind, settings, data, tmp_path / "parts", stop_after=5)
    if kind == "reward":  # a resumed run takes the model that its folder holds
        ended = second.module("reward.loop").train_reward(
            wing_run(second, REWARD, {}), TRAIN, settings, data, tmp_path / "parts", resume=True
        )
    else:
        ended = train(second, kind, settings, data, tmp_path / "parts", resume=True)
    assert ended.step == 10 and ended.position == whole.position
    one, other = plain(whole.params), plain(ended.params)
    assert max(np.abs(one[name] - other[name]).max() for name in one) < 1e-9


@both
@kinds
def test_micro_batches_equal_the_batch(wing, kind, settings, more):
    """Of ``reward_loss_and_grads`` and ``dpo_loss_and_grads``: ``comparison_scores`` and ``pair_logprobs`` pad each part by
    itself, and the parts divide by the size of the whole."""
    few = comparisons(count=8, **more)
    found = [loss_and_grads(wing, kind, few, settings, accumulate) for accumulate in (1, 2, 8)]
    for loss, grads, metrics in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-12)
        assert metrics == pytest.approx(found[0][2], rel=1e-12, nan_ok=True)
        for name, grad in grads.items():
            assert np.abs(grad - found[0][1][name]).max() < 1e-12
    with pytest.raises(UserError, match="3"):
        loss_and_grads(wing, kind, few, settings, 3)


def loss_and_grads(wing, kind, few, settings, accumulate=1, **more):
    config = TrainConfig(batch=24, accumulate=accumulate, dtype="float64", device="cpu", **more)
    model = REWARD if kind == "reward" else dataclasses.replace(MODEL, dropout=0.0)
    params = wing.array(random_params(model))
    reference = [wing.array(np.arange(2.0 * len(few)).reshape(-1, 2) / 7 - 20)] if kind == "dpo" else []
    function = getattr(wing.module(f"{kind}.step"), f"{kind}_loss_and_grads")
    loss, grads, metrics = function(params, few, *reference, model, config, settings)
    return float(loss), plain(grads), {name: float(value) for name, value in metrics.items()}


@both
def test_the_side_of_the_padding_changes_nothing(wing):
    """Texts alone, padded on the right, on the left, and after one another in a row: the same reward to the last digits."""
    texts = [one.texts[i] for one in comparisons(count=3) for i in (0, 1)] + [np.array([0]), np.array([5, 0, 0])]
    params = wing.array(random_params(REWARD))
    alone = [float(rewards(wing, [text], params)[0]) for text in texts]
    for left in (False, True):
        assert rewards(wing, texts, params, left) == pytest.approx(alone, rel=1e-12, abs=1e-12)
    assert plain(wing.module("reward.evaluation").judge(params, texts, REWARD, 3)) == pytest.approx(alone, rel=1e-12, abs=1e-12)
    row = np.concatenate(texts[-3:])[None]
    documents = np.repeat(np.arange(3), [len(text) for text in texts[-3:]])[None]
    ends = np.stack((np.zeros(3, int), np.cumsum([len(text) for text in texts[-3:]]) - 1), axis=1)
    packed = wing.call("reward.model", "reward_model", row, ends, plain(params), REWARD, documents)
    assert packed == pytest.approx(alone[-3:], rel=1e-12, abs=1e-12)


def rewards(wing, texts, params, left=False):
    tokens, documents, ends = wing.module("reward.rows").padded(texts, left)
    found = wing.module("reward.model").reward_model(tokens, ends, params, REWARD, documents)
    return plain(found[0] if isinstance(found, tuple) else found)


@both
def test_what_comes_after_the_end_is_not_read(wing):
    """Perturb everything that is no token of the text: bit for bit the same rewards."""
    params = wing.array(random_params(REWARD))
    tokens, documents, ends = wing.module("reward.rows").padded([np.arange(5), np.arange(9)])
    other = tokens + 0
    other[0, 5:] = 77
    pair = [wing.module("reward.model").reward_model(given, ends, params, REWARD, documents) for given in (tokens, other)]
    one, two = (plain(found[0] if isinstance(found, tuple) else found) for found in pair)
    assert one.tobytes() == two.tobytes()


@both
def test_a_reward_model_is_no_language_model(wing):
    """And begins as one: the trunk is untouched, the head is new."""
    params = wing.array(random_params(MODEL))
    started = wing.module("reward.model").with_reward_head(params, REWARD, 0)
    assert set(started) == set(parameter_shapes(REWARD)) and "output.weight" not in started
    assert all(started[name] is params[name] for name in started if name in params)
    with pytest.raises(UserError, match="reward model"):
        wing.call("model.transformer", "transformer", np.zeros((1, 3), int), plain(started), REWARD)


@both
def test_a_policy_begins_as_its_reference(wing, tmp_path):
    """After one ``dpo_step``, which is ``dpo_loss_and_grads`` applied: DPO's first loss is ln 2, IPO's 1 / (2 beta)^2, and no pair is preferred."""
    for settings, wanted in ((DPOConfig(), math.log(2)), (DPOConfig(loss="ipo", beta=0.5), 1.0)):
        train(wing, "dpo", settings, dataset(), tmp_path / settings.loss, stop_after=1)
        row = log.read_rows(tmp_path / settings.loss / log.NAME)[0]
        assert row["loss"] == pytest.approx(wanted, rel=1e-12) and row["lead"] == 0 and row["accuracy"] == 0.5


@both
def test_dpo_raises_what_is_chosen_against_what_is_not(wing, tmp_path):
    """On the pairs themselves, within ten steps; the frozen reference stays as it was."""
    run_base = base(wing)
    before = {name: plain(value).copy() for name, value in run_base.params.items()}
    data = dataset(count=8)
    wing.module("dpo.loop").train_dpo(run_base, dataclasses.replace(TRAIN, lr=1e-2), DPOConfig(), data, tmp_path)
    rows = log.read_rows(tmp_path / log.NAME)
    assert rows[-1]["lead"] > 0 and rows[-1]["loss"] < rows[0]["loss"]
    assert all(np.array_equal(plain(value), before[name]) for name, value in run_base.params.items())


@both
@pytest.mark.parametrize("chunk", [1, 7])
def test_an_answer_has_the_product_of_its_tokens_probabilities(wing, chunk):
    """ln p of every possible answer of two tokens sums to ln 1; and in chunks it is the same."""
    model = ModelConfig(vocab_size=5, context=6, layers=1, width=8, heads=2, feed_forward=8)
    params = random_params(model)
    answers = np.array([[a, b] for a in range(5) for b in range(5)])
    tokens = np.concatenate((np.tile([3, 1], (25, 1)), answers), axis=1)
    ends, starts = np.stack((np.arange(25), np.full(25, 3)), axis=1), np.full(25, 2)
    targets = wing.call("dpo.logprobs", "answer_targets", tokens, ends, starts)
    assert (targets[:, :1] == -100).all() and (targets[:, 1:] == answers).all()
    found = wing.call("dpo.logprobs", "sequence_logprobs", tokens[:, :-1], targets, params, model)
    assert np.exp(found).sum() == pytest.approx(1, rel=1e-12)
    parts = wing.call("dpo.logprobs", "sequence_logprobs", tokens[:, :-1], targets, params, model, chunk=chunk)
    assert parts == pytest.approx(found, rel=1e-12)


@both
def test_a_reward_model_learns_to_tell_right_from_wrong(wing, tmp_path):
    """A rule that a small model gets: answers that begin with the greater byte are better."""
    rng = np.random.default_rng(0)

    def pair():
        low, high = sorted(rng.choice(20, 2, replace=False))
        tail = rng.integers(0, 20, rng.integers(1, 4))
        return Comparison((np.array([9, high, *tail]), np.array([9, low, *tail])), (1, 1))

    data = Comparisons([pair() for _ in range(200)], [pair() for _ in range(40)])
    model = ModelConfig(vocab_size=20, context=8, layers=1, width=16, heads=2, feed_forward=32)
    config = dataclasses.replace(TRAIN, steps=60, batch=16, lr=1e-2, dtype="float32", eval_every=0)
    params = wing.module("model.initialise").initialise(model, 0, wing.float32)
    wing.module("reward.loop").train_reward(wing_run(wing, model, params), config, RewardConfig(), data, tmp_path)
    last = log.read_rows(tmp_path / log.NAME)[-1]
    assert last["val_accuracy"] >= 0.85 and last["val_loss"] < 0.45  # measured 1.0 on both sides, of a pinned draw


def test_answers_that_do_not_fit_are_named():
    one = Preference("p" * 20, ("a" * 3, "b" * 30), place="'x.jsonl', line 7")
    with pytest.raises(UserError) as error:
        encoded([one], CHAT, encode, MODEL.context)
    assert str(error.value).startswith("'x.jsonl', line 7: prompt and rejected make 54 tokens, more than the model's context of 40")
    with pytest.raises(UserError, match="3 answers are ranked, and this loss compares two"):
        encoded([Preference("p", ("a", "b", "c"))], CHAT, encode, MODEL.context)
    [found] = encoded([Preference("p", ("a", "bc"), margin=0.5)], CHAT, encode, MODEL.context)
    assert found.texts[1].tolist() == [257, ord("p"), 259, 258, ord("b"), ord("c"), 259] and found.answers == (4, 4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_steps_are_near_those_of_float32(dtype):
    """Rewards are read in float32 on both wings, and what float16 scales is scaled back."""
    few = comparisons(count=8)
    found = {}
    for wing in WINGS:
        for kind in ("float32", dtype):
            config = TrainConfig(batch=8, dtype=kind, device="cpu")
            params = wing.array({name: value.astype(np.float32) for name, value in random_params(REWARD).items()})
            loss, grads, _ = wing.module("reward.step").reward_loss_and_grads(
                params, few, REWARD, config, RewardConfig(), 2.0**10 if kind == "float16" else 1.0
            )
            found[str(wing), kind] = float(loss), plain(grads)
            assert all(grad.dtype == np.float32 for grad in plain(grads).values())
    for (wing, kind), (loss, grads) in found.items():
        exact_loss, exact = found["numpy_ref", "float32"]
        assert loss == pytest.approx(exact_loss, rel=0.1)
        scale = max(np.abs(grad).max() for grad in exact.values())
        assert max(np.abs(grad - exact[name]).max() for name, grad in grads.items()) < 0.2 * scale, (wing, kind)


def test_resumed_runs_refuse_another_model(tmp_path):
    for wing in WINGS:
        train(wing, "reward", RewardConfig(), dataset(), tmp_path / str(wing), stop_after=1)
        with pytest.raises(UserError, match="of another model"):
            wing.module("training.loop").resumed(MODEL, TRAIN, tmp_path / str(wing))


@both
def test_held_out_metrics_are_those_of_one_batch(wing):
    """``evaluate_comparisons`` and ``evaluate_pairs`` in batches of 3 and of all: the same numbers."""
    few = comparisons(count=10, ties=0.3)
    reward = wing.array(random_params(REWARD))
    ask = wing.module("reward.evaluation").evaluate_comparisons
    found = [ask(reward, few, REWARD, RewardConfig(), size) for size in (3, 10)]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    model = dataclasses.replace(MODEL, dropout=0.0)
    policy = wing.array(random_params(model))

    def reference(pairs):
        return wing.array(np.full((len(pairs), 2), -20.0))

    ask = wing.module("dpo.loop").evaluate_pairs
    found = [ask(policy, few, reference, model, dataclasses.replace(TRAIN, batch=size), DPOConfig()) for size in (3, 10)]
    assert found[0] == pytest.approx(found[1], rel=1e-12)


@both
def test_a_batch_is_cut_only_where_it_can_be(wing):
    """``accumulated`` adds up shares; every loop of preferences goes through it."""
    with pytest.raises(UserError, match="divi"):
        wing.module("training.accumulation").accumulated(
            wing.array(random_params(REWARD)), 8, None, REWARD, TrainConfig(batch=9, accumulate=3)
        )


def test_torch_is_only_asked_for_tensors():
    """NumPy arrays go in, on the device of the parameters."""
    params = {name: torch.from_numpy(value) for name, value in random_params(REWARD).items()}
    found = WINGS[1].module("reward.evaluation").judge(params, [np.arange(3)], REWARD)
    assert torch.is_tensor(found) and found.shape == (1,)
