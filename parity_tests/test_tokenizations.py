"""The experiment on tokenizations: true denominators, equal budgets, both sides the same, resume, one clear line for errors."""

import json
import math

import numpy as np
import pytest

from numpy_ref.patching import report
from numpy_ref.patching.arms import LABELS, SIZES, Settings, configs
from numpy_ref.patching.config import flops_per_byte
from numpy_ref.patching.experiment import ENTROPY_PART, Arm, borders_of, corpus, parted, rate, texts, thresholds_of, windows
from parity_tests.trained import run, wing  # noqa: F401  (fixture)
from parity_tests.wings import WINGS

SHORT = ["--data", "samples", "--size", "tiny", "--megabytes", "0.02", "--flops", "6e7", "--device", "cpu"]
TINY = SIZES["tiny"]


class OneBit:
    """A model that is one bit surprised by every token."""

    def __init__(self, config):
        self.config, self.seen = config, []

    def nats(self, inputs, targets, starts=None):
        self.seen.append((inputs, targets, starts))
        return targets.size * math.log(2)

    def step(self, inputs, targets, lr, starts=None):
        self.seen.append((inputs, targets, lr))
        return {"loss": math.log(2), "patches": float(inputs.size)}


# -- what is measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 48, 49, 50, 97, 1000])
def test_every_byte_but_the_first_is_predicted_once(size):
    """One bit a byte is one bit a byte, whatever the length, NUL bytes and all."""
    config = configs(TINY, 2.0)["bytes"]
    data = np.random.default_rng(0).integers(0, 3, size).astype(np.uint8)
    model = OneBit(config)
    assert Arm("bytes", model, TINY, 0, np.ones(256, np.int64)).bits_per_byte(data) == pytest.approx(1.0)
    predicted = np.concatenate([targets.ravel() for _, targets, _ in model.seen])
    assert np.array_equal(predicted, data[1:])
    for inputs, targets, _ in model.seen:
        assert np.array_equal(inputs[:, 1:], targets[:, :-1]) and inputs.shape[1] <= config.context


def test_tokens_are_divided_by_their_bytes():
    """Tokens of 1 to 4 bytes: one bit a token is fewer bits a byte, by the bytes of all tokens but the first."""
    config = configs(TINY, 2.0)["bpe"]
    sizes = np.concatenate([np.ones(256, np.int64), np.arange(config.vocab_size - 256) % 4 + 1])
    ids = np.random.default_rng(1).integers(0, config.vocab_size, 77)
    found = Arm("bpe", OneBit(config), TINY, 0, sizes).bits_per_byte(ids)
    assert found == pytest.approx((len(ids) - 1) / sizes[ids[1:]].sum())


def test_operations_are_spent_and_no_more():
    for name, config in configs(TINY, 2.3).items():
        model = OneBit(config)
        arm = Arm(name, model, TINY, 0, np.ones(config.vocab_size, np.int64))
        data = np.arange(300) % config.vocab_size
        while not arm.done:
            arm.train_step(data)
        step = 3 * flops_per_byte(config, 1.0) * TINY.batch * config.context
        assert TINY.flops <= arm.spent <= TINY.flops + 1.001 * step, name
        rates = [lr for _, _, lr in model.seen]
        assert max(rates) <= TINY.lr and rates[-1] < 0.2 * TINY.lr and len(rates) == arm.step
    assert rate(0.05, TINY) == pytest.approx(TINY.lr, rel=1e-3) and rate(1.0, TINY) == pytest.approx(0.1 * TINY.lr, rel=1e-3)


def test_models_cost_what_they_should():
    """The BPE transformer costs a byte what the byte transformer does, in every size."""
    for settings in SIZES.values():
        found = configs(settings, 2.7)
        byte, bpe = flops_per_byte(found["bytes"]), flops_per_byte(found["bpe"]) / 2.7
        assert 0.8 < bpe / byte < 1.2 and set(found) == set(LABELS)


def test_windows_are_those_of_the_text():
    data = np.arange(1000) % 251
    inputs, targets = windows(data, 5, 20, 3, 7)
    assert np.array_equal(inputs[:, 1:], targets[:, :-1]) and np.array_equal((inputs + 1) % 251, targets)
    assert not np.array_equal(inputs, windows(data, 5, 20, 3, 8)[0]) and not np.array_equal(inputs, windows(data, 5, 20, 4, 7)[0])


