"""An update of GRPO and PPO, rollout included: ours against TRL's GRPOTrainer on the same model, prompts and lengths.

An update draws a group of completions for each prompt, rewards them, and takes one optimiser step on all of them. Each
project's own loop is timed from step to step. Rewards are the share of some tokens, so that no group is without a lesson.
Nobody recomputes activations. PPO has no peer: TRL 1.16 has no PPO trainer any more.
"""

import dataclasses
import importlib
import os
import tempfile
import time

import numpy as np

from bench import candidates, clock, gate, tuning, work
from bench.report_parts import compared, label, select, size, table
from numpy_ref.config import TrainConfig, parameter_count
from numpy_ref.presets import preset
from numpy_ref.rl.prompts import Prompt
from numpy_ref.rl.rewards import Each, Judge
from numpy_ref.rl.settings import GRPOConfig, PPOConfig

WARM = 2  # updates before the clock starts
LOW = 0.5  # share of the vocabulary that is rewarded
LARGE = 50_257
SHAPE = {"preset": "llama-1m", "vocabulary": 260, "context": 32, "prompts": 32, "group": 8, "prompt": 18, "tokens": 10}


def groups(options):
    """Lists of jobs that take turns."""
    from bench.plan import job

    if options.quick:
        return []

    def update(who, dtype, method="GRPO", **changes):
        device = "cpu" if who == "numpy" else options.device
        shape = SHAPE | {"steps": 12, "method": method} | changes
        return job("updates", f"{method} {shape['vocabulary']}", who, dtype, device, ["step"],
                   "default" if who == "trl" else "tuned", **shape)  # fmt: skip

    peers = ["trl"] * options.peers
    found = [[update(who, dtype) for who in ("torch", *peers) for dtype in ("float32", "bfloat16")]]
    found[0] += [update("numpy", "float32", steps=5), update("torch", "float32", "PPO")]
    found.append([update(who, "float32", vocabulary=LARGE, steps=4) for who in ("torch", *peers)])
    return found


def measure(job):
    """Loss, gradients and advantages of a given rollout against the reference, then the time of an update."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    candidate = (Theirs if job["implementation"] == "trl" else Ours)(job)
    parity = None
    if job["shape"]["method"] == "GRPO":
        known = f"update {candidate.config} {sorted(job['shape'].items())}"
        wanted = gate.cached(job.get("cache"), known, lambda: Ours(job | {"implementation": "numpy"}, "float64").results())
        parity = gate.compare(candidate.results(), candidate.named(wanted), job["dtype"], candidates.SLACK)
        del wanted
    seconds, split, tokens, memory = candidate.updates()
    mode = {"tokens": tokens, "seconds": clock.summary(seconds), "memory": memory, "figures": split}
    return {"modes": {"step": mode}, "parity": parity, "notes": candidate.notes | {"parameters": parameter_count(candidate.config)}}


def model_config(shape):
    """The preset's model with another vocabulary and context, as Hugging Face's Llama can be."""
    changes = {"vocab_size": shape["vocabulary"], "context": shape["context"], "embedding_scale": 1.0, "dropout": 0.0}
    return dataclasses.replace(preset(shape["preset"])[0], **changes)


def prompts(shape, number=0):
    """The ids of the prompts of an update, (P, n)."""
    rng = np.random.default_rng((7, number))
    return rng.integers(0, shape["vocabulary"] - 4, (shape["prompts"], shape["prompt"]))


def reward(ids, shape):
    """The share of a completion's tokens that come early in the vocabulary."""
    return sum(token < LOW * shape["vocabulary"] for token in ids) / shape["tokens"]


def rollout(shape):
    """A rollout that nobody drew: the same ids, lengths, old log-probabilities and rewards for everybody."""
    rng, rows = np.random.default_rng(11), shape["prompts"] * shape["group"]
    drawn = rng.integers(0, shape["vocabulary"] - 4, (rows, shape["tokens"]))
    lengths = rng.integers(2, shape["tokens"] + 1, rows)
    shown = np.arange(shape["tokens"]) < lengths[:, None]
    tokens = np.concatenate((np.repeat(prompts(shape), shape["group"], 0), np.where(shown, drawn, 0)), 1)
    old = -np.log(shape["vocabulary"]) + rng.normal(0, 0.2, drawn.shape)
    return tokens, lengths, shown, old, rng.random((shape["prompts"], shape["group"]))


