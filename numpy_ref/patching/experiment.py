"""The experiment on tokenizations: the same text, the same number of operations, cut in different ways.

    text        a part of a corpus, whole documents held out; a part of the training text is for the entropies alone
    training    windows at random places, AdamW, warm-up and cosine, until the operations are spent
    measure     bits per byte of held-out text: nats of all predicted tokens / ln 2 / the bytes that these tokens are

Every byte of the held-out text but the first token is predicted once, whatever the tokens are, and divided by: NUL bytes,
special characters, all.
"""

import hashlib
import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from numpy_ref.config import TrainConfig
from numpy_ref.data.corpus import documents
from numpy_ref.data.split import deduplicated, split
from numpy_ref.errors import UserError
from numpy_ref.patching.arms import ENTROPY
from numpy_ref.patching.config import flops_per_byte, parameter_count
from numpy_ref.rng import STREAM_ORDER, uniform
from numpy_ref.tokenizers.patches import entropy_starts, space_starts
from numpy_ref.training.schedules import warmup_cosine

DEFINITION = "an experiment: the wings compute"

ENTROPY_PART = 8  # one in so many bytes of the training text is for the entropy model alone
STEPS = 1 << 20  # into how many parts the schedule divides a run, whose number of steps is not known before


@dataclass
class Corpus:
    """Texts as bytes (n,) and, for BPE, as ids with the number of bytes that each id is."""

    train: np.ndarray
    entropy: np.ndarray
    held_out: np.ndarray
    train_ids: np.ndarray
    held_out_ids: np.ndarray
    bytes_of: np.ndarray  # (V,)
    training_text: str

    @property
    def bytes_per_token(self):
        """Of the training text."""
        return float(len(self.train) / len(self.train_ids))


def texts(source, settings):
    """(training text, text of the entropy model, held-out text) of a corpus, repeated passages left out.

    Documents are taken in the order of the hash of their names until there are enough. What is measured, at most about
    ``eval_bytes``, is the beginning of every held-out document, the same share of each: one long document would stand for
    all. Raises UserError for too little.
    """
    found, limit = documents(source), int(settings.megabytes * 1e6)
    chosen, size = [], 0
    for document in sorted(found, key=lambda one: hashlib.sha256(one.name.encode("utf-8", "replace")).digest()):
        if size < limit:
            chosen.append(document)
            size += document.size
    sides = {"train": [], "validation": []}
    for side, _, text in deduplicated(*split(chosen, 0.1)):
        sides[side].append(text)
    share = min(1.0, settings.eval_bytes / max(1, sum(map(len, sides["validation"]))))
    held_out = [text[: math.ceil(share * len(text))] for text in sides["validation"]]
    parts = *parted(sides["train"]), held_out
    train, entropy, held_out = ("".join(text + "\n\n" for text in part) for part in parts)
    shortest = min(len(train), len(entropy), len(held_out))
    if shortest < 4 * settings.context:
        raise UserError(
            f"{str(source)!r} gives {shortest} characters for one of training, entropies and held-out text; "
            f"give more text, or a smaller --context than {settings.context}"
        )
    return train, entropy, held_out


def parted(documents):
    """(documents to train on, documents for the entropies) of a list of texts.

    A document goes to the entropies as long as they have at most one ENTROPY_PART of all so far: they get documents from
    everywhere, and none that would be most of what they have. If no document is short enough, the shortest.
    """
    train, entropy, size, total = [], [], 0, 0
    for text in documents:
        total += len(text)
        if size + len(text) <= total / ENTROPY_PART:
            entropy.append(text)
            size += len(text)
        else:
            train.append(text)
    if not entropy and train:
        entropy = [train.pop(min(range(len(train)), key=lambda i: len(train[i])))]
    return train, entropy


def corpus(source, settings, train_tokenizer, tokenizer):
    """The Corpus of a source. train_tokenizer(texts, vocab_size) -> vocabulary; tokenizer(vocabulary).encode(text)."""
    train, entropy, held_out = texts(source, settings)
    held_out = held_out.encode()[: settings.eval_bytes].decode(errors="ignore")
    vocabulary = train_tokenizer([train], settings.vocab_size)
    encode = tokenizer(vocabulary).encode
    data = [np.frombuffer(text.encode(), np.uint8) for text in (train, entropy, held_out)]
    ids = [np.asarray(encode(text)).astype(np.int64) for text in (train, held_out)]
    sizes = np.array([len(token or b"") for token in vocabulary.tokens], np.int64)
    return Corpus(*data, *ids, sizes, train)


# -- training -----------------------------------------------------------------------------------------------------


def train_config(settings, seed, device, dtype):
    """The TrainConfig of every arm."""
    return TrainConfig(lr=settings.lr, beta2=0.95, weight_decay=0.1, clip=1.0, seed=seed, device=device, dtype=dtype)


