"""Training a reward model: pairs of answers a second, ours against TRL's RewardTrainer on the same model and pairs.

The pairs are of many lengths, as answers are. A step of ours begins with lists of ids: it pads, goes forward and
backward, clips and updates, as TRL's does, whose steps are timed from end to end inside its own ``train``. TRL runs
without the recomputation that it would switch on by itself.
"""

import importlib
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from bench import candidates, clock, gate, rows, work
from bench.report_parts import label, select, table
from numpy_ref.config import TrainConfig, parameter_count
from numpy_ref.presets import preset
from numpy_ref.reward.dataset import Comparison
from numpy_ref.reward.settings import RewardConfig

KIND = "reward"
VOCABULARY, CONTEXT = 260, 128
MODELS = {"llama-1m": 32, "llama-10m": 8}  # pairs a batch
BATCHES = 4  # different ones, in turn
SETTINGS = RewardConfig(centring=0.01)


def groups(options):
    """A group a model: NumPy at the smallest, ours in both formats, TRL in both."""
    if options.quick:
        return []
    return [_group(name, batch, options) for name, batch in MODELS.items()]


def _group(name, batch, options):
    cells = [("numpy", "float32")] * (name == "llama-1m")
    cells += [("torch", dtype) for dtype in work.FLOATS]
    cells += [("trl", dtype) for dtype in work.FLOATS if options.peers]
    return [
        {
            "kind": KIND, "name": f"pairs {name}", "implementation": who, "dtype": dtype, "compiled": False,
            "allocator": "default" if who == "trl" else "tuned", "modes": ["step"],
            "shape": {"preset": name, "pairs": batch, "context": CONTEXT},
            "device": "cpu" if who == "numpy" else options.device,
        }
        for who, dtype in cells
    ]  # fmt: skip


def config_of(job):
    """The preset's model as a reward model, with the embedding unscaled, as TRL has it."""
    shape = job["shape"]
    model = replace(preset(shape["preset"])[0], dropout=0.0, embedding_scale=1.0)
    return replace(model, vocab_size=VOCABULARY, context=shape["context"], output="reward")


def pairs(job):
    """Batches of Comparisons: prompts of 16 to 64 tokens, answers of 8 to 64, drawn alike for everybody."""
    rng, found = np.random.default_rng(3), []

    def text(prompt, low=8, high=65):
        return np.concatenate((prompt, rng.integers(0, 256, rng.integers(low, high))))

    for _ in range(BATCHES):
        batch = []
        for _ in range(job["shape"]["pairs"]):
            prompt = rng.integers(0, 256, rng.integers(16, 64))
            batch.append(Comparison((text(prompt), text(prompt)), (len(prompt),) * 2))
        found.append(batch)
    return found


def tokens_of(batch):
    return sum(len(text) for one in batch for text in one.texts)


# -- in the worker ------------------------------------------------------------------------------------------------


def measure(job):
    """Loss and gradients of the first batch against the reference, then the time of a step."""
    candidate = (TRL if job["implementation"] == "trl" else Ours)(job)
    config, batches = candidate.config, pairs(job)
    wanted = gate.cached(job.get("cache"), f"reward {config} {job['shape']}", lambda: reference(job, config))
    parity = gate.compare(candidate.results(), candidate.named(wanted), job["dtype"], candidates.SLACK)
    del wanted
    mode = {"tokens": round(sum(map(tokens_of, batches)) / len(batches)), "figures": {"pairs": job["shape"]["pairs"]}}
    mode |= {"seconds": clock.summary(candidate.seconds()), "memory": candidate.memory}
    return {"modes": {"step": mode}, "parity": parity, "notes": candidate.notes}


def weights(job, config):
    """The same initial weights for everybody, in float32."""
    from numpy_ref.model.initialise import initialise

    return gate.cached(job.get("cache"), f"weights {config}", lambda: initialise(config, 0, np.float32))


def reference(job, config):
    """Loss and gradients of the first batch by the float64 reference."""
    from numpy_ref.reward.step import reward_loss_and_grads

    params = {name: value.astype(np.float64) for name, value in weights(job, config).items()}
    train = TrainConfig(dtype="float64", device="cpu")
    loss, grads, _ = reward_loss_and_grads(params, pairs(job)[0], config, train, SETTINGS)
    return candidates.named(loss, without_bias(grads))


