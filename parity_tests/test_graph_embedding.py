"""Embedded graphs: hops counted anew, files that are no trees, losses and measures by hand, both sides the same run, resume."""

import json

import numpy as np
import pytest

from numpy_ref.errors import UserError
from numpy_ref.hyperbolic import embedding_report
from numpy_ref.hyperbolic.embedding_arms import GEOMETRIES, LOSSES, SIZES, Arm, Settings, arms, check_size
from numpy_ref.hyperbolic.embedding_experiment import Embedding
from numpy_ref.hyperbolic.graphs import graph
from parity_tests.curved import in_ball
from parity_tests.trained import run, wing  # noqa: F401  (fixture)
from parity_tests.wings import WINGS

EMBEDDING, METRICS = "hyperbolic.graph_embedding", "hyperbolic.graph_metrics"
SHORT = ["--size", "tiny", "--device", "cpu", "--dtype", "float64"]
WORDNET = [
    "  1 This software and database is being provided to you, the LICENSEE, by",
    "00001740 03 n 01 entity 0 002 ~ 00001930 n 0000 ~ 00002137 n 0000 | that which is perceived",
    "00001930 03 n 01 physical_entity 0 001 @ 00001740 n 0000 | an entity that has physical existence",
    "00002137 03 n 02 abstraction 0 abstract_entity 0 001 @ 00001740 n 0000 | a general concept",
    "00002452 03 n 0b thing c a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 002 ;c 00002137 n 0000 @i 00001930 n 0000 | thing",
    "00002453 03 n 01 thing 1 002 @ 00002452 n 0000 @ 00002137 n 0000 | one with two hypernyms",
]


def walked(known):
    """Hops of all pairs, by shortening paths over every node (Floyd and Warshall)."""
    found = np.where(np.eye(len(known), dtype=bool), 0, 10**6)
    for a, b in known.edges:
        found[a, b] = found[b, a] = 1
    for k in range(len(known)):
        found = np.minimum(found, found[:, k : k + 1] + found[k : k + 1])
    return found


# -- graphs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, nodes, links", [("tree-3-3", 40, 39), ("tree-1-4", 5, 4), ("tree-2-1", 3, 2), ("grid-3-4", 12, 17), ("grid-1-5", 5, 4), ("cycle-7", 7, 7), ("cycle-3", 3, 3)])
def test_hops_are_shortest_paths(name, nodes, links):
    known = graph(name)
    assert len(known) == nodes and len(known.edges) == links
    assert np.array_equal(known.all_hops(), walked(known)) and np.array_equal(known.depth, walked(known)[0])
    rows = np.array([2, 0, 2])
    assert np.array_equal(known.hops(rows), walked(known)[rows])


def test_the_tree_of_the_experiment():
    known = graph(SIZES["cpu"].graph)
    assert len(known) == 364 and np.bincount(known.depth).tolist() == [1, 3, 9, 27, 81, 243]
    assert known.all_hops().max() == 10


def test_a_file_is_a_tree(tmp_path):
    path = tmp_path / "animals.tsv"
    path.write_text("# child\tparent\ncat\tmammal\nsea lion\tmammal\n\nmammal\tanimal\nbird\tanimal\ncat\tmammal\n")
    known = graph(str(path))
    assert known.labels[0] == "animal" and set(known.labels) == {"animal", "mammal", "bird", "cat", "sea lion"}
    assert np.array_equal(known.all_hops(), walked(known))
    place = known.labels.index
    assert known.all_hops()[place("cat"), place("bird")] == 3 and known.depth[place("sea lion")] == 2
    below = graph(str(path), "mammal")
    assert below.labels[0] == "mammal" and set(below.labels) == {"mammal", "cat", "sea lion"} and below.all_hops()[1, 2] == 2


