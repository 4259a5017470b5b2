"""Fine-tuning against TRL: tokens a second of whole runs, and the memory of the loss at large vocabularies.

A run is one pass over the same conversations, with the same initial weights, in batches of as many conversations, by
each project's own loop: what is timed is everything that happens between two steps. The mean of the steps counts, as
batches differ in length. Prompts carry no loss. TRL runs without gradient checkpointing, which is its default and slower.
"""

import dataclasses
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import candidates, clock, gate, rows, weighted_loss
from bench.report_parts import NAMES, compared, milliseconds, select, size, table
from numpy_ref.config import TrainConfig, parameter_count
from numpy_ref.presets import preset

WARM = 2  # steps before the clock starts
TOKENS, WIDTH = 1024, 256  # of the loss
VOCABULARIES = (50_257, 128_000)


def groups(options):
    """Lists of jobs that take turns."""
    from bench.plan import job

    if options.quick:
        return []
    device, found = options.device, []
    shape = {"preset": "llama-1m", "vocabulary": 8192, "context": 256, "batch": 16, "steps": 12, "median": 40}
    kinds = [("torch", dtype, how) for dtype in ("bfloat16", "float32") for how in ("packed", "padded")]
    kinds += (
        [("trl", "bfloat16", "padded"), ("trl", "float32", "padded"), ("trl", "float32", "padding-free")]
        if options.peers
        else []
    )
    kinds.append(("numpy", "float32", "packed"))
    found.append(
        [
            job("tuning", "fine-tuning", who, dtype, "cpu" if who == "numpy" else device, ["step"], **shape, how=how)
            for who, dtype, how in kinds
        ]
    )
    for vocabulary in VOCABULARIES:
        shape = {"vocabulary": vocabulary, "tokens": TOKENS, "width": WIDTH}
        kinds = [("torch", "float32", how) for how in ("all logits", "answers, in chunks")]
        kinds += [("trl", "float32", "in tiles")] if options.peers else []
        found.append(
            [
                job("tuning", "weighted loss", who, dtype, device, ["both"], **shape, how=how)
                for who, dtype, how in kinds
            ]
        )
    return found


def measure(job):
    """The answer of a worker."""
    return (weighted_loss.measure if job["name"] == "weighted loss" else _run)(job)


# -- whole runs ---------------------------------------------------------------------------------------------------