def without_bias(grads):
    """The gradients but for the head's bias, where those of two answers cancel to nothing one could compare."""
    return {name: grad for name, grad in grads.items() if name != "reward.bias"}


class Ours:
    """``reward_step`` of either wing."""

    def __init__(self, job):
        self.job, self.config = job, config_of(job)
        package = {"numpy": "numpy_ref", "torch": "torch_impl"}[job["implementation"]]
        self.module = importlib.import_module(f"{package}.reward.step")
        self.train = TrainConfig(steps=10_000, lr=1e-4, warmup=100, dtype=job["dtype"], device=job["device"])
        self.params, self.batches, self.memory = weights(job, self.config), pairs(job), None
        if job["implementation"] == "torch":
            import torch

            self.params = {name: torch.from_numpy(value.copy()).to(job["device"]) for name, value in self.params.items()}
        self.states = importlib.import_module(f"{package}.training.optimizer").init_states(self.params, self.train)
        self.notes = {"parameters": parameter_count(self.config)}

    def results(self):
        loss, grads, _ = self.module.reward_loss_and_grads(
            self.params, self.batches[0], self.config, self.train, SETTINGS
        )
        return candidates.named(loss, without_bias(grads))

    def named(self, arrays):
        return arrays

    def seconds(self):
        number = 0

        def step():
            nonlocal number
            batch = self.batches[number % BATCHES]
            _, self.params, self.states = self.module.reward_step(
                self.params, self.states, batch, self.config, self.train, SETTINGS, number
            )
            number += 1

        self.memory = clock.peak_memory(step, self.job["device"])
        return clock.timed(step, self.job["device"], self.job.get("budget", 6.0), 2 * BATCHES)