class Source:
    """Prompts as our loop takes them: ids without a text."""

    tasks = ()

    def __init__(self, shape):
        self.shape, self.speech = shape, self
        self.stop = (shape["vocabulary"] - 1,)

    def answer(self, ids):
        return ""

    def take(self, position, count, level=None):
        rows = np.concatenate([prompts(self.shape, position + number) for number in range(-(-count // self.shape["prompts"]))])
        return [Prompt(tuple(map(int, row))) for row in rows[:count]]


class Ours:
    """Iterations of either wing."""

    def __init__(self, job, dtype=None):
        self.job, self.shape, self.dtype = job, job["shape"], dtype or job["dtype"]
        self.config, self.notes, package = model_config(self.shape), {}, candidates.package(job)
        self.step, self.loop = (importlib.import_module(f"{package}.rl.{name}") for name in ("step", "loop"))
        self.rooms = {name: importlib.import_module(f"{package}.{name}") for name in (
            "grpo.loop", "ppo.loop", "grpo.loss", "ppo.loss", "grpo.advantages")}  # fmt: skip
        params = candidates.initial_params(self.config)
        self.params = {name: value.astype(np.float64 if self.dtype == "float64" else np.float32) for name, value in params.items()}
        if job["implementation"] == "torch":
            import torch

            self.params = {name: torch.from_numpy(value) for name, value in self.params.items()}
        same = {"prompts": self.shape["prompts"], "group": self.shape["group"], "tokens": self.shape["tokens"], "kl_every": 0}
        self.settings = GRPOConfig(**same)
        if self.shape["method"] == "PPO":
            self.settings = PPOConfig(**same | {"prompts": same["prompts"] * same["group"], "group": 1, "kl_reward": 0.0})

    def results(self):
        """Advantages, loss and gradients of the given rollout."""
        tokens, lengths, shown, old, rewards = rollout(self.shape)
        before = self.shape["prompt"] - 1
        mask = np.concatenate((np.zeros((len(tokens), before), bool), shown), 1)
        old = np.concatenate((np.zeros((len(tokens), before)), np.where(shown, old, 0)), 1)
        batch = {"tokens": tokens, "mask": mask, "logprobs": old, "starts": np.full(len(tokens), before + 1), "lengths": lengths}
        batch["prompts"] = np.arange(len(tokens)) // self.shape["group"]
        if self.job["implementation"] == "torch":
            import torch

            batch = {name: torch.from_numpy(value) for name, value in batch.items()}
            rewards = torch.from_numpy(rewards)
        advantages = self.rooms["grpo.advantages"].group_advantages(rewards)
        batch |= {"advantages": advantages.reshape(-1, 1), "kept": None, "reference": None}
        compute = {"dtype": getattr(torch, self.dtype)} if self.job["implementation"] == "torch" else {}
        loss, grads, *_ = self.step.policy_gradients(
            self.params, batch, self.config, self.settings, self.rooms["grpo.loss"].grpo_loss, 0.0, "token", **compute
        )
        return candidates.named(loss, grads)

    def named(self, arrays):
        return arrays

    def updates(self):
        """(seconds of each update after the warm ones, where they went, new tokens of one, peak memory)."""
        method = self.shape["method"].lower()
        room, objective = self.rooms[f"{method}.loop"], getattr(self.rooms[f"{method}.loss"], f"{method}_loss")
        train = TrainConfig(
            steps=10_000, lr=1e-5, warmup=0, final_lr=1.0, dtype=self.dtype, device=self.job.get("device", "cpu"), weight_decay=0.0
        )
        config = self.loop.output_of(self.config, "value" if method == "ppo" else "tokens")
        judge = Judge((Each("low", lambda one: reward(one.ids, self.shape)),))
        source, known = Source(self.shape), None
        seconds, rows = [], []
        with tempfile.TemporaryDirectory() as folder:
            run, base = self.loop.begin(config, train, self.params, folder)
        for number in range(self.shape["steps"]):
            if number == WARM:
                clock.return_free_memory()
                known = clock.reset_high_water() and clock.high_water()
            start = time.perf_counter()
            rows.append(self.loop.iterate(run, base, source, judge, self.settings, room.advantages, objective, "token"))
            seconds.append(time.perf_counter() - start)
        peak = clock.high_water() - known if known else None
        seconds, rows = seconds[WARM:], rows[WARM:]
        split = {name: float(np.median([row[f"seconds_{name}"] for row in rows])) for name in ("generation", "scoring", "update")}
        return seconds, split, float(np.mean([row["new_tokens"] for row in rows])), peak


class Theirs:
    """GRPOTrainer on LlamaForCausalLM with our weights."""

    def __init__(self, job):
        from importlib.metadata import version

        self.job, self.shape = job, job["shape"]
        self.config = model_config(self.shape)
        self.model = tuning._llama(self.config)
        self.notes, self.ends, self.generated, self.lengths = {"version": "trl " + version("trl")}, [], [], []
        self.trainer = self._trainer()

    def named(self, arrays):
        """Our arrays under their names."""
        grads = {name.removeprefix("grad."): value for name, value in arrays.items() if name.startswith("grad.")}
        return {"loss": arrays["loss"]} | {f"grad.{name}": value for name, value in self._renamed(grads).items()}

    def _renamed(self, arrays):
        from bench.llama_peers import PARTS, renaming

        outer = {"token_embedding": "model.embed_tokens", "final_norm": "model.norm", "output": "lm_head"}
        return renaming(self.config, "model.layers", PARTS, outer)(arrays)

    def results(self):
        """Loss and gradients of the given rollout by their ``_compute_loss``, under their advantages' formula."""
        import torch

        tokens, lengths, shown, old, rewards = (torch.from_numpy(value) for value in rollout(self.shape))
        prompt = self.shape["prompt"]
        spread = rewards.std(1, keepdim=True) + 1e-4
        inputs = {
            "prompt_ids": tokens[:, :prompt], "prompt_mask": torch.ones_like(tokens[:, :prompt]),
            "completion_ids": tokens[:, prompt:], "completion_mask": shown.long(), "old_per_token_logps": old.float(),
            "advantages": ((rewards - rewards.mean(1, keepdim=True)) / spread).reshape(-1).float(),
            "num_items_in_batch": shown.sum(),
        }  # fmt: skip
        self.model.train()
        self.trainer.current_gradient_accumulation_steps = 1
        with self.trainer.compute_loss_context_manager():
            loss = self.trainer._compute_loss(self.model, inputs)
        loss.backward()
        found = candidates.named(loss, {name: param.grad for name, param in self.model.named_parameters()})
        self.model.zero_grad(set_to_none=True)
        return found

    def updates(self):
        self.trainer.train()
        seconds = np.diff(self.ends)[WARM - 1 :].tolist()
        generation = self.generated[WARM : WARM + len(seconds)]
        split = {"generation": float(np.median(generation)), "scoring": 0.0}  # theirs are one function
        split["update"] = float(np.median(seconds)) - split["generation"]
        return seconds, split, float(np.mean(self.lengths[WARM:])), self.peak

    def _trainer(self):
        from datasets import Dataset
        from transformers import TrainerCallback
        from trl import GRPOConfig as TheirConfig
        from trl import GRPOTrainer

        outer = self

        class Clock(TrainerCallback):
            def on_step_end(self, *_, **__):
                outer.ends.append(time.perf_counter())
                if len(outer.ends) == WARM:
                    clock.return_free_memory()
                    outer.known = clock.reset_high_water() and clock.high_water()
                elif len(outer.ends) > WARM:
                    outer.peak = clock.high_water() - outer.known if outer.known else None

        class Trainer(GRPOTrainer):
            def _generate_and_score_completions(self, inputs):
                start = time.perf_counter()
                found = super()._generate_and_score_completions(inputs)
                outer.generated.append(time.perf_counter() - start)
                outer.lengths.append(float(found["completion_mask"].sum()))
                return found

        def low(completion_ids, **_):
            return [reward(ids, outer.shape) for ids in completion_ids]

        shape, rows = self.shape, self.shape["prompts"] * self.shape["group"]
        drawn = (row for number in range(shape["steps"]) for row in prompts(shape, number))
        texts = [" ".join(f"t{token}" for token in row) for row in drawn]
        settings = TheirConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=rows, num_generations=shape["group"], max_steps=shape["steps"],
            max_completion_length=shape["tokens"], learning_rate=1e-5, lr_scheduler_type="constant", adam_beta2=0.95, weight_decay=0.0,
            max_grad_norm=1.0, gradient_checkpointing=False, bf16=self.job["dtype"] == "bfloat16", report_to=[],
            use_cpu=self.job.get("device", "cpu") == "cpu", logging_strategy="no", save_strategy="no", disable_tqdm=True,
            dataloader_pin_memory=False, beta=0.0, temperature=1.0, loss_type="dapo", epsilon=0.2, epsilon_high=0.2, optim="adamw_torch_fused", shuffle_dataset=False,
        )  # fmt: skip
        data = Dataset.from_dict({"prompt": texts})
        return Trainer(self.model, low, settings, data, processing_class=_tokenizer(shape["vocabulary"]), callbacks=[Clock()])


def _tokenizer(vocabulary):
    """Words t0, t1, ... for the ids; the last ends a text."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    known = Tokenizer(WordLevel({f"t{number}": number for number in range(vocabulary)}, "t0"))
    known.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    end, filling = f"t{vocabulary - 1}", f"t{vocabulary - 2}"
    return PreTrainedTokenizerFast(tokenizer_object=known, pad_token=filling, eos_token=end, padding_side="left")


# -- the report ---------------------------------------------------------------------------------------------------


def sections(found, drawn):
    """Updates a second of everybody, where the time goes, memory: a table for each size of the vocabulary."""
    found, parts = select(found, kind="updates"), []
    if found:
        parts.append(f"## Updates of GRPO and PPO\n\n{' '.join(__doc__.split(chr(10) * 2, 1)[1].split())}")
    for vocabulary in sorted({row["shape"]["vocabulary"] for row in found}):
        cells = [row for row in found if row["shape"]["vocabulary"] == vocabulary]
        parts.append("\n\n".join((_words(cells[0]["shape"]), table(TITLES, map(_line, cells)), "\n".join(_ratios(cells)))))
    return parts


TITLES = ("who", "updates/s", "new tokens/s", "s generation", "scoring", "update", "memory")


def _words(shape):
    return (
        f"{shape['preset']}, vocabulary of {shape['vocabulary']:,}; {shape['prompts']} prompts of {shape['prompt']} tokens x "
        f"{shape['group']} completions of at most {shape['tokens']} (PPO: {shape['prompts'] * shape['group']} prompts). TRL's generation "
        "includes its scoring. Memory: the peak of the updates above what was in use before."
    )


def _line(row):
    parts = (row["figures"][part] for part in ("generation", "scoring", "update"))
    return (
        f"{label(row)}, {row['shape']['method']}", f"{1 / row['seconds']['median']:.2f}", f"{row['tokens_per_second']:,.0f}",
        *(f"{seconds:.3f}" if seconds else "" for seconds in parts), size(row["memory"]) if row.get("memory") else "",
    )  # fmt: skip


def _ratios(cells):
    """How many times faster ours is, in each format."""
    grpo = [row for row in cells if row["shape"]["method"] == "GRPO"]
    for dtype in work.FLOATS:
        ours, theirs = ([row for row in grpo if (row["implementation"], row["dtype"]) == (who, dtype)] for who in ("torch", "trl"))
        yield from filter(None, [compared(f"GRPO in {dtype}", ours[0], theirs[0])] if ours and theirs else [])


PICTURES = {}
