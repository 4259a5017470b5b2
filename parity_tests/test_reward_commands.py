"""The commands on preferences: what they write, how they go on, what they refuse."""

import json
import signal

import pytest

from numpy_ref import checkpoint_file, log
from numpy_ref.config import TrainConfig
from numpy_ref.data import chat_format
from numpy_ref.reward.settings import DPOConfig, RewardConfig
from parity_tests.trained import run
from parity_tests.wings import WINGS

SMALL = ("--steps", 4, "--batch", 4, "--eval-every", 2, "--save-every", 2, "--device", "cpu", "--dtype", "float32")
FEW = ("--pairs", 40, "--held-out-pairs", 12)
PAIR = {"prompt": "sort 312=", "chosen": "123", "rejected": "132"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A language model of bytes that knows no chat format."""
    out = tmp_path_factory.mktemp("base") / "run"
    model = ("--layers", 1, "--width", 16, "--heads", 2, "--feed-forward", 16, "--context", 48)
    assert run(WINGS[1], "train", "--data", "samples", "--out", out, *model, *SMALL) == 0
    return out


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    """{(wing, command): run folder}, half-way: two steps of four."""
    made = {}
    for wing in WINGS:
        for name in ("reward", "dpo"):
            out = tmp_path_factory.mktemp(name) / "run"
            assert run(wing, name, "--checkpoint", base, "--data", "sort-4", *FEW, "--out", out, *SMALL) == 0
            made[str(wing), name] = out
    return made


both = pytest.mark.parametrize("wing", WINGS, ids=str)


@both
@pytest.mark.parametrize("name", ["reward", "dpo"])
def test_a_run_folder_is_whole(folders, wing, name):
    folder = folders[str(wing), name]
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "log.jsonl", "checkpoint.npz", "training_curve.png", "chat.json", "objective.json", "data"} <= names
    assert ("judged.json" in names, "calibration.png" in names, "accuracy.png" in names) == (name == "reward",) * 3
    assert ("reference" in names) == (name == "dpo")
    rows = log.read_rows(folder / log.NAME)
    assert len(rows) == 4 and {"accuracy", "lead", "reward"} <= set(rows[0]) and "val_accuracy" in rows[1]
    model, _ = checkpoint_file.configs(checkpoint_file.read_header(folder))
    assert model.output == ("reward" if name == "reward" else "tokens") and model.vocab_size == 260
    assert chat_format.read(folder).base == 256


@both
@pytest.mark.parametrize("name", ["reward", "dpo"])
def test_the_other_wing_goes_on(folders, wing, name, tmp_path, capsys):
    """A copy of the run, two more steps, with the comparisons that lie in the folder."""
    other = WINGS[1 - WINGS.index(wing)]
    copy = tmp_path / "run"
    copy_folder(folders[str(other), name], copy)
    assert run(wing, name, "--resume", "--out", copy, "--steps", 6, "--device", "cpu") == 0
    assert log.read_rows(copy / log.NAME)[-1]["step"] == 6
    assert "done: 6 of 6 steps" in capsys.readouterr().err


def copy_folder(source, target):
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


@both
def test_models_are_judged(folders, wing, capsys, tmp_path):
    """One and several, by both wings alike; and as what chooses among a policy's answers."""
    models = [folders[str(one), "reward"] for one in WINGS]
    ask = ("judge", "--checkpoint", models[0], "--data", "sort-4", "--pairs", 20, "--device", "cpu")
    assert run(wing, *ask, "--json") == 0
    one = json.loads(capsys.readouterr().out)
    assert one["pairs"] == 20 and sum(one["calibration"]["count"]) == 20 == sum(one["margins"]["pairs"])
    assert min(one["margins"]["pairs"]) > 0  # margins that are equal, but for a rounding, are in one group
    policy = ("--policy", folders[str(wing), "dpo"], "--prompts", 2, "--samples", 4)
    assert run(wing, *ask, "--member", models[1], "--rule", "worst", *policy, "--out", tmp_path / "judged") == 0
    printed = capsys.readouterr().out
    assert "held-out pairs     20" in printed and "best of n" in printed
    assert {path.name for path in (tmp_path / "judged").iterdir()} == {
        "judged.json", "calibration.png", "accuracy.png", "best_of_n.png"}
    found = json.loads((tmp_path / "judged" / "judged.json").read_text())["best_of_n"]
    assert found["n"] == [1, 2, 4] and found["reward"] == sorted(found["reward"]) and found["oracle"] == sorted(found["oracle"])


def test_both_wings_say_the_same(folders, capsys):
    reports = []
    for wing in WINGS:
        policy = ("--policy", folders["numpy_ref", "dpo"], "--prompts", 2, "--samples", 2)
        model = folders["torch_impl", "reward"]
        assert run(wing, "judge", "--checkpoint", model, "--data", "sort-4", "--pairs", 15, *policy, "--device", "cpu", "--json") == 0
        reports.append(json.loads(capsys.readouterr().out))
    one, other = reports
    assert one["accuracy"] == other["accuracy"] and one["lead"] == pytest.approx(other["lead"], rel=1e-4, abs=1e-5)
    assert one["best_of_n"]["worth"] == pytest.approx(other["best_of_n"]["worth"], abs=1e-6)


@both
def test_files_of_pairs_and_of_rankings(base, wing, tmp_path):
    pairs, ranked = tmp_path / "pairs.jsonl", tmp_path / "ranked.jsonl"
    prompts = [f"p{n}" for n in range(40)]
    pairs.write_text("".join(json.dumps(PAIR | {"prompt": prompt, "margin": 0.5}) + "\n" for prompt in prompts))
    ranked.write_text("".join(json.dumps({"prompt": p, "ranked": ["a", "b", "c"][: 2 + n % 2]}) + "\n" for n, p in enumerate(prompts)))
    ask = ("reward", "--checkpoint", base, *SMALL, "--data")
    assert run(wing, *ask, ranked, "--out", tmp_path / "one", "--loss", "plackett_luce") == 0
    assert run(wing, *ask, pairs, "--held-out", pairs, "--out", tmp_path / "two", "--margin-scale", 1.0, "--centring", 0.01) == 0
    assert len((tmp_path / "two" / "data" / "held_out.jsonl").read_text().splitlines()) == 40


def refused(capsys, *arguments):
    """The error of a command: one line, status 2, no traceback."""
    capsys.readouterr()
    assert run(WINGS[0], *arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ") and not any("Traceback" in line for line in lines)
    return lines[-1]


def test_what_is_refused(base, folders, tmp_path, capsys):
    reward, dpo = folders["numpy_ref", "reward"], folders["numpy_ref", "dpo"]
    new = ("--out", tmp_path / "x", "--device", "cpu")
    from_base = ("reward", "--checkpoint", base, *new, *FEW, "--data")
    wrong = tmp_path / "wrong.jsonl"

    def line(record):
        wrong.write_text(json.dumps(PAIR) + "\n" + record + "\n")
        return refused(capsys, *from_base, wrong)

    assert "wrong.jsonl', line 2 is not JSON" in line("{")
    assert "line 2: \"chosen\" and \"rejected\" are the same answer" in line(json.dumps(PAIR | {"rejected": "123"}))
    assert "line 2: \"rejected\" is empty" in line(json.dumps(PAIR | {"rejected": ""}))
    assert "line 2: prompt and rejected make" in line(json.dumps(PAIR | {"rejected": "9" * 60}))
    assert "line 2: 3 answers are ranked" in line(json.dumps({"prompt": "a", "ranked": ["b", "c", "d"]}))
    wrong.write_text(json.dumps(PAIR) + "\n")
    assert "1 different prompts leave nothing to" in refused(capsys, *from_base, wrong)
    assert "No such file" in refused(capsys, *from_base, tmp_path / "none.jsonl")
    assert "there is no file 'sorting', and there is no task 'sorting'" in refused(capsys, *from_base, "sorting")
    assert "comparison 1 of sort-40: prompt and" in refused(capsys, *from_base, "sort-40")
    assert "is a reward model, which writes no text" in refused(capsys, "reward", "--checkpoint", reward, *new, "--data", "sort-4")
    assert "is a reward model" in refused(capsys, "dpo", "--checkpoint", reward, *new, "--data", "sort-4")
    assert "is a reward model" in refused(capsys, "generate", "--checkpoint", reward, "--prompt", "a")
    assert "is a model of text, not a reward model" in refused(capsys, "judge", "--checkpoint", base, "--data", "sort-4")
    assert "answers no prompts" in refused(capsys, "judge", "--checkpoint", reward, "--data", "sort-4", "--policy", base)
    assert "answers no prompts" in refused(capsys, "judge", "--checkpoint", reward, "--data", "sort-4", "--policy", reward)
    assert "give --data sort-6" in refused(capsys, "judge", "--checkpoint", reward, "--data", reward / "data/train.jsonl", "--policy", dpo)
    judged = ("judge", "--checkpoint", reward, "--data", "sort-4", "--policy", dpo)
    for name in ("--pairs", "--prompts", "--samples"):
        assert f"{name} 0 is not allowed" in refused(capsys, *judged, name, 0)
    assert "--seed -1 is not allowed" in refused(capsys, *judged, "--seed", -1)
    assert "--k -1.0 is not allowed" in refused(capsys, *judged, "--member", reward, "--rule", "lower", "--k", -1.0)
    for name in ("--pairs", "--held-out-pairs"):
        assert f"{name} -3 is not allowed" in refused(capsys, "reward", "--checkpoint", base, *new, "--data", "sort-4", name, -3)
    assert "--data is missing" in refused(capsys, "reward", "--checkpoint", base, *new)
    assert "already holds a run" in refused(capsys, "dpo", "--checkpoint", base, "--data", "sort-4", "--out", dpo)
    assert "was begun by the command dpo" in refused(capsys, "reward", "--resume", "--out", dpo)
    assert "is no run on preferences" in refused(capsys, "dpo", "--resume", "--out", base)
    assert "has beta=0.1, not 0.5" in refused(capsys, "dpo", "--resume", "--out", dpo, "--beta", 0.5)
    assert "--data belongs to a new run" in refused(capsys, "dpo", "--resume", "--out", dpo, "--data", "sort-4")
    assert "has seed=0, not 9" in refused(capsys, "reward", "--resume", "--out", reward, "--seed", 9)
    assert "centring=0.1 belongs to bradley_terry" in refused(
        capsys, *from_base, "sort-4", "--loss", "margin_ranking", "--centring", 0.1)
    assert "plackett_luce has no margin" in refused(capsys, *from_base, "sort-4", "--loss", "plackett_luce", "--margin", 1.0)
    assert "--output reward is not for `train`" in refused(capsys, "train", "--data", "samples", *new, "--output", "reward")
    (tmp_path / "damaged").mkdir()
    copy_folder(reward, tmp_path / "damaged")
    (tmp_path / "damaged" / "objective.json").write_text("{")
    assert "objective.json is damaged" in refused(capsys, "reward", "--resume", "--out", tmp_path / "damaged")
    assert not (tmp_path / "x").exists() or not (tmp_path / "x" / "checkpoint.npz").exists()


@pytest.mark.parametrize("name, flag", [("margin", -1.0), ("beta", 0.0), ("centring", float("nan"))])
def test_settings_have_bounds(name, flag):
    from numpy_ref.errors import UserError

    with pytest.raises(UserError, match=f"{name}="):
        (DPOConfig if name == "beta" else RewardConfig)(**{name: flag})


def test_ctrl_c_saves_and_says_how_to_go_on(base, tmp_path, monkeypatch, capsys):
    """A signal in the middle of a step: the step ends, the run is saved, the status is that of shells."""
    from numpy_ref.reward import loop

    whole = loop.reward_step

    def interrupted(*arguments, **keywords):
        signal.raise_signal(signal.SIGINT)
        return whole(*arguments, **keywords)

    monkeypatch.setattr(loop, "reward_step", interrupted)
    out = tmp_path / "run"
    assert run(WINGS[0], "reward", "--checkpoint", base, "--data", "sort-4", *FEW, "--out", out, *SMALL) == 130
    assert "stopped after step 1 and saved; go on with: python -m numpy_ref reward --resume" in capsys.readouterr().err
    assert checkpoint_file.read_header(out)["step"] == 1
    assert TrainConfig(**checkpoint_file.read_header(out)["train"]).steps == 4
