"""The second act of ``make demo``: the model that has learnt to write is taught to sort digits, then rewarded for it.

A hundred examples make it right about every other time. GRPO then draws eight answers to each of its prompts and makes
those more likely that turned out right; nobody shows it another answer.
"""

import dataclasses
from time import perf_counter

import torch_impl.__main__ as torch_side
from numpy_ref.config import SampleConfig
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.progress import Progress, clock
from numpy_ref.rl.prompts import Speech, TaskPrompts
from numpy_ref.rl.rewards import Judge, checker
from numpy_ref.rl.settings import TRAINING as REWARDED
from numpy_ref.rl.settings import GRPOConfig
from numpy_ref.sft import conversations
from numpy_ref.sft.settings import TRAINING as TAUGHT
from numpy_ref.sft.settings import SFTConfig
from numpy_ref.tasks.builtin import find
from numpy_ref.tokenizer_commands import keep, with_chat
from numpy_ref.tokenizers import byte
from torch_impl.grpo.loop import train_grpo
from torch_impl.inference.generate import generate
from torch_impl.rl.evaluate import held_out
from torch_impl.sft.loop import fine_tune
from torch_impl.training import checkpoint

TASK = find("sort-8")
CHAT = ChatFormat(256)
SPEECH = Speech(byte.encode, byte.decode, CHAT)
EXAMPLES, TEACHING, UPDATES = 100, 120, 50
ASKED, SHOWN = 200, 5
SETTINGS = GRPOConfig(tokens=12, eval_prompts=ASKED, minibatches=4, dynamic=1)


def perform(base, out, device, heading, steps=None):
    """Both parts, in folders below ``out``, and what came of them. ``steps``: at most so many of each."""
    start = perf_counter()
    heading(6, f"Second act: fine-tuning on {EXAMPLES} examples of sorting eight digits")
    taught = teach(base, out / "taught", device, steps)
    heading(7, "GRPO: rewards for right answers to other prompts")
    rewarded = reward(taught, out / "rewarded", device, steps)
    return show(taught, rewarded, perf_counter() - start)


def teach(base, out, device, steps=None):
    """The base fine-tuned on the examples, in the run folder ``out``; returns its Run."""
    config = dataclasses.replace(base.model_config, vocab_size=CHAT.vocab_size)
    train = dataclasses.replace(
        TAUGHT, steps=min(TEACHING, steps or TEACHING), batch=64, lr=1e-3, warmup=20, dtype="float32", device=str(device),
        eval_every=0, save_every=0,
    )  # fmt: skip
    found = [conversations.tokenized([conversations.examples(TASK.name, count, 0, side)], CHAT, byte.encode, config.context)
             for side, count in (("train", EXAMPLES), ("held_out", 64))]  # fmt: skip
    with_report(train, lambda report: fine_tune(config, train, SFTConfig(), *found, base.params, out, report=report))
    keep(with_chat(torch_side.WING, CHAT), out)
    return checkpoint.load(out, "float32", device)


def reward(taught, out, device, steps=None):
    """The taught model rewarded for right answers, in the run folder ``out``; returns its Run."""
    steps = min(UPDATES, steps or UPDATES)
    train = dataclasses.replace(REWARDED, steps=steps, warmup=5, beta2=0.999, device=str(device), eval_every=0, save_every=0)
    source, judge = TaskPrompts([TASK], SPEECH, seed=1), Judge((checker(),))  # not those of the examples
    run = with_report(train, lambda report: train_grpo(
        taught.model_config, train, SETTINGS, source, judge, taught.params, out, report=report
    ), rewards=True)  # fmt: skip
    keep(with_chat(torch_side.WING, CHAT), out)
    return run


def with_report(train, action, **shown):
    """What the action returns, which shows its progress."""
    report = Progress(train.steps, **shown)
    try:
        return action(report)
    finally:
        report.close()


def show(taught, rewarded, seconds):
    """Figures and some answers of both models to held-out prompts."""
    prompts, judge = TaskPrompts([TASK], SPEECH).held_out(ASKED), Judge((checker(),))
    both = [held_out(run.params, run.model_config, prompts, SPEECH, judge, SETTINGS) for run in (taught, rewarded)]
    print(f"\n{ASKED} held-out prompts      fine-tuned   and rewarded")
    for name, words in (("greedy", "right, greedy"), ("pass_1", "right, sampled"), ("pass_8", "any of 8 samples")):
        print(f"{words:<24}{both[0][name]:>10.1%}{both[1][name]:>15.1%}")
    print()
    for place, prompt in enumerate(prompts[:SHOWN]):
        said = [answer(run, prompt) for run in (taught, rewarded)]
        marks = ["" if one == prompt.example.answer else "  (wrong)" for one in said]
        print(f"{prompt.example.prompt:<24}  {said[0]}{marks[0]:<10}  {said[1]}{marks[1]}".rstrip())
    print(f"\nin {clock(seconds)} minutes")
    return both


def answer(run, prompt):
    """The model's likeliest answer to a prompt."""
    sample = SampleConfig(tokens=SETTINGS.tokens, greedy=True)
    (ids,) = generate(run.params, run.model_config, [list(prompt.ids)], sample, stop=SPEECH.stop)
    return SPEECH.answer(ids.tolist())
