"""How PPO and GRPO learn, beside what ``TrainConfig`` says: rollouts, passes over them, objectives, distances."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from numpy_ref.config import SampleConfig, TrainConfig, from_json, option, require
from numpy_ref.errors import UserError
from numpy_ref.files import replace

DEFINITION = "settings: no arrays"

NAME = "rl.json"  # in a run folder: its settings, and what it was asked for

ESTIMATORS = ("k1", "k2", "k3")
OBJECTIVES = ("dapo", "grpo", "dr_grpo", "gspo", "cispo")
BASELINES = ("deviation", "mean", "rloo")
AVERAGES = ("token", "sequence", "length")
CRITICS = ("value", "critic")
ON_ERRORS = ("skip", "stop")

# Where options leave it open: small steps of one size after a warm-up. Adam's first step moves every weight by the whole
# learning rate, whatever the gradient; without a warm-up one step can undo what fine-tuning has taught.
TRAINING = TrainConfig(
    steps=160, lr=5e-5, warmup=10, final_lr=1.0, weight_decay=0.0, dtype="float32", eval_every=40, save_every=40
)
# What reinforcement learning takes of it; the rest (smoothed labels, packed documents, ...) is of no use to a policy.
TRAINED = (
    "steps", "accumulate", "lr", "warmup", "final_lr", "schedule", "cooldown", "optimizer", "momentum", "beta1", "beta2", "eps",
    "weight_decay", "clip", "ema", "dtype", "device", "seed", "eval_every", "save_every", "keep", "bad_steps",
)  # fmt: skip


@dataclass(frozen=True)
class RLConfig:
    """What PPO and GRPO share. A step of the run is one rollout, and ``epochs`` passes over it in ``minibatches``."""

    prompts: int = option(32, "prompts of a rollout")
    group: int = option(8, "completions of each prompt")
    tokens: int = option(32, "most tokens of a completion")
    temperature: float = option(1.0, "of the rollouts; scores are taken at the same")
    top_k: int = option(0, "rollouts draw from the k likeliest tokens (0: all); scores see the same")
    top_p: float = option(1.0, "rollouts draw from the fewest likeliest tokens of mass p (1: all); scores see the same")
    epochs: int = option(1, "passes over a rollout")
    minibatches: int = option(1, "optimiser steps of a pass")
    clip_low: float = option(0.2, "a ratio below 1 - this wins nothing more")
    clip_high: float = option(0.2, "a ratio above 1 + this wins nothing more")
    dual_clip: float = option(0.0, "a bad token costs at most so many times its advantage (0: no limit)")
    entropy: float = option(0.0, "weight of the entropy, which is rewarded")
    kl_loss: float = option(0.0, "weight of the distance from the reference in the loss")
    kl_loss_kind: str = option("k2", "its estimator; only k2 has the gradient of KL(policy || reference)", ESTIMATORS)
    kl_weighted: bool = option(False, "weigh it by the ratio, which makes every estimator's gradient right off policy too")
    kl_target: float = option(0.0, "nats a completion at which the distance is held by adapting its weight (0: fixed)")
    kl_horizon: int = option(10000, "completions in which a weight that is far off adapts")
    kl_every: int = option(10, "steps between measurements of the distance, where nothing else asks for it (0: none)")
    stop_kl: float = option(0.0, "a rollout is done with once the policy is so many nats a token away (0: never)")
    drop_truncated: bool = option(False, "completions that were cut off are not learnt from")
    missing_end: float = option(0.0, "what a completion without an end loses of its reward")
    reward_clip: float = option(0.0, "rewards stay within plus and minus this (0: any)")
    reward_errors: str = option("skip", "when a reward function fails: leave the completion out, or stop", ON_ERRORS)
    adaptive: float = option(0.0, "several tasks: how fast difficulty follows the pass rate, kept at one half (0: not)")
    eval_prompts: int = option(200, "held-out prompts of an evaluation")
    eval_samples: int = option(8, "completions of each of them, for pass@k")

    def __post_init__(self):
        for name in ("prompts", "group", "tokens", "epochs", "minibatches", "kl_horizon", "eval_prompts", "eval_samples"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "kl_every", lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")
        for name in ("entropy", "kl_loss", "kl_target", "stop_kl", "missing_end", "reward_clip", "adaptive"):
            require(self, name, lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        require(self, "clip_low", lambda v: 0 < v <= 1, "above 0 and at most 1")
        require(self, "clip_high", lambda v: math.isfinite(v) and v > 0, "a finite number above 0")
        require(self, "dual_clip", lambda v: v == 0 or v > 1 and math.isfinite(v), "above 1, or 0 for no limit")
        require(self, "kl_loss_kind", lambda v: v in ESTIMATORS, "one of " + ", ".join(ESTIMATORS))
        require(self, "reward_errors", lambda v: v in ON_ERRORS, "one of " + ", ".join(ON_ERRORS))
        self.sample(0)
        if self.minibatches > self.prompts * self.group:
            raise UserError(
                f"minibatches={self.minibatches} are more than the {self.prompts * self.group} completions of a rollout"
            )

    def sample(self, seed):
        """How rollouts draw."""
        return SampleConfig(
            tokens=self.tokens, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=seed
        )


@dataclass(frozen=True)
class PPOConfig(RLConfig):
    """What a critic and its advantages need on top."""

    prompts: int = option(256, "prompts of a rollout")
    group: int = option(1, "completions of each prompt")
    critic: str = option("value", "a value head on the policy's trunk, or a critic of its own", CRITICS)
    by: str = option("token", "what losses are averaged over", AVERAGES)
    gamma: float = option(1.0, "what a reward is worth one token earlier")
    lam: float = option(0.95, "advantages: 0 trusts the critic, 1 the rewards")
    whiten: bool = option(True, "advantages of mean 0 and variance 1 over the rollout")
    value_clip: float = option(0.2, "a value that moves further from its old one wins nothing more (0: it may)")
    value_coefficient: float = option(0.5, "weight of the critic's loss")
    kl_reward: float = option(0.05, "price of a nat of distance from the reference, taken from each token's reward")
    kl_reward_kind: str = option("k1", "its estimator", ESTIMATORS)

    def __post_init__(self):
        super().__post_init__()
        for name in ("gamma", "lam"):
            require(self, name, lambda v: 0 <= v <= 1, "between 0 and 1")
        for name in ("value_clip", "value_coefficient", "kl_reward"):
            require(self, name, lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")
        require(self, "critic", lambda v: v in CRITICS, "one of " + ", ".join(CRITICS))
        require(self, "by", lambda v: v in AVERAGES, "one of " + ", ".join(AVERAGES))
        require(self, "kl_reward_kind", lambda v: v in ESTIMATORS, "one of " + ", ".join(ESTIMATORS))
        if self.kl_target and not (self.kl_reward or self.kl_loss):
            raise UserError("kl_target adapts a weight that is 0; give kl_reward or kl_loss to begin with")


@dataclass(frozen=True)
class GRPOConfig(RLConfig):
    """Which objective, and what a group's rewards are compared with."""

    objective: str = option(
        "dapo", "what is clipped, and what losses are averaged over (the papers' gspo: clip_low 3e-4, clip_high 4e-4; cispo: clip_high 4)",
        OBJECTIVES,
    )  # fmt: skip
    baseline: str = option("deviation", "advantages: over the group's deviation, from its mean, or from the others'", BASELINES)
    dynamic: int = option(0, "further rollouts to replace groups whose rewards are all equal")

    def __post_init__(self):
        super().__post_init__()
        require(self, "objective", lambda v: v in OBJECTIVES, "one of " + ", ".join(OBJECTIVES))
        require(self, "baseline", lambda v: v in BASELINES, "one of " + ", ".join(BASELINES))
        require(self, "dynamic", lambda v: isinstance(v, int) and v >= 0, "a whole number of at least 0")
        if self.group == 1 and self.baseline != "mean":
            raise UserError(f"group=1 has nothing to compare with under baseline={self.baseline!r}; take a group of at least 2")
        if self.dual_clip and self.objective in ("gspo", "cispo"):
            raise UserError(f"{self.objective} has no dual clip; leave dual_clip at 0, or take dapo, grpo or dr_grpo")
        if self.kl_target and not self.kl_loss:
            raise UserError("kl_target adapts a weight that is 0; give kl_loss to begin with")


KINDS = {"ppo": PPOConfig, "grpo": GRPOConfig}


def write(folder, name, settings, asked):
    """Note in a run folder what it was begun with; ``name``: the command; ``asked``: its other options, for JSON."""
    text = json.dumps({"command": name, "settings": asdict(settings), "asked": asked}, indent=1) + "\n"
    replace(Path(folder) / NAME, lambda file: file.write(text.encode()))


def read(folder, name):
    """(settings, asked) of the run that the command ``name`` began in a folder. Raises UserError for any other."""
    path = Path(folder) / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        command, text, asked = found["command"], json.dumps(found["settings"]), dict(found["asked"])
    except FileNotFoundError:
        raise UserError(f"{folder} is no run of `{name}`: it has no {NAME}; begin one with --checkpoint") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path} is damaged; start a new run") from None
    if command != name:
        raise UserError(f"the run in {folder} was begun by `{command}`; go on with it by that command")
    return from_json(KINDS[name], text), asked
