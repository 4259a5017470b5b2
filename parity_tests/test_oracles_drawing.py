"""Outside oracles of what is drawn: published random numbers, their moments, and sampling worked out by hand."""

import math

import numpy as np
import pytest
import torch

import numpy_ref.inference.sampling as numpy_sampling
import numpy_ref.rng as numpy_rng
import torch_impl.inference.sampling as torch_sampling
import torch_impl.rng as torch_rng
from parity_tests.test_oracles import close

PHILOX = [  # Random123's known answers for philox4x32-10: counter, key, words
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize("counter, key, words", PHILOX)
def test_philox_known_answers(counter, key, words):
    assert numpy_rng.philox(np.array(counter, np.uint32), np.array(key, np.uint32)).tolist() == words
    assert torch_rng.philox(torch.tensor(counter), torch.tensor(key)).tolist() == words


@pytest.mark.parametrize("wing", [numpy_rng, torch_rng])
@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 1000])
def test_permuted_visits_everything_once(wing, size):
    index = np.arange(size) if wing is numpy_rng else torch.arange(size)
    visited = np.asarray(wing.permuted(index, size, 5, 9))
    np.testing.assert_array_equal(np.sort(visited), np.arange(size))
    if size == 1000:
        assert (visited != np.arange(size)).mean() > 0.9
        assert abs(np.corrcoef(visited, np.arange(size))[0, 1]) < 0.1


@pytest.mark.parametrize("wing", [numpy_rng, torch_rng])
def test_uniform_and_normal_have_their_moments(wing):
    """200,000 draws: mean and variance within five standard errors; neighbours uncorrelated."""
    n = 200_000
    u = np.asarray(wing.uniform(1, 2, (n,)))
    assert 0 <= u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n) and abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    z = np.asarray(wing.normal(1, 2, (n,)))
    assert abs(z.mean()) < 5 / math.sqrt(n) and abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n) and abs((z[1:] * z[:-1]).mean()) < 5 / math.sqrt(n)


SAMPLING = [  # probabilities (dyadic: exact in floating point), options, what remains before renormalising
    ([8, 4, 2, 2], {}, [8, 4, 2, 2]),
    ([8, 4, 2, 2], {"top_k": 1}, [8, 0, 0, 0]),
    ([8, 4, 2, 2], {"top_k": 3}, [8, 4, 2, 0]),  # a tie at k: the lower id stays
    ([8, 4, 2, 2], {"top_k": 9}, [8, 4, 2, 2]),
    ([8, 4, 2, 2], {"top_p": 0.5}, [8, 0, 0, 0]),  # the mass reaches p exactly: nothing more is needed
    ([8, 4, 2, 2], {"top_p": 0.51}, [8, 4, 0, 0]),  # the crossing token stays
    ([8, 4, 2, 2], {"top_p": 0.76}, [8, 4, 2, 0]),
    ([8, 4, 2, 2], {"top_p": 1.0}, [8, 4, 2, 2]),
    ([2, 2, 4, 8], {"top_p": 0.76}, [2, 0, 4, 8]),  # by probability, not by position; ties: the lower id first
    ([8, 4, 2, 2], {"min_p": 0.5}, [8, 4, 0, 0]),  # at least, not more than
    ([8, 4, 2, 2], {"min_p": 1.0}, [8, 0, 0, 0]),
    ([8, 4, 2, 2], {"top_k": 2, "top_p": 0.6}, [8, 0, 0, 0]),  # top-p sees 2/3 and 1/3
]


@pytest.mark.parametrize("masses, options, kept", SAMPLING)
def test_sampling_filters_by_hand(masses, options, kept):
    """log2 of the masses as logits at temperature 1/ln 2 ... that is softmax of ln(mass): the masses again."""
    logits, expected = np.log(np.array(masses, np.float64)), np.array(kept, np.float64) / sum(kept)
    close(numpy_sampling.probabilities(logits, **options), expected, 1e-15)
    close(torch_sampling.probabilities(torch.tensor(logits), **options), expected, 1e-15)


@pytest.mark.parametrize("uniform, token", [(0.0, 1), (0.249, 1), (0.25, 3), (0.999999, 3)])
def test_sample_inverts_the_cumulative_mass(uniform, token):
    masses = np.array([0.0, 0.25, 0.0, 0.75, 0.0])
    assert int(numpy_sampling.sample(masses, np.float64(uniform))) == token
    assert int(torch_sampling.sample(torch.tensor(masses), torch.tensor(uniform, dtype=torch.float64))) == token
