"""What a mixture of experts costs, which settings it takes, and what is refused in one line."""

import dataclasses

import numpy as np
import pytest

from numpy_ref import checkpoint_file
from numpy_ref.config import TrainConfig, active_parameter_count, from_json, parameter_count, to_json
from numpy_ref.errors import UserError
from numpy_ref.inspect import flops_forward
from parity_tests.test_moe import MODEL, TRAIN, both
from parity_tests.trained import SMALL, run
from parity_tests.wings import WINGS


def test_active_parameters_are_those_of_the_equal_dense_model():
    """Two of eight experts of width 8, and a shared one: what a token meets is a dense layer of 24, and a router."""
    sparse = dataclasses.replace(MODEL, experts=8, expert_width=8, feed_forward_bias=False, dense_layers=0)
    dense = dataclasses.replace(MODEL, experts=0, shared_experts=0, dense_layers=0, feed_forward=24, feed_forward_bias=False)
    routers = 3 * 8 * 8
    assert active_parameter_count(sparse) == parameter_count(dense) + routers < parameter_count(sparse)
    assert active_parameter_count(dense) == parameter_count(dense)
    assert flops_forward(sparse) == flops_forward(dense) + 2 * routers


WRONG = {
    "more experts a token than there are": ({"experts_per_token": 5}, "experts_per_token=5 is more than experts=4"),
    "no experts a token": ({"experts_per_token": 0}, "experts_per_token=0"),
    "all layers dense": ({"dense_layers": 3}, "leave none of the 3 layers"),
    "a layer that does not exist": ({"dense_layers": 9}, "leave none of the 3 layers"),
    "every fourth of three layers": ({"moe_every": 4}, "leave none of the 3 layers"),
    "groups that do not divide": ({"expert_groups": 3}, "expert_groups=3 groups; take a divisor of 4"),
    "more groups a token than groups": ({"groups_per_token": 2}, "groups_per_token=2 of expert_groups=1"),
    "groups too small": ({"expert_groups": 4}, "fewer than experts_per_token=2"),
    "a scoring that is none": ({"scoring": "tanh"}, "one of softmax, sigmoid"),
    "a gate that is none": ({"gate": "none"}, "one of renormalised, raw, chosen"),
    "experts of nothing": ({"experts": 0}, "means nothing without experts"),
    "scale 0": ({"router_scale": 0.0}, "router_scale=0.0"),
}


@pytest.mark.parametrize("changes, words", WRONG.values(), ids=WRONG)
def test_what_can_not_be_is_one_line(changes, words):
    with pytest.raises(UserError, match=words) as error:
        dataclasses.replace(MODEL, **changes)
    assert "\n" not in str(error.value)


@both
@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_capacity_factors_are_above_zero(wing, factor):
    with pytest.raises(UserError, match="capacity factor"):
        wing.module("model.balance").expert_capacity(8, 4, 2, factor)
    with pytest.raises(UserError, match="capacity_factor=.* a finite number above 0, or none for no limit"):
        dataclasses.replace(TRAIN, capacity_factor=factor)


def test_no_limit_has_a_name(tmp_path, capsys):
    """None in Python, ``none`` on the command line, null in a file; files of before say 0."""
    assert TrainConfig().capacity_factor is None
    for text, factor in (("0.0", None), ("0", None), ("null", None), ("2", 2.0), ("1.25", 1.25)):
        found = from_json(TrainConfig, f'{{"capacity_factor": {text}}}')
        assert found.capacity_factor == factor and from_json(TrainConfig, to_json(found)) == found
    for text in ("-1.0", "false", '"none"', "[]"):
        with pytest.raises(UserError, match="capacity_factor="):
            from_json(TrainConfig, f'{{"capacity_factor": {text}}}')
    argv = ["train", "--out", tmp_path / "new", "--data", "samples", *SMALL, "--experts", 4, "--capacity-factor"]
    for word, said in (("0", "capacity_factor=0.0"), ("-1", "capacity_factor=-1.0"), ("nan", "capacity_factor=nan"), ("x", "'x' is not allowed")):
        assert run(WINGS[0], *argv, word) == 2
        error = capsys.readouterr().err
        assert said in error and "none" in error and error.count("\n") == 1
    assert run(WINGS[0], *argv, 0.5, "--steps", 1) == 0
    assert run(WINGS[0], "train", "--resume", "--out", tmp_path / "new", "--steps", 2, "--capacity-factor", "none") == 0
    arrays, header = checkpoint_file.read(tmp_path / "new")
    assert header["train"]["capacity_factor"] is None
    header["train"]["capacity_factor"] = 0.0
    checkpoint_file.write(tmp_path / "new" / checkpoint_file.NAME, arrays, header)
    for wing in WINGS:
        assert wing.module("training.checkpoint").load(tmp_path / "new").train_config.capacity_factor is None


@both
def test_routers_that_diverged_are_one_line(wing):
    router = wing.module("model.router")
    for broken in (np.nan, np.inf):
        with pytest.raises(UserError, match="router"):
            router.top_experts(wing.array(np.array([[0.0, broken, 1.0]])), 2)
    for k in (0, 4):
        with pytest.raises(UserError, match="experts"):
            router.top_experts(wing.array(np.zeros((2, 3))), k)
    with pytest.raises(UserError, match="groups"):
        router.limit_groups(wing.array(np.zeros((2, 6))), 4, 1)
    with pytest.raises(UserError, match="capacity"):
        router.expert_choice(wing.array(np.zeros((2, 6))), 3)
    with pytest.raises(UserError, match="policy"):
        wing.module("model.balance").drop_overflow(*wing.array((np.zeros((1, 2, 1), int), np.zeros((1, 2, 1)))), 1, "luck")