def test_parts_of_the_text_do_not_overlap():
    """Training, entropies and held-out text are different documents; tokens are the text."""
    train, entropy, held_out = texts("samples", TINY)
    assert train and entropy and held_out and held_out[:200] not in train + entropy and entropy[:200] not in train
    wing = WINGS[1].module("__main__").WING  # noqa: F811
    data = corpus("samples", TINY, wing.train_tokenizer["bpe"], wing.tokenizers["bpe"])
    assert data.bytes_of[data.held_out_ids].sum() == len(data.held_out) <= TINY.eval_bytes
    assert data.bytes_per_token == len(data.train) / len(data.train_ids) and data.train.tobytes().decode() == train


def test_no_document_is_most_of_a_part(tmp_path):
    """A long document that comes first is neither all that entropies are learnt from nor all that is measured."""
    rng = np.random.default_rng(0)
    for number in range(60):
        words = rng.integers(0, 10**9, 1500 if number == 17 else 40)
        (tmp_path / f"{number}.txt").write_text(" ".join(f"w{number} {word}\n\n" for word in words))
    train, entropy, held_out = texts(tmp_path, Settings(context=64, eval_bytes=4000))
    for part in (train, entropy, held_out):
        owners = [word.split()[0] for word in part.split("\n\n") if word.strip().startswith("w")]
        counts = sorted((owners.count(name) for name in set(owners)), reverse=True)
        assert len(counts) >= 3 and (part is train or counts[0] <= 0.5 * sum(counts))
    assert len(entropy) <= (len(train) + len(entropy)) / 8 and len(held_out) < 4100


@pytest.mark.parametrize("sizes", [[5], [5, 4], [100, 1, 1], [1, 1, 1], [3] * 40])
def test_documents_are_parted(sizes):
    """Every document is on one side, the entropies have one at least and no more than their part if many are there."""
    documents = [str(number % 10) * size for number, size in enumerate(sizes)]
    train, entropy = parted(documents)
    assert sorted(train + entropy) == sorted(documents) and entropy
    assert len(entropy) == 1 or sum(map(len, entropy)) <= sum(sizes) / ENTROPY_PART


def test_thresholds_make_patches_of_the_length_asked_for():
    """Of entropies that are all different: so many bytes a patch, on the text that they were chosen by."""
    rng = np.random.default_rng(0)
    known = {}

    def entropies(inputs):
        key = inputs.tobytes()
        if key not in known:
            known[key] = rng.uniform(0, 3, (len(inputs), inputs.shape[1] + 1))
        return known[key]

    settings = Settings(context=256, batch=16, patch_bytes=5.0)
    data = rng.integers(0, 256, 5000)
    thresholds = thresholds_of(entropies, data, settings)
    inputs = np.frombuffer(list(known)[0], np.int64).reshape(-1, 256)
    for name in ("blt-entropy", "blt-rise"):
        starts = borders_of(name, entropies, thresholds)(inputs)
        assert starts[:, :2].all() and starts[:, 2:].mean() == pytest.approx(0.2, abs=0.01)


# -- the whole ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """The experiment in float64 on both sides."""
    folders = {}
    for one in WINGS:
        folders[str(one)] = tmp_path_factory.mktemp(str(one)) / "out"
        assert run(one, "tokenizations", *SHORT, "--dtype", "float64", "--out", folders[str(one)]) == 0
    return folders


def results(folder):
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {row["arm"]: row for row in rows}


def test_both_sides_find_the_same(experiments):
    """Tokenizer, draws, ``Trainer``, patches and measure: the same numbers for every model."""
    one, other = (results(folder) for folder in experiments.values())
    assert set(one) == set(other) == set(LABELS)
    for name, row in one.items():
        assert row["bits_per_byte"] == pytest.approx(other[name]["bits_per_byte"], rel=1e-6), name
        for key in ("steps", "flops", "bytes_seen", "bytes_per_unit", "parameters"):
            assert row[key] == pytest.approx(other[name][key], rel=1e-9), (name, key)
        assert np.allclose(row["curve"], other[name]["curve"], rtol=1e-5)