class TRL:
    """RewardTrainer on LlamaForSequenceClassification with our weights; its steps timed by a callback."""

    def __init__(self, job):
        import torch
        from transformers import LlamaConfig, LlamaForSequenceClassification

        from bench.llama_peers import PARTS, renaming

        self.job, self.config, self.memory = job, config_of(job), None
        config = self.config
        self.model = LlamaForSequenceClassification(
            LlamaConfig(
                vocab_size=config.vocab_size, hidden_size=config.width, intermediate_size=config.feed_forward,
                num_hidden_layers=config.layers, num_attention_heads=config.heads,
                num_key_value_heads=config.key_value_heads, head_dim=config.head_features,
                max_position_embeddings=config.context, rms_norm_eps=config.norm_eps, num_labels=1,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_base}, pad_token_id=VOCABULARY - 1,
                bos_token_id=None, eos_token_id=None,
            )
        )  # fmt: skip
        outer = {"token_embedding": "model.embed_tokens", "final_norm": "model.norm", "reward": "score"}
        self.renamed = renaming(config, "model.layers", PARTS, outer)
        arrays = self.named(weights(job, config))
        self.model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in arrays.items()})
        self.trainer, self.clock = self._trainer()
        self.notes = {"parameters": parameter_count(config), "version": "trl " + version("trl")}

    def named(self, arrays):
        """Our arrays under their names; their head has no bias."""
        found = {}
        for name, value in arrays.items():
            prefix = "grad." if name.startswith("grad.") else ""
            if name == "loss":
                found[name] = value
            elif name != "reward.bias":
                found |= {prefix + theirs: piece for theirs, piece in self.renamed({name.removeprefix(prefix): value}).items()}
        return found

    def results(self):
        """Loss and gradients of the first batch by their ``compute_loss``, in the precision of their training."""
        inputs = self.trainer.data_collator([self.trainer.train_dataset[i] for i in range(self.job["shape"]["pairs"])])
        with self.trainer.accelerator.autocast(), self._same_format():  # ``train`` would wrap the model in it
            loss = self.trainer.compute_loss(self.model, inputs)
        loss.backward()
        found = candidates.named(loss, {name: param.grad for name, param in self.model.named_parameters()})
        self.model.zero_grad(set_to_none=True)
        return found

    def seconds(self):
        """Seconds between the ends of steps, the first few left out."""
        with self._same_format():
            self.trainer.train()
        return np.diff(self.clock.ends)[BATCHES:].tolist()

    @contextmanager
    def _same_format(self):
        """Raise ParityError where their head, and so the model before it, did not compute in the job's number format."""
        seen = set()
        hook = self.model.score.register_forward_hook(lambda module, given, out: seen.add(str(out.dtype)))
        yield
        hook.remove()
        if seen != {f"torch.{self.job['dtype']}"}:
            told = f"computed in {', '.join(sorted(seen)) or 'nothing'}, not in {self.job['dtype']}"
            raise gate.ParityError({"worst": float("inf"), "output": "number format", "problem": told})

    def _trainer(self):
        """(their trainer over the same batches in the same order, the callback that times it)."""
        from datasets import Dataset
        from transformers import TrainerCallback
        from trl import RewardConfig as TheirConfig
        from trl import RewardTrainer

        class Clock(TrainerCallback):
            ends = []

            def on_step_end(self, *arguments, **keywords):
                self.ends.append(time.perf_counter())

        steps = self.job.get("steps", 10 * BATCHES)
        texts = [one.texts for _ in range(-(-steps // BATCHES)) for batch in pairs(self.job) for one in batch]
        columns = {name: [pair[i].tolist() for pair in texts] for i, name in enumerate(("chosen_ids", "rejected_ids"))}
        settings = TheirConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=self.job["shape"]["pairs"], max_steps=steps,
            learning_rate=1e-4, adam_beta2=0.95, weight_decay=0.1, max_grad_norm=1.0, gradient_checkpointing=False,
            bf16=self.job["dtype"] == "bfloat16", use_cpu=self.job["device"] == "cpu", report_to="none",
            logging_strategy="no", save_strategy="no", disable_tqdm=True, center_rewards_coefficient=SETTINGS.centring,
            max_length=None, dataloader_pin_memory=False, train_sampling_strategy="sequential",
        )  # fmt: skip
        watch, data = Clock(), Dataset.from_dict(columns)
        trainer = RewardTrainer(
            model=self.model, args=settings, train_dataset=data, processing_class=_tokenizer(), callbacks=[watch]
        )
        return trainer, watch


def _tokenizer():
    """A tokenizer that TRL asks for and has no use for: the pairs are ids already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {str(number): number for number in range(VOCABULARY)}
    known = Tokenizer(WordLevel(words, unk_token="0"))
    return PreTrainedTokenizerFast(tokenizer_object=known, pad_token=str(VOCABULARY - 1), eos_token=str(VOCABULARY - 2))


# -- the report ---------------------------------------------------------------------------------------------------


def sections(found, drawn):
    """Pairs a second of everybody, and ours against TRL's best."""
    found, parts = select(found, kind=KIND), []
    for name in dict.fromkeys(row["name"] for row in found):
        cells = [row for row in found if row["name"] == name]
        lines = [
            (label(row), f"{row['figures']['pairs'] / row['seconds']['median']:,.0f}", f"{row['tokens_per_second']:,.0f}",
             f"{1e3 * row['seconds']['median']:,.0f}") for row in cells
        ]  # fmt: skip
        lines = table(("who", "pairs/s", "tokens/s, padding not counted", "ms a step"), lines)
        shape = cells[0]["shape"]
        intro = f"Training a reward model, {shape['preset']}, {shape['pairs']} pairs a step of 24 to 128 tokens an answer."
        intro += " TRL runs as it comes, with the usual allocator, without recomputation, and with its own loop around a step."
        ours = [row for row in cells if row["implementation"] == "torch"]
        theirs = [row for row in cells if row["implementation"] == "trl" and ours and row["run"] == ours[0]["run"]]
        if theirs:
            lines += "\n\n" + "\n".join(filter(None, (_against(ours, theirs, dtype) for dtype in (None, *work.FLOATS))))
        parts.append(f"## Reward models: {shape['preset']}\n\n{intro}\n\n{lines}")
    return parts


def _against(ours, theirs, dtype):
    """How much faster the fastest of ours is than the fastest of theirs; of all, or in one number format, "" without one of both."""
    pairs = [[row for row in group if dtype in (None, row["dtype"])] for group in (ours, theirs)]
    if not all(pairs):
        return ""
    best, other = (min(group, key=lambda row: row["seconds"]["median"]) for group in pairs)
    low, middle, high = rows.ratio(other, best)
    told = f"In {dtype}" if dtype else "The best of each"
    return f"- {told}: {label(best)} trains **{middle:.2f}** [{low:.2f}, {high:.2f}] times as many pairs a second as {label(other)}."


PICTURES = {}