def _run(job):
    """Seconds a step, tokens a step, after a check that the first step's loss is the reference's."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    data, config = conversations(job["shape"]), model_config(job["shape"])
    reference = gate.cached(job.get("cache"), f"tuning {job['shape']['preset']}", lambda: _reference(data, config, job))
    seconds, loss, notes = (_trl if job["implementation"] == "trl" else _ours)(job, data, config)
    parity = gate.compare({"loss": np.array(loss)}, reference, job["dtype"], candidates.SLACK)
    tokens = float(data.lengths[WARM * job["shape"]["batch"] :].sum()) / len(seconds)
    mean = sum(seconds) / len(seconds)
    mode = {
        "tokens": tokens,
        "seconds": {"median": mean, "fastest": min(seconds), "repeats": len(seconds)},
        "memory": clock.high_water(),
    }
    return {"modes": {"step": mode}, "parity": parity, "notes": notes | {"parameters": parameter_count(config)}}


def conversations(shape):
    """``Conversations`` of random tokens: prompts and answers of log-normal lengths, in no order."""
    from numpy_ref.sft.conversations import Conversations

    rng, count = np.random.default_rng(3), shape["batch"] * shape["steps"]
    prompt, answer = (np.exp(rng.normal(np.log(shape["median"]), 0.8, count)).astype(np.int64) + 2 for _ in range(2))
    prompt, answer = np.minimum(prompt, shape["context"] // 2), np.minimum(answer, shape["context"] // 2)
    borders = np.concatenate(([0], np.cumsum(prompt + answer)))
    weights = np.concatenate([np.repeat((0.0, 1.0), pair) for pair in zip(prompt, answer)])
    ids = rng.integers(0, shape["vocabulary"], borders[-1])
    return Conversations(ids, weights, borders, (count,), np.diff(borders).astype(float), ("",) * count)


def model_config(shape):
    """The preset's model with another vocabulary and context, as Hugging Face's Llama can be."""
    changes = {"vocab_size": shape["vocabulary"], "context": shape["context"], "embedding_scale": 1.0}
    return dataclasses.replace(preset(shape["preset"])[0], **changes)


def order_of(job):
    """The conversations of each step: in the order of the data, for everybody."""
    shape = job["shape"]
    return np.arange(shape["batch"] * shape["steps"]).reshape(shape["steps"], shape["batch"])


def _reference(data, config, job):
    """The loss of the first step, by the reference."""
    from numpy_ref.sft.evaluate import conversation_losses

    first, end = job["shape"]["batch"], data.borders[job["shape"]["batch"]]
    params = {name: value.astype(np.float64) for name, value in candidates.initial_params(config).items()}
    losses, share = conversation_losses(
        params, config, data.ids[:end], data.weights[:end], data.borders[: first + 1], 4
    )
    return {"loss": np.array(losses.sum() / share.sum())}


def _train_config(job):
    return TrainConfig(
        steps=job["shape"]["steps"], batch=job["shape"]["batch"], lr=1e-4, warmup=0, schedule="linear", final_lr=1.0, dtype=job["dtype"],
        device=job.get("device", "cpu"), eval_every=10**6, save_every=0, eval_tokens=1,
    )  # fmt: skip


def _ours(job, data, config):
    """(seconds of each step after the warm ones, loss of the first, notes) of this project's loop."""
    import importlib

    from numpy_ref import log
    from numpy_ref.sft.settings import SFTConfig

    loop = importlib.import_module(f"{candidates.package(job)}.sft.loop")
    inside, steps = loop.conversations, order_of(job)
    params = candidates.initial_params(config)
    if job["implementation"] == "torch":
        import torch

        params = {name: torch.from_numpy(value) for name, value in params.items()}
    held_out = dataclasses.replace(data, borders=data.borders[:2], places=data.places[:1], sources=(1,))
    ends, train_step = [], loop.train_step

    def as_drawn(drawn, wanted):
        return wanted if isinstance(drawn, np.ndarray) else drawn.new_tensor(wanted)

    def in_order(*arguments):  # the curriculum draws as always; the conversations are those of every candidate
        return as_drawn(inside(*arguments), steps[len(ends)])

    def timed(*arguments, **keywords):
        found = train_step(*arguments, **keywords)
        ends.append(time.perf_counter())
        return found

    loop.conversations, loop.train_step = in_order, timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = SFTConfig(pack=job["shape"]["how"] == "packed")
            loop.fine_tune(config, _train_config(job), settings, data, held_out, params, folder)
            first = log.read_rows(Path(folder) / log.NAME)[0]["loss"]
    finally:
        loop.conversations, loop.train_step = inside, train_step
    return np.diff(ends)[WARM - 1 :].tolist(), first, {}


