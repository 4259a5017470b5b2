"""Experts on two processes that talk by gloo are the experts of one: outputs and every gradient."""

import numpy as np
import pytest
import torch

from numpy_ref.errors import UserError
from parity_tests.components.moe import expert_parameters
from parity_tests.test_distributed import ended, started
from torch_impl.model.expert_parallel import own_experts


def test_two_processes_share_the_experts():
    """Also without tokens, without work, with empty slots; a backward pass that does not travel is noticed."""
    with started(2, "parity_tests.expert_processes") as children:
        results = ended(children)
        assert all(status == 0 for status, _ in results), "\n".join(said[-3000:] for _, said in results)


def test_experts_that_do_not_divide_are_refused():
    params = {name: torch.from_numpy(value) for name, value in expert_parameters(np.random.default_rng(0), 4, 8, 12).items()}
    assert len(own_experts(params, 1, 2)["up.weight"]) == 2
    with pytest.raises(UserError, match="4 experts can't be shared by 3 processes"):
        own_experts(params, 0, 3)
