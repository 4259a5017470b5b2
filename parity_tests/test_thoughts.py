"""Units of thought beyond the agreement of both sides: keys and values kept or recomputed, no future, training, search."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numpy_ref import log
from numpy_ref.config import ModelConfig, TrainConfig, parameter_shapes
from numpy_ref.errors import UserError
from numpy_ref.rng import STREAM_THOUGHTS
from numpy_ref.thoughts.settings import KINDS, UnitConfig, stage_of
from parity_tests.components.block import random_parameters
from parity_tests.trained import run
from parity_tests.wings import WINGS

both = pytest.mark.parametrize("wing", WINGS, ids=str)
thinking = pytest.mark.parametrize("kind", ["thought", "code"])


def small(settings, **more):
    options = {"layers": 2, "width": 8, "heads": 2, "feed_forward": 16, "positions": "learned", "norm": "rms"}
    return ModelConfig(vocab_size=settings.vocab_size, context=24, **options | more)


def random_params(config, seed=0):
    return random_parameters(np.random.default_rng(seed), parameter_shapes(config))


def logits_of(wing, tokens, params, config, settings, places):
    return wing.call("thoughts.model", "unit_transformer", tokens, params, config, settings, places)


# -- the model ----------------------------------------------------------------------------------------------------


@both
@given(seed=st.integers(0, 2**32 - 1))
def test_chunks_give_what_the_whole_gives(wing, seed):
    """However the inputs are cut, with the past given back to the next call: the definition of keeping keys and values."""
    rng = np.random.default_rng(seed)
    settings = UnitConfig("thought", nodes=4)
    config = small(settings, positions=str(rng.choice(["learned", "rope", "sinusoidal", "none"])), kv_heads=int(rng.choice([0, 1])))
    params, x = random_params(config, seed), rng.standard_normal((2, 7, 8))
    stream, given_params = wing.module("thoughts.stream"), wing.array(params)

    def states(x, past=None):
        result = stream.hidden_states(wing.array(x), given_params, config, past)
        return result[0] if wing.package == "numpy_ref" else result

    whole, _ = states(x)
    cut = int(rng.integers(1, 7))
    first, past = states(x[:, :cut])
    second, _ = states(x[:, cut:], past)
    np.testing.assert_allclose(np.concatenate([np.asarray(first), np.asarray(second)], 1), np.asarray(whole), rtol=1e-9, atol=1e-9)


@both
@thinking
@given(seed=st.integers(0, 2**32 - 1))
def test_no_prediction_depends_on_what_follows(wing, kind, seed):
    """Other tokens behind t change no logits up to t, thoughts and all; and what stands at a thought's place is not read."""
    rng = np.random.default_rng(seed)
    settings = UnitConfig(kind, nodes=4, codes=3)
    config, tokens = small(settings), rng.integers(0, 8, (2, 9))
    params, places = random_params(config, seed), tuple(sorted(rng.choice(np.arange(1, 9), 3, replace=False).tolist()))
    whole = logits_of(wing, tokens, params, config, settings, places)
    t, other = int(rng.integers(1, 9)), tokens.copy()
    other[:, t:] = rng.integers(0, 8, other[:, t:].shape)
    other[:, places] = rng.integers(0, 8, (2, 3))
    found = logits_of(wing, other, params, config, settings, places)
    np.testing.assert_allclose(found[:, :t], whole[:, :t], rtol=1e-9, atol=1e-9)


@both
def test_without_thoughts_it_is_the_transformer(wing):
    settings = UnitConfig("thought", nodes=4)
    config, tokens = small(settings), np.random.default_rng(0).integers(0, 8, (2, 9))
    params = random_params(config)
    plain = wing.call("model.transformer", "transformer", tokens, params, config)
    np.testing.assert_allclose(logits_of(wing, tokens, params, config, settings, ()), plain, rtol=1e-10, atol=1e-12)