def windows(data, batch, context, seed, step):
    """A batch of windows at random places: inputs and targets (B, T). The draws are those of the step, on every side."""
    places = uniform(seed, STREAM_ORDER + step, (batch,)) * (len(data) - context)
    rows = places.astype(np.int64)[:, None] + np.arange(context + 1)
    found = data[rows].astype(np.int64)
    return found[:, :-1], found[:, 1:]


def rate(spent, settings):
    """The learning rate when a share ``spent`` of the operations is: 5 % warm-up, then a cosine down to a tenth."""
    return warmup_cosine(min(int(spent * STEPS), STEPS - 1), STEPS, settings.lr, STEPS // 20, 0.1)


class Arm:
    """One model in training. sizes: bytes of each token (V,); borders: cuts inputs into patches, see ``borders_of``."""

    COUNTS = ("step", "spent", "bytes_seen", "patches", "seconds", "curve")

    def __init__(self, name, trainer, settings, seed, sizes, borders=None):
        self.name, self.trainer, self.config, self.settings, self.seed = name, trainer, trainer.config, settings, seed
        self.sizes, self.borders = sizes, borders
        self.step, self.spent, self.bytes_seen, self.patches, self.seconds = 0, 0.0, 0, 0.0, 0.0
        self.curve = []  # [(operations, bits per byte of the batches since the row before)]

    @property
    def done(self):
        return self.spent >= self.settings.flops

    def train_step(self, data):
        """One step on windows of ``data``; returns bits per byte of this batch, before the step."""
        start = perf_counter()
        inputs, targets = windows(data, self.settings.batch, self.config.context, self.seed, self.step)
        lr = rate(self.spent / self.settings.flops, self.settings)
        metrics = self.trainer.step(inputs, targets, lr, self.borders and self.borders(inputs))
        self.step += 1
        self.patches += metrics["patches"]
        self.spent += 3 * flops_per_byte(self.config, inputs.size / metrics["patches"]) * inputs.size
        self.bytes_seen += int(self.sizes[inputs].sum())
        self.seconds += perf_counter() - start
        return metrics["loss"] * targets.size / math.log(2) / int(self.sizes[targets].sum())

    def bits_per_byte(self, data):
        """On all of ``data`` but its first token, each predicted once, in windows that follow each other."""
        context, total, size, rows = self.config.context, 0.0, 0, self.settings.batch
        count = (len(data) - 1) // context
        whole = data[: count * context + 1].astype(np.int64)
        inputs, targets = whole[:-1].reshape(-1, context), whole[1:].reshape(-1, context)
        parts = [(inputs[i : i + rows], targets[i : i + rows]) for i in range(0, count, rows)]
        rest = data[count * context :].astype(np.int64)[None]
        if rest.shape[1] > 1:
            parts.append((rest[:, :-1], rest[:, 1:]))
        for inputs, targets in parts:
            total += self.trainer.nats(inputs, targets, self.borders and self.borders(inputs))
            size += int(self.sizes[targets].sum())
        return total / math.log(2) / size

    def result(self, held_out):
        """What the report says about this arm, as JSON values."""
        inputs = self.step * self.settings.batch * self.config.context
        per_patch = inputs / self.patches
        return {
            "arm": self.name, "seed": self.seed, "bits_per_byte": self.bits_per_byte(held_out),
            "parameters": parameter_count(self.config), "flops": self.spent, "steps": self.step,
            "bytes_seen": self.bytes_seen, "seconds": self.seconds, "width": self.config.width,
            "bytes_per_unit": self.bytes_seen / inputs * per_patch,
            "flops_per_byte": 3 * flops_per_byte(self.config, per_patch) * inputs / self.bytes_seen,
            "curve": self.curve,
        }  # fmt: skip


def borders_of(name, entropies=None, thresholds=None):
    """The function of inputs (B, T) that cuts them into an arm's patches, or None. entropies: a Trainer's method."""
    if name == "blt-space":
        return space_starts
    if name in ENTROPY:
        return lambda inputs: entropy_starts(entropies(inputs), thresholds[name], name == "blt-rise")
    return None


def thresholds_of(entropies, data, settings):
    """The thresholds that cut ``patch_bytes`` bytes a patch on average: quantiles of the entropies, and of their rises."""
    inputs, _ = windows(data, 4 * settings.batch, settings.context, 0, STEPS)
    found, share = entropies(inputs), 1 - 1 / settings.patch_bytes
    return {
        "blt-entropy": float(np.quantile(found[:, 2:], share)),
        "blt-rise": float(np.quantile(found[:, 2:] - found[:, 1:-1], share)),
    }
