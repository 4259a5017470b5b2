"""Fine-tuning as a whole: both wings alike, resumed as if never stopped, judged, and used through the commands."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest

from numpy_ref import checkpoint_file, log
from numpy_ref.config import ModelConfig, SampleConfig, TrainConfig
from numpy_ref.data import chat_format, instructions
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.errors import UserError
from numpy_ref.sft import conversations, order_file, report
from numpy_ref.sft.settings import SFTConfig
from numpy_ref.tokenizer_commands import with_chat
from numpy_ref.tokenizers import byte
from parity_tests.test_loop import assert_same
from parity_tests.test_properties import random_params
from parity_tests.trained import NAMES, run, runs  # noqa: F401  (fixture)
from parity_tests.wings import WINGS, plain

both = pytest.mark.parametrize("wing", WINGS, ids=str)
CHAT = ChatFormat(256)
BASE = ModelConfig(context=40, layers=2, width=16, heads=2, feed_forward=32)
MODEL = dataclasses.replace(BASE, vocab_size=260)
TRAIN = TrainConfig(
    steps=10, batch=6, lr=1e-2, warmup=2, eval_every=5, save_every=4, dtype="float64", device="cpu", weight_decay=0.01
)


def examples(count=20, seed=0):
    """Prompts of many lengths and one or two turns, whose answers are their letters backwards."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        words = ["".join(rng.choice(list("abc"), rng.integers(1, 6))) for _ in range(1 + number % 2)]
        messages = []
        for word in words:
            messages += [{"role": "user", "content": word}, {"role": "assistant", "content": word[::-1]}]
        found.append(instructions.Example(tuple(messages), f"example {number}"))
    return found


def data_of(*groups, context=40, **settings):
    return conversations.tokenized(groups, CHAT, byte.encode, context, **settings)


def fine_tune(wing, out, settings=SFTConfig(), train=TRAIN, model=MODEL, data=None, **more):
    data = data or data_of(examples(), examples(8, 1), prompt_weight=settings.prompt_weight)
    base = {name: value * 0.2 for name, value in random_params(BASE).items()}
    held_out = data_of(examples(7, 2))
    return wing.module("sft.loop").fine_tune(model, train, settings, data, held_out, wing.array(base), out, **more)


SETTINGS = {
    "packed": (SFTConfig(), TRAIN),
    "padded, with weight on prompts": (SFTConfig(pack=False, prompt_weight=0.1, curriculum="length", mix_temperature=2.0), TRAIN),
    "micro-batches, self-paced": (SFTConfig(curriculum="self-paced", measure_every=3, curriculum_start=0.3), dataclasses.replace(TRAIN, accumulate=3)),
    "muon, competence": (SFTConfig(curriculum="competence", curriculum_share=1.0), dataclasses.replace(TRAIN, optimizer="muon", ema=0.9)),
    "adapters": (SFTConfig(lora_rank=2, curriculum="anti"), TRAIN),
}  # fmt: skip
settings = pytest.mark.parametrize("kind", SETTINGS.values(), ids=SETTINGS)


@settings
def test_ten_steps_are_the_same_on_both_sides(tmp_path, kind):
    """Weights, optimiser, log and order of the conversations: ``fine_tune`` in float64, to 1e-9."""
    ended = [fine_tune(wing, tmp_path / str(wing), *kind) for wing in WINGS]
    assert_same(*ended, tolerance=1e-9)
    ours, theirs = (log.read_rows(tmp_path / name / log.NAME) for name in NAMES)
    assert len(ours) == 10 and [list(row) for row in ours] == [list(row) for row in theirs]
    for row, other in zip(ours, theirs):
        assert all(abs(row[name] - other[name]) < 1e-9 for name in row if name not in ("time", "tokens_per_second"))
    orders = [(tmp_path / name / order_file.NAME).read_text().splitlines() for name in NAMES]
    assert [json.loads(line).get("conversations") for line in orders[0]] == [json.loads(line).get("conversations") for line in orders[1]]


@settings
@pytest.mark.parametrize("first, second", [(WINGS[0], WINGS[1]), (WINGS[1], WINGS[0])], ids=["numpy_then_torch", "torch_then_numpy"])
def test_a_run_goes_on_on_the_other_side(tmp_path, kind, first, second):
    """Stopped after 5 steps, which is no multiple of anything; resumed from the last save, by the other wing."""
    whole = fine_tune(first, tmp_path / "whole", *kind)
    fine_tune(first, tmp_path / "parts", *kind, stop_after=5)
    ended = fine_tune(second, tmp_path / "parts", *kind, resume=True)
    assert_same(whole, ended, tolerance=1e-9)
    assert (ended.step, ended.position, ended.tokens) == (whole.step, whole.position, whole.tokens)
    rows = [(tmp_path / name / order_file.NAME).read_text().splitlines() for name in ("whole", "parts")]
    assert [json.loads(row).get("conversations") for row in rows[0]] == [json.loads(row).get("conversations") for row in rows[1]]