def test_nouns_of_wordnet(tmp_path):
    """Synonyms are one node, instances are below their class, the first hypernym counts, the licence is passed over."""
    path = tmp_path / "data.noun"
    path.write_text("\n".join(WORDNET) + "\n")
    known = graph(str(path))
    assert known.labels == ("entity", "physical_entity", "abstraction", "thing", "thing.2")
    assert known.edges.tolist() == [[1, 0], [2, 0], [3, 1], [4, 3]]


NO_TREES = {
    "two parents": ("cat\tmammal\ncat\tpet\nmammal\tanimal\npet\tanimal\n", "two parents, 'mammal' and 'pet' (line 2)"),
    "two roots": ("cat\tmammal\noak\tplant\n", "2 roots, 'mammal' and 'plant'"),
    "a ring": ("a\tb\nb\tc\nc\ta\n", "no root"),
    "a ring beside a tree": ("x\troot\ny\troot\na\tb\nb\ta\n", "on a cycle"),
    "its own parent": ("a\ta\nb\troot\nc\troot\n", "on a cycle"),
    "three names": ("a b c\n", "line 1"),
    "no parent": ("a\t\n", "line 1"),
    "empty": ("\n", "no root"),
    "two nodes": ("a\tb\n", "2 nodes"),
    "broken WordNet": ("\n".join(WORDNET[:2]) + "\n00001930 03 n\n", "line 3"),
    "WordNet without its top": ("\n".join([WORDNET[0], *WORDNET[2:]]) + "\n", "2 roots"),
}