def _trl(job, data, config):
    """The same of TRL's SFTTrainer on a Hugging Face Llama with our weights."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model = _llama(config)
    ids = [data.ids[a:b].tolist() for a, b in zip(data.borders, data.borders[1:])]
    labels = [
        np.where(data.weights[a:b] > 0, data.ids[a:b], -100).tolist() for a, b in zip(data.borders, data.borders[1:])
    ]
    ends, losses = [], []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(time.perf_counter())

    class Trainer(SFTTrainer):
        def compute_loss(self, *arguments, **keywords):
            loss = super().compute_loss(*arguments, **keywords)
            losses.append(float(loss.detach()))
            return loss

        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder, per_device_train_batch_size=job["shape"]["batch"], max_steps=job["shape"]["steps"], learning_rate=1e-4,
            lr_scheduler_type="constant", logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True, max_grad_norm=1.0,
            weight_decay=0.1, adam_beta2=0.95, optim="adamw_torch_fused", gradient_checkpointing=False, use_cpu=job.get("device", "cpu") == "cpu",
            bf16=job["dtype"] == "bfloat16", max_length=None, padding_free=job["shape"]["how"] == "padding-free",
            dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(
            model, settings, train_dataset=Dataset.from_dict({"input_ids": ids, "labels": labels}), processing_class=_tokenizer(config.vocab_size),
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    import trl

    return np.diff(ends)[WARM - 1 :].tolist(), losses[0], {"version": f"trl {trl.__version__}"}


def _llama(config):
    """A Hugging Face Llama of this config with the weights that everybody begins with."""
    import torch

    from bench import inference, llama_peers

    before, inference.model_config = inference.model_config, lambda job: config
    try:
        model, _, theirs, _ = llama_peers.hugging_face({})
    finally:
        inference.model_config = before
    arrays = {
        name: torch.from_numpy(np.array(value)) for name, value in theirs(candidates.initial_params(config)).items()
    }
    missing = model.load_state_dict(arrays, strict=False)
    assert not missing.unexpected_keys and not [name for name in missing.missing_keys if "rotary" not in name], missing
    return model.float()


def _tokenizer(vocabulary):
    """What SFTTrainer asks for and never uses: the data are tokens already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"t{number}": number for number in range(vocabulary)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, "t0")), pad_token="t0", eos_token="t1", unk_token="t0"
    )


# -- the report -----------------------------------------------------------------------------------------------------


def sections(found, drawn):
    """The section of the report."""
    found = select(found, kind="tuning")
    runs, losses = ([row for row in found if row["name"] == name] for name in ("fine-tuning", "weighted loss"))
    if runs:
        lines = [
            (
                NAMES[row["implementation"]],
                row["dtype"],
                row["shape"]["how"],
                f"{row['tokens_per_second']:,.0f}",
                milliseconds(row),
            )
            for row in sorted(runs, key=lambda row: -row["tokens_per_second"])
        ]
        text = f"## Fine-tuning\n\n{' '.join(__doc__.split(chr(10) * 2, 1)[1].split())}\n\n"
        text += table(("who", "format", "rows", "tokens/s", "ms a step"), lines)
        yield text + "\n\n" + "\n".join(filter(None, _compared(runs)))
    if losses:
        lines = []
        for row in sorted(losses, key=lambda row: row["shape"]["vocabulary"]):
            first = next(
                one
                for one in losses
                if one["shape"]["vocabulary"] == row["shape"]["vocabulary"] and one["shape"]["how"] == "all logits"
            )
            lines.append((f"{row['shape']['vocabulary']:,}", NAMES[row["implementation"]], row["shape"]["how"], size(row["memory"]),
                          milliseconds(row), f"{rows.ratio(first, row)[1]:.2f}"))  # fmt: skip
        words = f"Loss and gradients of {TOKENS} tokens of width {WIDTH}, of which half count; peak memory above what was in use before."
        yield f"### Memory of its loss\n\n{words}\n\n" + table(
            ("vocabulary", "who", "how", "memory", "ms", "times as fast as all logits"), lines
        )


def _compared(runs):
    """How much faster ours is than the best of TRL, in each format and at best."""
    theirs = [row for row in runs if row["implementation"] == "trl"]
    for dtype in (None, "float32", "bfloat16"):
        both = [
            [row for row in group if dtype in (None, row["dtype"])]
            for group in ([r for r in runs if r["implementation"] == "torch"], theirs)
        ]
        if all(both):
            ours, peer = (max(group, key=lambda row: row["tokens_per_second"]) for group in both)
            yield compared("Fine-tuning" + (f" in {dtype}" if dtype else ", the best of each"), ours, peer)


PICTURES = {}