def test_the_report_says_what_was_found(experiments):
    folder = experiments["torch_impl"]
    text, found = (folder / "report.md").read_text(), results(folder)
    for name, row in found.items():
        assert f"| {LABELS[name]} | {row['bits_per_byte']:.3f} |" in text
    best = min(found.values(), key=lambda row: row["bits_per_byte"])
    assert f"**{LABELS[best['arm']]}** predicts best" in text and "Entropies come from" in text
    for picture in ("bits_per_byte", "curves", "borders"):
        assert (folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG") and f"({picture}.png)" in text
    assert str(folder) not in text


WIDE = dict.fromkeys(("bytes_per_unit", "parameters", "flops_per_byte", "bytes_seen", "steps"), 1.0)


def test_sentences_follow_from_the_numbers():
    rows = [
        {"arm": arm, "seed": seed, "bits_per_byte": bits + seed / 100, "curve": []}
        for arm, bits in (("bytes", 3.0), ("bytes-ngrams", 2.5), ("blt-space", 2.4), ("hnet", 2.6))
        for seed in (0, 1)
    ]
    found = report.averages(rows)
    assert [row["arm"] for row in found] == ["blt-space", "bytes-ngrams", "hnet", "bytes"]
    assert [found[0][name] for name in ("lowest", "bits_per_byte", "highest")] == pytest.approx([2.4, 2.405, 2.41])
    assert "| BLT, space patches + n-grams | 2.405 (2.400 to 2.410) |" in report.table([row | WIDE for row in found])
    said = "\n".join(report.verdicts(found))
    assert "-0.500 (3.005 to 2.505)" in said
    assert "space patches + n-grams beats the byte transformer with n-grams (-0.100)" in said
    assert "n-grams does not beat the byte transformer with n-grams (+0.100)" in said


def test_stopped_and_resumed_is_as_if_never_stopped(tmp_path, capsys):
    short = [*SHORT, "--dtype", "float64", "--arms", "blt-entropy"]
    assert run(WINGS[1], "tokenizations", *short, "--out", tmp_path / "whole") == 0
    assert run(WINGS[1], "tokenizations", *short, "--out", tmp_path / "parts", "--time-budget", 0.001) == 0
    assert "--resume" in capsys.readouterr().err and not (tmp_path / "parts" / "results.jsonl").exists()
    for _ in range(2):  # a step each
        assert run(WINGS[1], "tokenizations", "--resume", "--out", tmp_path / "parts", "--time-budget", 0.001, "--dtype", "float64") == 0
    assert run(WINGS[1], "tokenizations", "--resume", "--out", tmp_path / "parts", "--dtype", "float64") == 0
    one, other = results(tmp_path / "whole"), results(tmp_path / "parts")
    for key in ("bits_per_byte", "steps"):
        assert one["blt-entropy"][key] == other["blt-entropy"][key]
    capsys.readouterr()
    assert run(WINGS[1], "tokenizations", "--resume", "--out", tmp_path / "parts", "--dtype", "float64") == 0
    assert "BLT, entropy patches" in capsys.readouterr().out  # nothing is left to do but the report


BAD = {
    "no data": ([], "--data is missing"),
    "no such arm": (["--data", "samples", "--arms", "bytes,words"], "'words'"),
    "an arm twice": (["--data", "samples", "--arms", "bytes,bytes"], "different ones"),
    "no arms": (["--data", "samples", "--arms", ","], "--arms"),
    "no operations": (["--data", "samples", "--flops", "0"], "flops"),
    "odd width": (["--data", "samples", "--width", "100"], "width=100"),
    "context of less than two patches": (["--data", "samples", "--context", "6", "--patch", "4"], "context=6"),
    "more context than text": (["--data", "samples", "--size", "tiny", "--context", "20000"], "more text"),
    "one byte a patch": (["--data", "samples", "--patch-bytes", "1"], "patch_bytes"),
    "few tokens": (["--data", "samples", "--size", "tiny", "--vocab-size", "200"], "200"),
    "nothing to resume": (["--resume"], "no experiment"),
    "no such text": (["--data", "/no/such/text"], "/no/such/text"),
}


@pytest.mark.parametrize("arguments, words", BAD.values(), ids=BAD)
def test_wrong_input_is_one_clear_line(arguments, words, wing, tmp_path, capsys):  # noqa: F811
    assert run(wing, "tokenizations", *arguments, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and words in said[-1]


def test_an_experiment_is_not_overwritten(experiments, capsys):
    folder = experiments["torch_impl"]
    assert run(WINGS[1], "tokenizations", *SHORT, "--out", folder) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(WINGS[1], "tokenizations", "--resume", "--flops", "1e9", "--out", folder) == 2
    assert "flops can't change" in capsys.readouterr().err