@both
def test_a_thought_is_the_state_before_it(wing):
    """A model without blocks, positions and norm would only pass it on: here the thought, read as a token would be, gives
    the logits that one computes by hand in two passes."""
    settings = UnitConfig("thought", nodes=4)
    config, tokens = small(settings, positions="none"), np.array([[1, 2, 0]])
    params = random_params(config)
    x = params["token_embedding.weight"][tokens[:, :2]]
    hidden = wing.call("thoughts.stream", "hidden_states", x, params, config)[0]
    whole = np.concatenate([x, hidden[:, -1:]], axis=1)
    again = wing.call("thoughts.stream", "hidden_states", whole, params, config)[0]
    by_hand = again @ params["output.weight"].T
    np.testing.assert_allclose(logits_of(wing, tokens, params, config, settings, (2,)), by_hand, rtol=1e-10, atol=1e-12)


@both
def test_straight_through(wing):
    """Forward a row of the table to the last bit, also where the state is far larger; backward all of dy, to state and row."""
    rng = np.random.default_rng(1)
    hidden, table, dy = 1e6 * rng.standard_normal((5, 3)), 0.1 * rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    nearest = ((hidden[:, None] - table) ** 2).sum(-1).argmin(1)
    if wing.package == "numpy_ref":
        found, vjp = wing.module("thoughts.codes").nearest_code(hidden, table)
        dhidden, dtable = vjp(dy)
    else:
        leaves = [torch.from_numpy(a).requires_grad_() for a in (hidden, table)]
        found = wing.module("thoughts.codes").nearest_code(*leaves)
        dhidden, dtable = torch.autograd.grad(found, leaves, torch.from_numpy(dy))
        found = found.detach()
    assert np.array_equal(found, table[nearest]) and np.array_equal(dhidden, dy)
    by_hand = np.array([dy[nearest == code].sum(0) for code in range(4)])
    np.testing.assert_allclose(np.asarray(dtable), by_hand, rtol=1e-12, atol=1e-12)