@both
@pytest.mark.parametrize("kind", [SETTINGS["packed"], SETTINGS["micro-batches, self-paced"], SETTINGS["adapters"]], ids=["packed", "self-paced", "adapters"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, wing, kind):
    """Bit for bit: the log and the order are ahead of the last checkpoint, as after a kill."""
    whole = fine_tune(wing, tmp_path / "whole", *kind)
    fine_tune(wing, tmp_path / "parts", *kind, stop_after=7)
    checkpoint_file.named(tmp_path / "parts", 4).replace(tmp_path / "parts" / checkpoint_file.NAME)
    ended = fine_tune(wing, tmp_path / "parts", *kind, resume=True)
    assert_same(whole, ended, tolerance=0)
    assert (tmp_path / "whole" / order_file.NAME).read_bytes() == (tmp_path / "parts" / order_file.NAME).read_bytes()


@both
def test_packed_and_padded_runs_are_one_run(tmp_path, wing):
    """Not only a step: all of them, since the same conversations make up each batch."""
    packed = fine_tune(wing, tmp_path / "packed", SFTConfig(pack=True))
    padded = fine_tune(wing, tmp_path / "padded", SFTConfig(pack=False))
    assert_same(packed, padded, tolerance=1e-9)
    filled = [[row["filled"] for row in log.read_rows(tmp_path / name / log.NAME)] for name in ("packed", "padded")]
    assert np.mean(filled[0]) > np.mean(filled[1]) + 0.1


@both
def test_it_learns(tmp_path, wing):
    run = fine_tune(wing, tmp_path, train=dataclasses.replace(TRAIN, steps=40))
    rows = log.read_rows(tmp_path / log.NAME)
    assert np.mean([row["loss"] for row in rows[-5:]]) < np.mean([row["loss"] for row in rows[:5]]) - 1.0
    assert run.best["val_loss"] < 4.0


# -- conversations as tokens, and their losses ----------------------------------------------------------------------


def test_what_is_too_long_is_refused_or_cut():
    long = instructions.of("x" * 50, "y" * 60, "talk.jsonl, line 9")
    with pytest.raises(UserError, match="line 9: 114 tokens do not fit the context of 40"):
        data_of([long])
    whole, parts = data_of([long], context=113), data_of([long], long="split")
    assert len(whole) == 1 and list(parts.places) == [f"talk.jsonl, line 9, part {n}" for n in (1, 2)]
    learnt = whole.weights.sum()
    assert learnt == sum(parts.weights[a + 1 : b].sum() for a, b in zip(parts.borders, parts.borders[1:])) == 61
    assert parts.lengths.max() <= 40
    with pytest.raises(UserError, match="nothing to learn"):  # only by a tokenizer that is at fault
        conversations._pieces(long, type("Mute", (), {"encode": lambda *_: (np.zeros(5, np.int64), np.zeros(5))}), None, 40, 0.0, "refuse")


def test_every_token_of_a_long_conversation_is_predicted_once():
    rng = np.random.default_rng(0)
    talk = [{"role": role, "content": "".join(rng.choice(list("abcdef"), 30))} for _ in range(4) for role in ("user", "assistant")]
    long = instructions.Example(tuple(talk), "")
    ids, weights = CHAT.encode(talk, byte.encode, 0.5)
    parts = data_of([long], context=17, prompt_weight=0.5, long="split")
    pieces = [slice(a, b) for a, b in zip(parts.borders, parts.borders[1:])]
    assert np.array_equal(np.concatenate([parts.ids[p][1:] for p in pieces]), ids[1:])
    assert np.array_equal(np.concatenate([parts.weights[p][1:] for p in pieces]), weights[1:])
    assert all(parts.ids[a][-1] == parts.ids[b][0] for a, b in zip(pieces, pieces[1:]))


def test_prompts_are_held_out_as_a_whole():
    found = [instructions.of(f"prompt {n % 100}", f"answer {n}", "") for n in range(300)]
    train, held_out = conversations.split(found)
    assert len(train) + len(held_out) == 300 and 3 * 3 <= len(held_out) <= 3 * 25
    assert not {one.prompt[0]["content"] for one in train} & {one.prompt[0]["content"] for one in held_out}
    with pytest.raises(UserError, match="too few"):
        conversations.split(found[:1])


@both
def test_losses_of_conversations_are_those_of_their_tokens(wing):
    """``conversation_losses``, whatever the batch: each token's -ln p from the full forward pass of its conversation."""
    data = data_of(examples(9), prompt_weight=0.25)
    params = random_params(MODEL)
    expected = np.zeros((2, 9))
    for number, (a, b) in enumerate(zip(data.borders, data.borders[1:])):
        logits = wing.call("model.transformer", "transformer", data.ids[None, a : b - 1], params, MODEL)[0]
        nats = np.log(np.exp(logits).sum(-1)) - logits[np.arange(b - 1 - a), data.ids[a + 1 : b]]
        expected[:, number] = (nats * data.weights[a + 1 : b]).sum(), data.weights[a + 1 : b].sum()
    for size in (1, 4, 64):
        found = wing.call("sft.evaluate", "conversation_losses", params, MODEL, data.ids, data.weights, data.borders, size)
        assert np.abs(np.array(found) - expected).max() < 1e-9


@both
def test_model_weights_are_the_models(tmp_path, wing):
    loop, checkpoint = wing.module("sft.loop"), wing.module("training.checkpoint")
    run = fine_tune(wing, tmp_path, SFTConfig(lora_rank=2))
    merged = plain(checkpoint.load(tmp_path).params)
    assert all(np.array_equal(value, merged[name]) for name, value in plain(loop.model_weights(run)).items())
    whole = dataclasses.replace(run, frozen=None)
    assert loop.model_weights(whole) is whole.params


@both
def test_float8_and_adapters_do_not_go_together(tmp_path, wing):
    with pytest.raises(UserError, match="float8"):
        fine_tune(wing, tmp_path, SFTConfig(lora_rank=2), dataclasses.replace(TRAIN, float8=True))


# -- answers, judged ------------------------------------------------------------------------------------------------


@both
def test_answers_are_judged_against_gold(wing):
    """Greedy answers are those of ``generate`` alone; sampled ones differ, and count towards pass@k."""
    command_line = with_chat(wing.module("__main__").WING, CHAT)
    params = wing.array(random_params(MODEL))
    trained = checkpoint_file.Run(MODEL, TRAIN, params, {})
    golden = examples(5, 3)
    rows, summary = report.judged(command_line, trained, golden, SampleConfig(temperature=1.5), samples=4, tokens=6)
    for row, one in zip(rows, golden):
        prompt = CHAT.prompt(one.prompt, byte.encode)
        sample = SampleConfig(tokens=min(6, 40 - len(prompt)), greedy=True)
        alone = wing.module("inference.generate").generate(params, MODEL, [prompt], sample, stop=(CHAT.end,))[0]
        assert row["answer"] == CHAT.said(plain(alone), byte.decode) and row["ended"] == (len(alone) < sample.tokens)
        assert len(set(row["samples"])) > 1 and row["gold"] == one.answer and row["place"] == one.place
    assert summary["examples"] == 5 and {"pass@1", "pass@2", "pass@4", "bleu", "perplexity", *report.MEASURES} <= set(summary)
    shown = report.table(rows, summary)
    assert "pass@4 of 4 samples" in shown and "gold answer" in shown and json.loads(json.dumps(rows)) == rows
    with pytest.raises(UserError, match="leaves no room"):
        report.judged(command_line, trained, [instructions.of("x" * 60, "y", "here")])


def test_the_gold_answer_itself_is_perfect():
    rows = [
        {"exact": 1.0, "exact_match": 1.0, "f1": 1.0, "rouge_l": 1.0, "ended": True, "answer": "a b c d e", "gold": "a b c d e",
         "nats": 0.0, "tokens": 6, "samples": ["x", "y"], "right": 1}
    ]  # fmt: skip
    found = report.summary(rows)
    assert found["bleu"] == found["perplexity"] == found["exact"] == 1.0 and (found["pass@1"], found["pass@2"]) == (0.5, 1.0)


# -- the command line -----------------------------------------------------------------------------------------------

FEW = "--steps 4 --batch 4 --eval-every 2 --device cpu --judge 5".split()


@pytest.fixture(scope="session")
def tuned(runs, tmp_path_factory):  # noqa: F811
    """A run of each wing's command, on a file of conversations."""
    folder = tmp_path_factory.mktemp("tuned")
    lines = [json.dumps({"prompt": f"{n}?", "completion": f"{n}!"}) for n in range(60)]
    (folder / "talk.jsonl").write_text("\n".join(lines))
    for wing in WINGS:
        arguments = ["--checkpoint", runs[str(wing)], "--data", folder / "talk.jsonl", "--out", folder / str(wing)]
        assert run(wing, "sft", *arguments, *FEW) == 0
    return folder


@both
def test_the_command_fine_tunes_judges_and_goes_on(wing, tuned, tmp_path, capsys):
    out = shutil.copytree(tuned / str(wing), tmp_path / "run")
    for name in ("chat.json", "checkpoint.npz", "log.jsonl", "order.jsonl", "answers.jsonl", "sft.json", "training_curve.png", "config.json"):
        assert (out / name).is_file(), name
    assert checkpoint_file.read(out)[1]["model"]["vocab_size"] == 260
    other = WINGS[1 - WINGS.index(wing)]
    assert run(other, "sft", "--resume", "--out", out, "--steps", 6, "--judge", 2) == 0
    assert "exact, to the letter" in capsys.readouterr().out and len((out / "answers.jsonl").read_text().splitlines()) == 2
    assert log.read_rows(out / log.NAME)[-1]["step"] == 6 and len(log.read_rows(out / log.NAME)) == 6
    assert run(wing, "answers", "--checkpoint", out, "--data", tuned / "talk.jsonl", "--limit", 3, "--samples", 2, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 3
    assert run(wing, "generate", "--checkpoint", out, "--prompt", "a", "--tokens", 5) == 0


@both
def test_chat_asks_in_the_format_of_the_model(wing, tuned, capsys, monkeypatch):
    """What ``generate`` reads is the conversation in control ids, and what it says goes back in as the assistant's."""
    asked = []
    command_line = wing.module("__main__")
    generate = command_line.WING.generate

    def listening(params, config, prompts, sample, stop=(), on_token=None, **more):
        asked.append((CHAT.decode(prompts[0], byte.decode), stop))
        on_token(0, ord("o"))
        return generate(params, config, prompts, dataclasses.replace(sample, tokens=1), stop=stop)

    monkeypatch.setattr(command_line, "WING", dataclasses.replace(command_line.WING, generate=listening))
    monkeypatch.setattr("sys.stdin", io.StringIO("<|end|>\nhi\n"))
    assert run(wing, "chat", "--checkpoint", tuned / str(wing), "--system", "s") == 0
    system = {"role": "system", "content": "s"}
    first = {"role": "user", "content": "<|end|>"}
    assert asked[0] == ([system, first, {"role": "assistant", "content": ""}], (CHAT.end,))
    heard = {"role": "assistant", "content": "o"}
    assert asked[1][0] == [system, first, heard, {"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}] or (
        asked[1][0] == [system, {"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
    )  # the small context may have no room for both turns
    assert capsys.readouterr().out == "o\no\n"


@both
def test_adapters_are_written_and_merged_by_command(wing, runs, tmp_path):  # noqa: F811
    base, out = runs[str(wing)], tmp_path / "out"
    assert run(wing, "sft", "--checkpoint", base, "--data", "copy-2", "--out", out, *FEW, "--lora-rank", 2, "--examples", 20, "--held-out-examples", 5) == 0
    assert run(wing, "adapt", "--checkpoint", base, "--adapters", out / "adapters.npz", "--out", tmp_path / "merged") == 0
    load = wing.module("training.checkpoint").load
    one, other = load(out), load(tmp_path / "merged")
    assert one.model_config == other.model_config and chat_format.read(tmp_path / "merged") == CHAT
    assert all(np.array_equal(value, plain(other.params)[name]) for name, value in plain(one.params).items())


BAD = {
    "no model": (["--data", "sort-3"], "--checkpoint is missing"),
    "no data": (["--checkpoint", "RUN"], "--data is missing"),
    "missing data": (["--checkpoint", "RUN", "--data", "nowhere"], "there is no file 'nowhere'"),
    "missing file": (["--checkpoint", "RUN", "--data", "nowhere.jsonl"], "can't read"),
    "malformed line": (["--checkpoint", "RUN", "--data", "BAD"], "line 2 is not JSON"),
    "empty answer": (["--checkpoint", "RUN", "--data", "EMPTY"], "line 1: message 2, of the assistant, is empty"),
    "too long": (["--checkpoint", "RUN", "--data", "LONG", "--held-out", "copy-2"], "line 1: 104 tokens do not fit the context of 32"),
    "too few to hold out": (["--checkpoint", "RUN", "--data", "ONE"], "too few"),
    "unknown curriculum": (["--checkpoint", "RUN", "--data", "copy-2", "--curriculum", "alphabet"], "random"),
    "negative weight": (["--checkpoint", "RUN", "--data", "copy-2", "--prompt-weight", "-1"], "at least 0"),
    "rank beyond": (["--checkpoint", "RUN", "--data", "copy-2", "--lora-rank", "99"], "at most"),
    "unknown target": (["--checkpoint", "RUN", "--data", "copy-2", "--lora-rank", "2", "--lora-targets", "x"], "names none of"),
    "too many examples": (["--checkpoint", "RUN", "--data", "sort-2", "--examples", "100000"], "sort-2 has only"),
    "no examples": (["--checkpoint", "RUN", "--data", "copy-2", "--examples", "0"], "--examples 0 is not allowed"),
    "less than none to judge": (["--checkpoint", "RUN", "--data", "copy-2", "--judge", "-1"], "at least 0"),
    "quantised": (["--checkpoint", "QUANTISED", "--data", "copy-2"], "is quantised"),
    "no checkpoint": (["--checkpoint", "nowhere", "--data", "copy-2"], "no checkpoint"),
    "a run already": (["--checkpoint", "RUN", "--data", "copy-2", "--out", "RUN"], "--resume"),
    "no run of sft": (["--resume", "--out", "RUN"], "no run of `sft`"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@both
def test_bad_input_is_one_clear_line(wing, bad, runs, tmp_path, capsys):  # noqa: F811
    arguments, words = bad
    files = {"BAD": '{"prompt": "a", "completion": "b"}\nnope', "EMPTY": '{"prompt": "a", "completion": ""}'}
    files |= {"LONG": json.dumps({"prompt": "a", "completion": "b" * 99}), "ONE": '{"prompt": "a", "completion": "b"}'}
    for name, text in files.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    places = {name: str(tmp_path / f"{name}.jsonl") for name in files} | {"RUN": str(runs[str(wing)])}
    if "QUANTISED" in arguments:
        places["QUANTISED"] = str(tmp_path / "quantised")
        assert run(wing, "quantize", "--checkpoint", runs[str(wing)], "--bits", 8, "--out", places["QUANTISED"]) == 0
    arguments = [places.get(argument, argument) for argument in arguments]
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    capsys.readouterr()
    assert run(wing, "sft", *FEW, *arguments, *out) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: ") and words in told[-1] and sum(line.startswith("error") for line in told) == 1, told
    assert not (tmp_path / "out" / checkpoint_file.NAME).exists()


@both
def test_a_file_of_any_name_holds_its_own_prompts_out(wing, tuned, runs, tmp_path):  # noqa: F811
    """What is judged was not trained on, also where the file does not end in .jsonl."""
    source = shutil.copy(tuned / "talk.jsonl", tmp_path / "talk.txt")
    arguments = ["--checkpoint", runs[str(wing)], "--data", source, "--out", tmp_path / "run"]
    assert run(wing, "sft", *arguments, *FEW, "--judge", 100) == 0
    judged = {json.loads(line)["prompt"] for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()}
    held_out = {one.prompt[-1]["content"] for one in conversations.split(instructions.read(source))[1]}
    assert judged == held_out


@both
def test_resuming_other_conversations_is_refused(wing, tuned, tmp_path, capsys):
    out = shutil.copytree(tuned / str(wing), tmp_path / "run")
    for more, words in ((["--prompt-weight", 0.5], "prompt_weight=0.0"), (["--data", "copy-2"], "data="), (["--seed", 3], "seed=0")):
        assert run(wing, "sft", "--resume", "--out", out, *more) == 2
        assert words in capsys.readouterr().err
    talk = tmp_path / "talk.jsonl"  # an answer has changed meanwhile
    talk.write_text((tuned / "talk.jsonl").read_text().replace("11!", "12!"))
    (out / "sft.json").write_text((out / "sft.json").read_text().replace(str(tuned / "talk.jsonl"), str(talk)))
    assert run(wing, "sft", "--resume", "--out", out, "--steps", 9) == 2
    assert "no longer those" in capsys.readouterr().err


@both
def test_answers_of_nothing_are_refused(wing, tuned, capsys):
    for more, words in ((["--limit", 0], "at least 1"), (["--samples", -1], "at least 0"), (["--tokens", 0], "at least 1")):
        assert run(wing, "answers", "--checkpoint", tuned / str(wing), "--data", "copy-2", *more) == 2
        assert words in capsys.readouterr().err


@both
def test_answers_needs_a_chat_format(wing, runs, capsys):  # noqa: F811
    assert run(wing, "answers", "--checkpoint", runs[str(wing)], "--data", "copy-2") == 2
    assert "knows no chat format" in capsys.readouterr().err
