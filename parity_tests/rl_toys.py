"""A small policy, prompts and rewards for the tests of reinforcement learning."""

import dataclasses

import numpy as np

from numpy_ref.config import ModelConfig
from numpy_ref.data.chat_format import ChatFormat
from numpy_ref.model.initialise import initialise
from numpy_ref.rl.prompts import Speech, TaskPrompts
from numpy_ref.rl.rewards import Each, Judge
from numpy_ref.rl.settings import TRAINING
from numpy_ref.tasks.builtin import find
from numpy_ref.tokenizers import byte

CONFIG = ModelConfig(
    vocab_size=260, context=40, layers=1, width=16, heads=2, feed_forward=32, positions="rope", norm="rms", init_std=0.1
)
SPEECH = Speech(byte.encode, byte.decode, ChatFormat(256))
TRAIN = dataclasses.replace(TRAINING, steps=3, lr=1e-2, warmup=2, dtype="float64", device="cpu", eval_every=0)


def base(config=CONFIG, seed=0):
    """The parameters of a policy that has learnt nothing yet."""
    return initialise(config, seed, np.float64)


def source(*names, seed=0):
    return TaskPrompts([find(name) for name in names or ("sort-2",)], SPEECH, seed)


def letters(completion):
    """Something that random completions get, too: the share of bytes below 128."""
    ids = [token for token in completion.ids if token < 256]
    return sum(token < 128 for token in ids) / max(1, len(ids))


def judge(on_error="skip", *more):
    return Judge((Each("letters", letters), *more), on_error)