@both
def test_fitted_codes_are_means_of_thoughts(wing):
    """With as many codes as different questions each thought is a code; with fewer each code is the mean of its thoughts."""
    settings = UnitConfig("code", nodes=3, codes=6)
    config = small(settings, embedding_scale=2.0)
    params, question = random_params(config), np.array([[i // 3, i % 3, 1, 2] for i in range(6)])
    thoughts = wing.call("thoughts.model", "unit_states", question, params, config, settings)[:, -1]
    for codes in (6, 3):
        settings = dataclasses.replace(settings, codes=codes)
        fitted = wing.call("thoughts.codes", "fit_codes", params, question, config, settings, 1)
        table = wing.call("thoughts.codes", "code_table", fitted, config, settings)
        assert all(np.array_equal(fitted[name], params[name]) for name in params if name != "token_embedding.weight")
        assert np.array_equal(fitted["token_embedding.weight"][:-codes], params["token_embedding.weight"][:-codes])
        nearest = ((thoughts[:, None] - table) ** 2).sum(-1).argmin(1)
        assert set(nearest) == set(range(codes))
        means = np.array([thoughts[nearest == code].mean(0) for code in range(codes)])
        np.testing.assert_allclose(table, means, rtol=1e-9, atol=1e-9)


@both
def test_farthest_first_misses_no_cluster(wing):
    rng = np.random.default_rng(0)
    centres = 10.0 * np.eye(8)
    cluster = np.concatenate([np.repeat(np.arange(7), 20), [7]])  # the last one has a single vector
    starts = wing.call("thoughts.codes", "farthest_first", centres[cluster] + rng.uniform(-1, 1, (141, 8)), 8)
    assert sorted(cluster[starts]) == list(range(8))


@thinking
def test_the_question_learns_through_every_thought(kind):
    """With the loss behind three thoughts only, and attention of one token alone, the first token still has a gradient."""
    settings = UnitConfig(kind, nodes=4, codes=3)
    config = small(settings, layers=1)
    params, tokens = random_params(config), np.array([[0, 4, 4, 4]])
    targets = np.array([[-100, -100, -100, 2]])
    for wing in WINGS:
        arguments = [wing.array(value) for value in (params, tokens, targets)]
        _, grads = wing.module("thoughts.step").loss_and_grads(*arguments, config, settings, (1, 2, 3))
        assert np.abs(np.asarray(grads["token_embedding.weight"])[0]).max() > 1e-6
        assert kind == "code" or not np.asarray(grads["token_embedding.weight"])[1:].any()  # nothing else was read


# -- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, ways", [*((kind, 1) for kind in KINDS), ("span", 2)])
def test_both_sides_train_to_the_same_weights(kind, ways, tmp_path):
    """A whole run through all stages in float64, one half of it resumed on the other side; then the same measures."""
    settings = UnitConfig(kind, nodes=3, hops=3, codes=3, ways=ways)
    config = small(settings, init_std=0.2, layers=1)
    train, ends = TrainConfig(steps=12, batch=16, lr=0.02, warmup=2, eval_every=0, save_every=0, dtype="float64", device="cpu"), []
    for wing, other in (WINGS, WINGS[::-1]):
        out = tmp_path / str(wing)
        wing.module("thoughts.loop").train_units(config, train, settings, out, stop_after=7)
        run = other.module("thoughts.loop").train_units(config, train, settings, out, resume=True)
        ends.append({name: np.asarray(value) for name, value in run.params.items()})
        measures = [side.module("thoughts.evaluate").held_out(side.array(ends[-1]), config, settings, 60, 25) for side in WINGS]
        assert measures[0].keys() == measures[1].keys() and measures[0]["accuracy"] == measures[1]["accuracy"]
        assert measures[0]["read"] == measures[1]["read"] and measures[0]["loss"] == pytest.approx(measures[1]["loss"], rel=1e-9)
        shares = [side.module("thoughts.evaluate").searched(side.array(ends[-1]), config, settings, 40, 2, 3) for side in WINGS]
        assert shares[0] == shares[1] and (shares[0]["beam"] is None) == (kind not in ("span", "code"))
        if kind in ("span", "code"):
            widths = [side.module("thoughts.evaluate").by_width(side.array(ends[-1]), config, settings, 40) for side in WINGS]
            assert widths[0] == widths[1] and all(len(found) == 2 for found in widths[0].values())  # 1 and 2 of 3 choices
        with pytest.raises(UserError, match="other units"):
            wing.module("thoughts.loop").train_units(config, train, dataclasses.replace(settings, codes=2), out, resume=True)
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-6, atol=1e-9, err_msg=name)


@thinking
def test_gradients_of_a_step_are_the_same(kind):
    """Straight through codes as well, which the declarations leave out."""
    settings, found = UnitConfig(kind, nodes=4, codes=3), []
    config, tokens = small(settings), np.random.default_rng(2).integers(0, 8, (2, 8))
    targets, params = np.where(np.arange(8) > 4, tokens % 5, -100), random_params(config)
    for wing in WINGS:
        step, arguments = wing.module("thoughts.step"), [wing.array(value) for value in (params, tokens, targets)]
        found.append(step.loss_and_grads(*arguments, config, settings, (3, 4, 6)))
        states = wing.module("training.optimizer").init_states(arguments[0], TrainConfig())
        metrics, _, _ = step.train_step(arguments[0], states, *arguments[1:], config, TrainConfig(), settings, 0.01, (3, 4, 6))
        assert float(metrics["loss"]) == pytest.approx(float(found[-1][0]), rel=1e-12)
    assert float(found[0][0]) == pytest.approx(float(found[1][0]), rel=1e-12)
    for name, grad in found[0][1].items():
        np.testing.assert_allclose(np.asarray(found[1][1][name]), grad, rtol=1e-8, atol=1e-12, err_msg=name)


def test_codes_are_never_said():
    """The output rows of codes have no gradient where no unit is a code, and none from the words where one is."""
    settings = UnitConfig("thought", nodes=4, codes=3)
    config, tokens = small(settings), np.array([[0, 1, 2, 3, 1]])
    for wing in WINGS:
        arguments = [wing.array(value) for value in (random_params(config), tokens, tokens)]
        _, grads = wing.module("thoughts.step").loss_and_grads(*arguments, config, settings, (2,))
        assert not np.asarray(grads["output.weight"])[-3:].any() and np.asarray(grads["output.weight"])[:-3].any()


def test_the_curriculum_replaces_one_step_after_the_other():
    settings = UnitConfig("thought", hops=4)
    stages = [stage_of(step, 1000, settings) for step in range(1000)]
    assert stages == sorted(stages) and set(stages) == {0, 1, 2, 3} and stages.count(3) == 400
    assert {stage_of(step, 1000, UnitConfig("span")) for step in range(1000)} == {0}
    assert {stage_of(step, 1000, UnitConfig("answer")) for step in range(1000)} == {3}
    assert stage_of(2, 3, settings) == 2 and stage_of(9, 3, settings) == 3  # fewer steps than stages


@both
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_held_out_is_measured_at_the_last_stage(wing, kind):
    """The loss is that of rows whose steps are all units, or all words where words are the units."""
    settings = UnitConfig(kind, nodes=3, hops=4, codes=3)
    config = small(settings)
    params = random_params(config)
    edges, walk = wing.call("thoughts.task", "pointer_chains", 0, 0, 30, 3, 4, STREAM_THOUGHTS + 1)
    tokens, targets, places = wing.call("thoughts.task", "unit_rows", edges, walk, 0 if kind == "span" else 3, settings)
    logits = logits_of(wing, tokens, params, config, settings, places)[..., :-3]
    rows = [-log_share(line, said) for line, said in zip(logits.reshape(-1, 4), targets.ravel()) if said >= 0]
    assert len(rows) == 30 * (4 if kind == "span" else 1)
    found = wing.module("thoughts.evaluate").held_out(wing.array(params), config, settings, 30, 30)
    assert found["loss"] == pytest.approx(np.mean(rows), rel=1e-6)
    assert (found["read"] is None) == (kind in ("answer", "removal"))


@both
def test_problems_are_walks_on_permutations(wing):
    edges, walk = wing.call("thoughts.task", "pointer_chains", 3, 5, 200, 6, 4)
    assert (np.sort(edges, axis=1) == np.arange(6)).all()
    assert all((edges[np.arange(200), walk[:, i]] == walk[:, i + 1]).all() for i in range(4))
    assert len(set(walk[:, 0])) == 6 and len(np.unique(edges, axis=0)) > 150
    rest = wing.call("thoughts.task", "pointer_chains", 3, 105, 100, 6, 4)
    assert np.array_equal(rest[0], edges[100:]) and np.array_equal(rest[1], walk[100:])


@both
def test_rows_of_every_stage(wing):
    """Worked by hand: 0 -> 2 -> 1 -> 0, from 2, three hops."""
    edges, walk = np.array([[2, 0, 1]]), np.array([[2, 1, 0, 2]])
    rows = {
        ("span", 0): ([2, 0, 1, 2, 1, 0], [1, 0, 2], ()),
        ("pause", 1): ([2, 0, 1, 2, 3, 0], [0, 2], ()),
        ("thought", 1): ([2, 0, 1, 2, 3, 0], [0, 2], (4,)),
        ("code", 2): ([2, 0, 1, 2, 3, 3], [2], (4, 5)),
        ("answer", 2): ([2, 0, 1, 2], [2], ()),
        ("removal", 0): ([2, 0, 1, 2, 1, 0], [1, 0, 2], ()),
        ("removal", 1): ([2, 0, 1, 2, 0], [0, 2], ()),
    }
    for (kind, stage), (tokens, said, places) in rows.items():
        found = wing.call("thoughts.task", "unit_rows", edges, walk, stage, UnitConfig(kind, nodes=3, hops=3))
        assert found[0].tolist() == [tokens] and found[2] == places, kind
        assert found[1][0, -len(said) :].tolist() == said and (found[1][0, : -len(said)] == -100).all(), kind


@both
def test_rows_with_forks(wing):
    """Ways that the model learns from arrive, the verdict on strays is that of a search through the graph, and both edges of
    a node are taken; and which chains arrive is found by hand."""
    settings = UnitConfig("span", nodes=5, hops=3, ways=2)
    edges, walks = wing.call("thoughts.task", "fork_walks", 3, 0, 200, 5, 3)
    tokens, targets = wing.call("thoughts.task", "fork_rows", edges, walks, settings)
    assert (np.sort(edges.reshape(200, 2, 5), axis=-1) == np.arange(5)).all()
    assert tokens.shape == (200, settings.context) and np.array_equal(tokens[:, :10], edges)
    for row, (line, said) in enumerate(zip(tokens.tolist(), targets.tolist())):
        goal, start, *chain = line[10:]
        steps = list(zip([start, *chain], [*chain, goal]))
        assert all(b in (line[a], line[5 + a]) for a, b in steps[:-1])
        a, b = steps[-1]
        assert said[-1] == (b in (line[a], line[5 + a])) and (row % 2 or said[-1] == 1)
        assert said[-3:-1] == ([-100, -100] if row % 2 else chain) and set(said[:-3]) == {-100}
    assert 0 < targets[1::2, -1].sum() < 100 and not np.array_equal(walks[:, 0], walks[:, 1])
    rest = wing.call("thoughts.task", "practice", 3, 100, 100, 0, settings)
    assert np.array_equal(rest[0], tokens[100:]) and np.array_equal(rest[1], targets[100:]) and rest[2] == ()
    found = wing.call("thoughts.task", "arrives", np.array([[1, 2, 0, 0, 1, 2]] * 3), np.array([[0, 1, 1], [0, 0, 1], [0, 2, 1]]))
    assert found.tolist() == [True, True, False]


@both
def test_what_solves_a_problem(wing):
    """0 -> 2 -> 1 -> 0 from 2, three hops: 2. And with forks the chain counts, not what is said behind it."""
    plain = wing.call("thoughts.evaluate", "solved", np.array([[2, 0, 1, 2]] * 2), {"answer": np.array([2, 0])}, UnitConfig("answer", 3, 3))
    assert plain.tolist() == [True, False]
    question = np.array([[1, 2, 0, 0, 1, 2, 2, 0]] * 3)  # from 0 to 2 by 0 -> 1 -> 2 or 0 -> 0 -> ...
    found = {"units": np.array([[1], [0], [2]]), "answer": np.array([0, 1, 1])}
    ways = wing.call("thoughts.evaluate", "solved", question, found, UnitConfig("span", 3, 2, ways=2))
    assert ways.tolist() == [True, False, False]


# -- search -------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("kind", ["span", "code"])
def test_a_beam_as_wide_as_all_chains_finds_the_best(wing, kind):
    """Against every chain tried out: nothing is better by log probability and value."""
    settings = UnitConfig(kind, nodes=3, hops=3, codes=3)
    config = small(settings)
    params, question = random_params(config, 5), np.array([[1, 2, 0, 1]])
    first = 0 if kind == "span" else settings.vocab_size - 3
    best = -np.inf
    for chain in itertools.product(range(first, first + 3), repeat=2):
        tokens = np.concatenate([question, [chain]], axis=1)
        logits = wing.call("model.transformer", "transformer", tokens, params, config)[0]
        scores = logits[:, :3]
        if kind == "code":  # half the square distance to each code
            states = wing.call("thoughts.model", "unit_states", tokens, params, config, settings)[0]
            scores = -0.5 * ((states[:, None] - params["token_embedding.weight"][first:]) ** 2).sum(-1)
        total = sum(log_share(scores[3 + i], chain[i] - first) for i in range(2))
        answers = logits[5, :3]
        best = max(best, total + 2.0 * (answers.max() - np.log(np.exp(answers).sum())))
    found = wing.call("thoughts.decoding", "beam_search", question, params, config, settings, 3, 2.0)
    greedy = wing.call("thoughts.decoding", "beam_search", question, params, config, settings, 1, 2.0)
    assert greedy["score"][0] <= found["score"][0] + 1e-12 <= best + 1e-9
    wide = wing.call("thoughts.decoding", "beam_search", question, params, config, dataclasses.replace(settings, hops=2), 3, 2.0)
    assert wide["units"].shape == (1, 1)


def log_share(scores, index):
    return scores[index] - scores.max() - np.log(np.exp(scores - scores.max()).sum())


@both
def test_greedy_decoding_is_the_model(wing):
    """The answer after thoughts is the one of ``unit_transformer`` on the row of the last stage."""
    settings = UnitConfig("thought", nodes=4, hops=4, per_step=2)
    config = small(settings)
    params = random_params(config, 3)
    edges, walk = wing.call("thoughts.task", "pointer_chains", 0, 0, 9, 4, 4)
    tokens, _, places = wing.call("thoughts.task", "unit_rows", edges, walk, 3, settings)
    logits = logits_of(wing, tokens, params, config, settings, places)[..., :4]
    found = wing.call("thoughts.decoding", "beam_search", tokens[:, :5], params, config, settings)
    assert np.array_equal(found["answer"], logits[:, -1].argmax(-1))
    assert np.array_equal(found["words"], logits[:, 4:-1].argmax(-1)) and (found["units"] == -1).all()


@both
def test_a_goal_is_the_value(wing):
    """Where a chain has to arrive, the best of all chains is the one with the most of log p(1), whatever else is surer."""
    settings = UnitConfig("span", nodes=3, hops=2, ways=2)
    config, rng = small(settings), np.random.default_rng(0)
    params, question = random_params(config, 4), rng.integers(0, 3, (6, 8))
    found = wing.call("thoughts.decoding", "beam_search", question, params, config, settings, 3, 1e6)
    for row in range(6):
        tokens = np.concatenate([np.repeat(question[row : row + 1], 3, 0), np.arange(3)[:, None]], axis=1)
        logits = wing.call("model.transformer", "transformer", tokens, params, config)[:, -1, :3]
        assert found["units"][row, 0] == np.argmax([log_share(line, 1) for line in logits])


@both
def test_more_chains_are_never_less_sure(wing):
    settings = UnitConfig("code", nodes=4, hops=3)
    config, rng = small(settings), np.random.default_rng(0)
    params, question, draws = random_params(config, 2), rng.integers(0, 4, (5, 5)), rng.random((6, 5, 2))
    scores = [wing.call("thoughts.decoding", "best_of_n", question, params, config, settings, draws[:n])["score"] for n in (1, 3, 6)]
    assert (scores[0] <= scores[1] + 1e-12).all() and (scores[1] <= scores[2] + 1e-12).all() and (scores[2] > scores[0]).any()


# -- the command --------------------------------------------------------------------------------------------------

TINY = ("--steps", 3, "--eval-every", 2, "--batch", 4, "--hops", 2, "--nodes", 3, "--width", 8, "--heads", 2, "--device", "cpu")


@both
def test_the_experiment_reports_and_goes_on(wing, tmp_path, capsys):
    out = tmp_path / "thoughts"
    arms = ("--arm", "thoughts", "--arm", "codes", "--arm", "ways to a goal", "--seeds", 1)
    assert run(wing, "thoughts", "--out", out, *arms, "--time-budget", 1e-9, *TINY) == 0  # no time at all: nothing to report
    assert not (out / "report.md").exists()
    assert run(wing, "thoughts", "--out", out, "--resume") == 0
    text = (out / "report.md").read_text()
    assert "| thoughts | " in text and "| codes | " in text and "nan" not in text and (out / "accuracy.png").exists()
    assert "| best of n | " in text and (out / "search.png").exists()
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(row["arm"], row["seed"]) for row in results] == [("thoughts", 0), ("codes", 0), ("ways to a goal", 0)]
    assert log.read_rows(out / "thoughts-0" / "log.jsonl")[-1]["step"] == 3
    before = (out / "codes-0" / "log.jsonl").read_bytes()
    assert run(wing, "thoughts", "--out", out, "--resume") == 0 and (out / "codes-0" / "log.jsonl").read_bytes() == before
    assert capsys.readouterr().out.count("# Units of thought") == 2
    for options, words in (
        ((), "already holds"), (("--resume", "--steps", 4), "steps=3, not 4"), (("--resume", "--arm", "pauses"), "has the arms"),
        (("--kind", "code"), "unknown option"),
    ):  # fmt: skip
        assert run(wing, "thoughts", "--out", out, *options) == 2
        assert words in (error := capsys.readouterr().err) and error.count("\n") == 1
    (out / "thoughts.json").write_text("{")
    assert run(wing, "thoughts", "--out", out, "--resume") == 2 and "damaged" in capsys.readouterr().err
    assert run(wing, "thoughts", "--out", tmp_path / "none", "--resume") == 2 and "no thoughts.json" in capsys.readouterr().err


# -- what cannot be -----------------------------------------------------------------------------------------------

BAD = {
    "unknown kind": ({"kind": "idea"}, "kind='idea'"),
    "no hops": ({"hops": 0}, "hops=0"),
    "one node": ({"nodes": 1}, "nodes=1"),
    "no thought for a step": ({"per_step": 0}, "per_step=0"),
    "one code": ({"codes": 1}, "codes=1"),
    "three ways": ({"kind": "span", "ways": 3}, "ways=3"),
    "a goal for thoughts": ({"kind": "thought", "ways": 2}, "ways=2"),
    "pushed from codes": ({"commitment": -1.0}, "commitment=-1.0"),
    "no commitment at all": ({"commitment": float("nan")}, "commitment=nan"),
}


@pytest.mark.parametrize("options, words", BAD.values(), ids=BAD)
def test_settings_that_cannot_be_are_one_clear_line(options, words):
    with pytest.raises(UserError) as error:
        UnitConfig(**options)
    assert words in str(error.value) and "\n" not in str(error.value)


@both
def test_inputs_that_cannot_be_are_one_clear_line(wing):
    settings = UnitConfig("thought", nodes=4)
    config, tokens = small(settings), np.zeros((1, 6), np.int64)
    params = random_params(config)
    for places in ((0,), (6,), (3, 2), (2, 2)):
        with pytest.raises(UserError, match="places go up"):
            logits_of(wing, tokens, params, config, settings, places)
    for options, words in (({"window": 3}, "window"), ({"dropout": 0.1}, "dropout"), ({"positions": "alibi"}, "alibi"), ({"experts": 2}, "experts")):
        with pytest.raises(UserError, match=words):
            logits_of(wing, tokens, params, small(settings, **options), settings, ())
    for kind, beam in (("span", 5), ("thought", 2), ("removal", 2), ("span", 0)):
        with pytest.raises(UserError, match=f"beam={beam}"):
            wing.call("thoughts.decoding", "beam_search", tokens, params, config, UnitConfig(kind, nodes=4), beam)
    with pytest.raises(UserError, match="nothing to draw"):
        wing.call("thoughts.decoding", "best_of_n", tokens, params, config, UnitConfig("pause", nodes=4), np.zeros((2, 1, 3)))