@pytest.mark.parametrize("text, words", NO_TREES.values(), ids=NO_TREES)
def test_what_is_no_tree_is_refused_in_a_line(text, words, tmp_path, capsys):
    path = tmp_path / "graph.tsv"
    path.write_text(text)
    assert run(WINGS[0], "hyperbolic", "--graph", path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and words in said[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["tree-3", "tree-0-4", "tree-3-90", "grid-1-1", "cycle-2", "grid-100000-100000", "/no/such/file"])
def test_names_of_no_graph(name):
    with pytest.raises(UserError):
        graph(name)


def test_a_subtree_needs_a_tree_and_a_node(tmp_path):
    for source, below in (("cycle-5", "0"), ("tree-2-2", "99")):
        with pytest.raises(UserError, match="no node"):
            graph(source, below)


# -- distances, losses, measures ----------------------------------------------------------------------------------


def test_the_models_of_hyperbolic_space_give_one_distance(wing):  # noqa: F811
    v = np.random.default_rng(0).standard_normal((6, 3))
    lorentz = wing.call(EMBEDDING, "pair_distances", v[:2], v, "lorentz")
    points = in_ball(v, 1.0)
    np.testing.assert_allclose(wing.call(EMBEDDING, "pair_distances", points[:2], points, "poincare"), lorentz, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(lorentz[:, 0], wing.call("hyperbolic.tangent", "distance", v[:2], v[:1], 1.0), rtol=1e-12, atol=1e-12)
    flat = wing.call(EMBEDDING, "pair_distances", v[:2], v, "euclidean")
    np.testing.assert_allclose(flat, np.linalg.norm(v[:2, None] - v[None], axis=-1), rtol=1e-12)
    assert (lorentz >= flat - 1e-12).all()  # straight lines of the tangent space are detours


def test_perfect_distances_lose_nothing(wing):  # noqa: F811
    for name in ("tree-3-2", "grid-3-3", "cycle-8"):
        hops = graph(name).all_hops()
        for scale in (1.0, 0.3):
            lengths = scale * hops.astype(float)
            assert wing.call(METRICS, "mean_average_precision", lengths, hops) == 1
            assert wing.call(METRICS, "distortion", lengths, hops) < 1e-12
            assert wing.call(METRICS, "worst_distortion", lengths, hops) == pytest.approx(1)
            assert wing.call(EMBEDDING, "distance_loss", lengths, hops) == pytest.approx(1 - scale)
        assert wing.call(EMBEDDING, "ranking_loss", 40.0 * hops, hops) < 1e-12


def test_average_precision_by_hand(wing):  # noqa: F811
    """Node 0 of a path of four, 0 - 1 - 2 - 3: its neighbour comes second, so 1/2; node 1: neighbours first and third,
    (1/1 + 2/3) / 2; with everything as far as everything, the share of neighbours among the others."""
    hops = graph("tree-1-3").hops(np.array([0, 1]))
    lengths = np.array([[0, 2, 1, 3], [1, 0, 3, 2]], float)
    assert wing.call(METRICS, "mean_average_precision", lengths, hops) == pytest.approx((1 / 2 + (1 + 2 / 3) / 2) / 2)
    assert wing.call(METRICS, "mean_average_precision", np.ones((2, 4)), hops) == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_distortion_is_that_of_the_best_scale(wing):  # noqa: F811
    hops = graph("tree-2-2").all_hops()
    for seed in range(5):
        lengths = hops * np.random.default_rng(seed).uniform(0.1, 3.0, hops.shape)
        ratios = lengths[hops > 0] / hops[hops > 0]
        tried = min(np.abs(scale * ratios - 1).mean() for scale in 1 / ratios)  # it is least at one of them
        assert wing.call(METRICS, "distortion", lengths, hops) == pytest.approx(tried, rel=1e-12)
        assert wing.call(METRICS, "distortion", 7 * lengths, hops) == pytest.approx(tried, rel=1e-12)
    assert wing.call(METRICS, "distortion", 0.0 * hops, hops) == 1


def test_ranking_loss_is_a_cross_entropy(wing):  # noqa: F811
    hops = graph("grid-2-3").all_hops()
    lengths = np.random.default_rng(1).uniform(0, 3, hops.shape)
    each = []
    for i, j in zip(*np.nonzero(hops == 1)):
        negatives = np.exp(-lengths[i, hops[i] > 1]).sum()
        each.append(-np.log(np.exp(-lengths[i, j]) / (np.exp(-lengths[i, j]) + negatives)))
    assert wing.call(EMBEDDING, "ranking_loss", lengths, hops) == pytest.approx(np.mean(each), rel=1e-12)


# -- training -----------------------------------------------------------------------------------------------------


def embedded(side, settings, *arm):
    known = graph(settings.graph)
    arm = Arm("graph", *arm)
    found = Embedding(arm, known, settings, side.module("hyperbolic.trainer").Trainer(known, arm, settings, "cpu", "float64"))
    while not found.finished:
        found.step()
    return found


def test_some_rows_are_drawn_alike():
    settings = Settings(graph="tree-2-3", steps=6, rows=5, eval_rows=4)
    for geometry in GEOMETRIES:
        one, other = (embedded(side, settings, geometry, "distance", 2, 3).result() for side in WINGS)
        for name in ("map", "distortion", "worst", "scale", "final_loss"):
            assert one[name] == pytest.approx(other[name], rel=1e-9), (geometry, name)


def test_trees_fit_hyperbolic_space():
    """Three dimensions, 40 nodes: distances are learnt with a fraction of the Euclidean distortion."""
    settings = Settings(graph="tree-3-3", steps=300, lr=0.1, scale=2.0)
    flat, curved = (embedded(WINGS[1], settings, geometry, "distance", 3, 0).result() for geometry in ("euclidean", "lorentz"))
    assert curved["distortion"] < 0.5 * flat["distortion"] and curved["map"] > flat["map"] + 0.1


def test_all_pairs_of_very_many_nodes_are_refused():
    with pytest.raises(UserError, match="--rows"):
        check_size(Settings(), 82_115, "data.noun")
    check_size(Settings(rows=64), 82_115, "data.noun")


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    folders = {}
    for one in WINGS:
        folders[str(one)] = tmp_path_factory.mktemp(str(one)) / "out"
        assert run(one, "hyperbolic", *SHORT, "--out", folders[str(one)]) == 0
    return folders


def results(folder):
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {tuple(row[name] for name in ("part", "geometry", "loss", "dim", "seed")): row for row in rows}


def test_both_sides_find_the_same(experiments):
    one, other = (results(folder) for folder in experiments.values())
    assert set(one) == set(other) and len(one) == len(list(arms(SIZES["tiny"]))) == 20
    for key, row in one.items():
        for name in ("map", "distortion", "worst", "scale", "final_loss"):
            assert row[name] == pytest.approx(other[key][name], rel=1e-6), (key, name)


def test_the_report_says_what_was_found(experiments):
    folder = experiments["torch_impl"]
    text = (folder / "report.md").read_text()
    for row in results(folder).values():
        assert f"| {row['dim']} | {GEOMETRIES[row['geometry']]} | {row['map']:.3f} | {row['distortion']:.3f} |" in text
    for picture in ("measures", "disk"):
        assert (folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG") and f"({picture}.png)" in text
    assert "15 nodes, 14 edges" in text and str(folder) not in text


def test_sentences_follow_from_the_numbers():
    rows = [
        {"part": part, "loss": "distance", "geometry": geometry, "dim": dim, "seed": seed, "map": value + seed / 100,
         "distortion": 0.5, "worst": 2.0, "scale": 1.0, "seconds": 1.0}
        for part, geometry, dim, value in (
            ("graph", "euclidean", 2, 0.1), ("graph", "lorentz", 2, 0.5), ("graph", "poincare", 2, 0.3),
            ("graph", "euclidean", 3, 0.9), ("graph", "lorentz", 3, 0.7), ("control", "euclidean", 2, 0.5),
        )
        for seed in (0, 1)
    ]  # fmt: skip
    found = embedding_report.averages(rows)
    assert found[0]["map"] == pytest.approx(0.105) and found[0]["map_spread"] == pytest.approx(0.005)
    said = list(embedding_report.verdicts(found, {"graph": "tree", "control": "ring"}))
    assert len(said) == 2 and said[0].startswith("- tree, distances: hyperbolic space has the better mean average precision in 2 dim")
    assert "the worse one in 3 dimensions (Euclidean / hyperbolic: 0.105 / 0.505, 0.905 / 0.705)" in said[0]
    assert "the better mean distortion in none, the worse one in none" in said[1]


def test_pictures_keep_distances():
    """The root comes to the middle; lines between points of the disk are the shortest ones."""
    points = in_ball(np.random.default_rng(0).standard_normal((5, 2)), 1.0)
    moved = embedding_report.centred(points)
    distance = WINGS[0].module("hyperbolic.poincare").distance
    assert np.abs(moved[0]).max() == 0
    np.testing.assert_allclose(distance(moved[1:], moved[:-1], 1.0)[0], distance(points[1:], points[:-1], 1.0)[0], rtol=1e-9)
    line = embedding_report.geodesics(points[:1], points[1:2], 9)[0]
    parts = distance(line[1:], line[:-1], 1.0)[0].sum()
    assert parts == pytest.approx(distance(points[0], points[1], 1.0)[0], rel=1e-9)
    np.testing.assert_allclose(embedding_report.in_ball(np.array([[0.0, 0.0], [1.0, 2.0]])), in_ball(np.array([[0.0, 0.0], [1.0, 2.0]]), 1.0), atol=1e-12)


def test_stopped_and_resumed_is_as_if_never_stopped(experiments, tmp_path, capsys):
    out = tmp_path / "parts"
    short = [*SHORT, "--steps", "40", "--geometries", "poincare,euclidean", "--dims", "2", "--control", "none", "--losses", "ranking"]
    assert run(WINGS[1], "hyperbolic", *short, "--out", tmp_path / "whole") == 0
    assert run(WINGS[1], "hyperbolic", *short, "--time-budget", 0.001, "--out", out) == 0
    assert "--resume" in capsys.readouterr().err and not (out / "results.jsonl").exists()
    assert (out / "states" / "graph-ranking-poincare-2-0.npz").exists()
    assert run(WINGS[1], "hyperbolic", "--resume", "--dtype", "float64", "--device", "cpu", "--out", out) == 0
    one, other = results(tmp_path / "whole"), results(out)
    for key, row in one.items():
        assert row["map"] == other[key]["map"] and row["final_loss"] == other[key]["final_loss"], key
    capsys.readouterr()
    assert run(WINGS[0], "hyperbolic", "--resume", "--out", out) == 0  # nothing is left but the report, on either side
    assert "ranking poincare 2" in capsys.readouterr().out


BAD = {
    "no such graph": (["--graph", "forest-3"], "forest-3"),
    "no such control": (["--control", "tree"], "'tree'"),
    "no such space": (["--geometries", "euclidean,spherical"], "geometries="),
    "no such loss": (["--losses", ","], "losses="),
    "no dimensions": (["--dims", "2,x"], "dims="),
    "zero dimensions": (["--dims", "0"], "dims="),
    "no steps": (["--steps", "0"], "steps=0"),
    "negative rate": (["--lr", "-1"], "lr=-1"),
    "points far out": (["--spread", "2"], "spread=2"),
    "too many pairs": (["--graph", "tree-3-9"], "--rows"),
    "no such node": (["--below", "cat"], "'cat'"),
    "nothing to resume": (["--resume"], "no experiment"),
}


@pytest.mark.parametrize("arguments, words", BAD.values(), ids=BAD)
def test_wrong_input_is_one_clear_line(arguments, words, wing, tmp_path, capsys):  # noqa: F811
    assert run(wing, "hyperbolic", *arguments, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and words in said[0]


def test_an_experiment_is_not_overwritten(experiments, capsys):
    folder = experiments["torch_impl"]
    assert run(WINGS[1], "hyperbolic", *SHORT, "--out", folder) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(WINGS[1], "hyperbolic", "--resume", "--steps", "9", "--out", folder) == 2
    assert "steps can't change" in capsys.readouterr().err


def test_damaged_files_are_one_clear_line(tmp_path, capsys):
    short = [*SHORT, "--geometries", "euclidean", "--dims", "2", "--control", "none", "--losses", "distance"]
    for name in ("hyperbolic.json", "results.jsonl", "states/graph-distance-euclidean-2-0.npz"):
        out = tmp_path / name.replace("/", "-")
        assert run(WINGS[0], "hyperbolic", *short, "--out", out) == 0
        (out / name).write_text("{")
        capsys.readouterr()
        assert run(WINGS[0], "hyperbolic", "--resume", "--out", out) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("error: ") and "damaged" in said[-1]


def test_states_with_points_outside_the_ball_are_one_clear_line(tmp_path, capsys):
    short = [*SHORT, "--geometries", "poincare", "--dims", "2", "--control", "none", "--losses", "distance"]
    for one in WINGS:
        out = tmp_path / str(one)
        assert run(one, "hyperbolic", *short, "--out", out) == 0
        path = out / "states" / "graph-distance-poincare-2-0.npz"
        with np.load(path) as file:
            arrays = dict(file)
        arrays["model/points"] = 30 * arrays["model/points"]
        np.savez(path, **arrays)
        (out / "results.jsonl").unlink()
        capsys.readouterr()
        assert run(one, "hyperbolic", "--resume", "--out", out) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("error: ") and "outside the ball" in said


def test_nouns_are_embedded(tmp_path, capsys):
    """WordNet's own file, at the command line; --below takes one of its words."""
    path = tmp_path / "data.noun"
    path.write_text("\n".join(WORDNET) + "\n")
    short = [*SHORT, "--dims", "2", "--control", "none", "--rows", "3"]
    assert run(WINGS[1], "hyperbolic", *short, "--graph", path, "--below", "physical_entity", "--out", tmp_path / "out") == 0
    assert "data.noun below physical_entity, 3 nodes, 2 edges" in (tmp_path / "out" / "report.md").read_text()


def test_losses_have_names():
    assert set(LOSSES) == set(WINGS[0].module(EMBEDDING).LOSSES) and set(GEOMETRIES) == set(WINGS[0].module(EMBEDDING).GEOMETRIES)
