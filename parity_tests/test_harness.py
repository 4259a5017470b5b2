"""The harness is code too: it must reject what is wrong, and accept what honest arithmetic does."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from parity_tests import toys
from parity_tests.harness import budget, kernels
from parity_tests.harness.compare import Leaf, Mismatch, compare, compare_exact, same_paths
from parity_tests.harness.declaration import Case
from parity_tests.harness.derivative import complex_step, contract
from parity_tests.harness.examples import uniform_cases
from parity_tests.harness.mutants import Stale, judge_bugs, mutant
from parity_tests.harness.run import Reference, run_numpy, run_torch
from parity_tests.harness.strategies import LAYOUTS, MAGNITUDES, SCALES, fill, laid_out, tensor_laid_out
from parity_tests.toys import BROKEN_VJPS, SQUARE_NORM, toy

FLOAT64, FLOAT32 = budget.PRECISIONS["float64"], budget.PRECISIONS["float32"]


def leaf(values, dtype="float32"):
    return Leaf(np.array(values, dtype=np.float64), dtype)


# -- the comparator -----------------------------------------------------------------------------------------------


def ratio(actual, expected, tolerance, **options):
    return compare("x", leaf(actual), leaf(expected), np.asarray(tolerance), **options).ratio


def test_comparator_accepts_what_is_inside_the_budget():
    assert ratio([1.0, 2.0], [1.0, 2.001], 0.002) == pytest.approx(0.5)
    assert ratio([np.inf, np.nan, 0.0], [np.inf, np.nan, 0.0], 1e-9) == 0


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([np.nan, 1.0], [0.0, 1.0]),
        ([0.0, 1.0], [np.nan, 1.0]),
        ([np.inf], [1.0]),
        ([1.0], [np.inf]),
        ([np.inf], [-np.inf]),
    ],
    ids=["NaN for a number", "number for NaN", "inf for a number", "number for inf", "wrong infinity"],
)
def test_comparator_rejects_other_patterns(actual, expected):
    with pytest.raises(Mismatch):
        ratio(actual, expected, 1e9)


def test_comparator_rejects_one_bad_element_in_a_million():
    expected = np.random.default_rng(0).standard_normal(1_000_000)
    actual = expected.copy()
    actual[765_432] += 1e-3
    worst = compare("x", leaf(actual), leaf(expected), np.asarray(1e-6))
    assert worst.ratio > 100 and "765432" in worst.where


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (leaf(np.ones(3)), leaf(np.ones((3, 1)))),
        (leaf(np.ones((1, 3))), leaf(np.ones(3))),
        (leaf(np.ones(3), "float64"), leaf(np.ones(3), "float32")),
    ],
    ids=["(n,) for (n, 1)", "(1, n) for (n,)", "other format"],
)
def test_comparator_rejects_other_kinds(actual, expected):
    for comparison in (
        lambda: compare("x", actual, expected, np.asarray(1e9)),
        lambda: compare_exact("x", actual, expected),
    ):
        with pytest.raises(Mismatch):
            comparison()


def test_comparator_rejects_zeros_for_tiny_values():
    assert ratio(np.zeros(5), np.full(5, 1e-20), 1e-27) > 1e6


def test_comparator_judges_negative_arrays_like_positive_ones():
    assert ratio([-1.1, -2.0], [-1.0, -2.0], 1e-3) == ratio([1.1, 2.0], [1.0, 2.0], 1e-3) > 1


def test_comparator_rejects_an_array_compared_with_itself():
    values = np.ones(3)
    with pytest.raises(Mismatch, match="share memory"):
        compare("x", Leaf(values, "float32"), Leaf(values[:], "float32"), np.asarray(1.0))


def test_comparator_takes_a_missing_budget_for_none():
    assert ratio([1.0, 2.0], [1.0, 2.5], np.nan) == np.inf
    assert ratio([1.0], [1.5], 0.0) == np.inf


def test_comparator_lets_what_is_too_large_overflow():
    assert ratio([np.inf], [70000.0], 1.0, largest=65504.0) == 0
    with pytest.raises(Mismatch):
        ratio([np.inf], [60000.0], 1.0, largest=65504.0)
    with pytest.raises(Mismatch):
        ratio([-np.inf], [70000.0], 1.0, largest=65504.0)


def test_exact_comparison_sees_the_last_bit_and_the_sign_of_zero():
    compare_exact("x", leaf([1.0, np.nan]), leaf([1.0, np.nan]))
    for actual, expected in ((np.nextafter(1.0, 2.0), 1.0), (-0.0, 0.0)):
        with pytest.raises(Mismatch):
            compare_exact("x", leaf([actual]), leaf([expected]))
    with pytest.raises(Mismatch):
        compare_exact("x", Leaf(np.array([1, 2]), "int64"), Leaf(np.array([1, 3]), "int64"))


def test_parts_of_a_result_may_not_be_missing():
    with pytest.raises(Mismatch, match="missing"):
        same_paths({"value": 1}, {"value": 1, "dx": 2})


# -- the budget ---------------------------------------------------------------------------------------------------


def noisy(values, precision=FLOAT32, seed=0):
    kind = budget.noisy(precision, np.random.default_rng(seed))
    return np.array(values, dtype=np.float64).view(kind)


OPERATIONS = {
    "product": lambda x: x * x,
    "quotient": lambda x: x / 3.0,
    "exp": np.exp,
    "matmul": lambda x: x @ x.T,
    "sum": lambda x: np.sum(x, axis=-1),
    "sum method": lambda x: x.sum(0),
    "mean": lambda x: np.mean(x, axis=0, keepdims=True),
    "mean method": lambda x: x.mean(-1),
    "cumsum": lambda x: np.cumsum(x, axis=-1),
    "add.reduce": lambda x: np.add.reduce(x, axis=0),
    "in place": lambda x: _in_place(x),
    "add.at": lambda x: _add_at(x),
}


def _in_place(x):
    y = x + 0.0
    y *= 1.5
    return y


def _add_at(x):
    y = np.zeros_like(x)
    np.add.at(y, np.zeros(len(x), int), x)
    return y


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_rounded_once(name):
    """Different runs differ, stay within a few roundoffs of the exact result, and keep rounding what follows."""
    x = np.random.default_rng(1).uniform(1, 2, (6, 6))
    exact = OPERATIONS[name](x)
    runs = [OPERATIONS[name](noisy(x, seed=seed)) for seed in range(20)]
    assert all(isinstance(run, budget.Noisy) for run in runs)
    apart = np.abs(np.stack([np.asarray(budget.plain(run)) for run in runs]) - exact) / np.maximum(np.abs(exact), 1e-30)
    assert 0 < apart.max() < 40 * FLOAT32.store
    assert apart.max() > 0.2 * FLOAT32.store


def test_moving_values_is_exact():
    x = np.random.default_rng(2).standard_normal((3, 4))
    moves = (
        lambda x: np.concatenate((x, x)), lambda x: np.stack((x, -x)), lambda x: np.where(x > 0, x, 0.0),
        lambda x: np.max(x, axis=0), lambda x: np.take_along_axis(x, np.argsort(x, -1), -1), lambda x: x.T[1:],
        lambda x: x.reshape(-1)[::-1],
        lambda x: np.maximum(x, 0.0), lambda x: np.broadcast_to(x, (2, 3, 4)), lambda x: np.swapaxes(x, 0, 1),
    )  # fmt: skip
    for move in moves:
        result = move(noisy(x))
        assert isinstance(result, budget.Noisy) and np.array_equal(budget.plain(result), move(x))


def test_zeros_and_infinities_stay():
    x = noisy([0.0, np.inf, -np.inf, np.nan, 1.0])
    result = budget.plain(x * 2.0)
    assert result[0] == 0 and result[1] == np.inf and result[2] == -np.inf and np.isnan(result[3])


def test_a_function_without_a_model_is_refused():
    with pytest.raises(TypeError, match="no rounding model for np.var"):
        np.var(noisy([1.0, 2.0]))


def test_sums_that_cancel_get_a_budget_of_their_terms():
    x = np.array([1e6, 1.0, -1e6])
    apart = max(abs(float(budget.plain(np.sum(noisy(x, seed=seed)))) - 1.0) for seed in range(50))
    assert 0.2 * 2e6 * FLOAT32.store < apart < 4 * 2e6 * FLOAT32.store


def test_tolerance_goes_by_rows_unless_told_otherwise():
    spread, exact = np.array([[0.0, 1e-3], [0.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    rows = budget.tolerance(spread, exact, FLOAT64, FLOAT64)
    single = budget.tolerance(spread, exact, FLOAT64, FLOAT64, elementwise=True)
    assert rows.shape == (2, 1) and rows[0, 0] == pytest.approx(4e-3) and rows[1, 0] == FLOAT64.tiny
    assert single.shape == (2, 2) and single[0, 0] < 1e-14 < single[0, 1]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_honest_arithmetic_stays_inside_and_a_small_error_does_not(dtype):
    for case in uniform_cases(SQUARE_NORM, dtype, 40):
        reference, result = Reference(SQUARE_NORM, case, dtype), run_torch(SQUARE_NORM, case, dtype)
        assert reference.judge(result).ratio <= 1
        unit = budget.PRECISIONS[dtype].store
        wrong = result | {"value": Leaf(result["value"].values * (1 + 64 * unit), dtype)}
        if np.abs(result["value"].values).max() > 1e-3:
            assert reference.judge(wrong).ratio > 1


def test_kernel_errors_are_added_inside_and_taken_away_again():
    inner = toy("inner", kernel_error=lambda a, dy, unit: {"value": np.full(a["x"].shape[:-1], 1e6)})
    case = Case({"x": np.ones((3, 4)), "weight": np.ones(1)})
    plain, fused = toy("outer", toys.twice), toy("outer", toys.twice, kernels=(inner,))
    wide = Reference(fused, case, "float32").tolerance["value"]
    assert (wide > 1e4 * Reference(plain, case, "float32").tolerance["value"]).all()
    assert (wide > 1e4 * Reference(fused, case, "float32", "numpy").tolerance["value"]).all(), (
        "NumPy has no fused kernels"
    )
    original = toys.square_norm
    with kernels.injected((inner,), "float32", np.random.default_rng(0)):
        assert toys.square_norm is not original
    assert toys.square_norm is original


# -- derivative and contract --------------------------------------------------------------------------------------


def test_right_vjps_pass():
    for case in uniform_cases(SQUARE_NORM, "float64", 20):
        assert complex_step(SQUARE_NORM, case).ratio <= 1
        contract(SQUARE_NORM, case)


@pytest.mark.parametrize("name", BROKEN_VJPS)
def test_broken_vjps_are_noticed(name):
    component, found = BROKEN_VJPS[name], 0
    for case in uniform_cases(component, "float64", 20):
        try:
            contract(component, case)
            found += not complex_step(component, case).ratio <= 1
        except Mismatch:
            found += 1
    assert found, f"a vjp with the defect {name!r} passed complex step and contract"


# -- strategies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_keep_values_and_change_strides(layout):
    array = np.random.default_rng(0).standard_normal((4, 6))
    if layout == "expanded":
        array = np.broadcast_to(array[:1], array.shape).copy()
    numpy_view, tensor = laid_out(array, layout), tensor_laid_out(torch.from_numpy(array), layout)
    assert np.array_equal(numpy_view, array) and np.array_equal(tensor.numpy(), array)
    steps = tuple(stride // 8 for stride in numpy_view.strides)
    wanted = {"contiguous": (6, 1), "transposed": (1, 4), "sliced": (13, 2), "reversed": (6, -1), "expanded": (0, 1)}[
        layout
    ]
    assert steps == wanted
    if layout in ("transposed", "sliced", "expanded"):
        assert tensor.stride() == wanted


def test_gaps_between_slices_hold_nan():
    view = laid_out(np.ones((2, 3)), "sliced")
    assert np.isnan(view.base).sum() == view.base.size - view.size


@pytest.mark.parametrize("dtype", SCALES)
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_magnitudes_are_what_they_say(magnitude, dtype):
    values = fill(np.random.default_rng(3), (50, 40), magnitude, dtype)
    assert np.isfinite(values).all() and np.abs(values).max() < budget.PRECISIONS[dtype].largest
    distinct = len(np.unique(values))
    assert distinct == {"zero": 1, "constant": 50}.get(magnitude, distinct)
    if magnitude not in ("zero", "constant", "ties"):
        assert distinct > 1900
    if magnitude == "offset":
        assert abs(values.mean()) > 20 * values.std()


def test_half_of_the_cases_are_drawn_evenly():
    """In 60 cases every magnitude and every layout comes up, which Hypothesis alone does not promise."""
    cases = uniform_cases(SQUARE_NORM, "float64", 60)
    assert {"one", "tiny", "zero", "heavy", "ties", "strided", "expanded"} <= set().union(
        *(case.events for case in cases)
    )
    assert len({case.seed for case in cases}) == 60


# -- planted bugs -------------------------------------------------------------------------------------------------


def test_planted_bugs_are_judged():
    verdicts = {verdict.bug: verdict for verdict in judge_bugs(SQUARE_NORM, 20)}
    assert verdicts["sum for mean"].caught and verdicts["sum for mean"].margin > 1000
    assert not verdicts["no change at all"].caught
    assert not verdicts["cannot run"].caught, "a mutant that only crashes proves nothing"
    assert verdicts["wrong gradient in Torch"].caught


def test_a_bug_that_no_longer_fits_is_reported():
    for changes in ({"old": "text that is not there"}, {"count": 2}, {"function": "no_such_function"}):
        with pytest.raises(Stale):
            mutant(SQUARE_NORM, replace(SQUARE_NORM.bugs[0], **changes))


def test_mutants_leave_the_original_alone():
    case = uniform_cases(SQUARE_NORM, "float32", 5)[4]
    before = run_numpy(SQUARE_NORM, case, "float32")
    changed = mutant(SQUARE_NORM, SQUARE_NORM.bugs[0])
    assert changed is not SQUARE_NORM.numpy
    after = run_numpy(SQUARE_NORM, case, "float32")
    assert all(np.array_equal(before[path].values, after[path].values) for path in before)


# -- profiles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], "50 True"),
        (["--hypothesis-profile", "nightly"], "2000 False"),
        (["--hypothesis-profile", "mutate"], "100 True"),
    ],
    ids=["CI", "nightly in CI", "mutate in CI"],
)
def test_profiles_are_ours_where_ci_is_set(tmp_path, options, wanted):
    """Hypothesis loads a "ci" profile of its own where $CI is set; nightly runs would then never see new examples."""
    folder = os.path.dirname(__file__)
    (tmp_path / "conftest.py").write_text(open(os.path.join(folder, "conftest.py")).read())
    (tmp_path / "test_profile.py").write_text(
        "from hypothesis import settings\n"
        "def test_it():\n    print('profile', settings.default.max_examples, settings.default.derandomize)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CI": "true"}, cwd=tmp_path)
    assert f"profile {wanted}" in done.stdout, done.stdout + done.stderr
