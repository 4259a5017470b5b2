"""Units of thought: what stands between a question and its answer, and the task on which they are compared.

The idea of decoding in units of meaning instead of tokens is that of arXiv:2403.14562; it leaves open what a unit is. Here
one model has all of them, and they differ in one thing only: which vector the model is given at the place of a unit.

    span      tokens that say the step: an explicit chain of thought
    thought   the model's own last hidden state, never turned into a token: a continuous thought (arXiv:2412.06769)
    code      one of a few vectors, the one that is nearest to that state: a quantised thought

and for comparison

    pause     a token that says nothing (arXiv:2310.02226): as many places as thoughts have, no information between them
    answer    no unit at all
    removal   none at the end: the steps of a written chain are removed one by one (arXiv:2405.14838)
"""

from dataclasses import dataclass

from numpy_ref.config import ModelConfig, TrainConfig, option, require
from numpy_ref.errors import UserError

DEFINITION = "settings: no arrays"

SEARCH = "ways to a goal"  # the arm on graphs with two edges from each node, where decoding has a choice
DEEPER = ("deeper model", "deeper with removal")

KINDS = ("answer", "removal", "pause", "thought", "code", "span")
ARMS = {
    "answer only": "answer", "pauses": "pause", "thoughts": "thought", "codes": "code", "written chain": "span",
    "deeper model": "answer", "deeper with removal": "removal", SEARCH: "span",
}  # fmt: skip
TRAINING = TrainConfig(
    steps=1000, batch=128, lr=2e-3, warmup=50, schedule="wsd", beta2=0.98, weight_decay=0.01, eval_every=100, save_every=100, keep=1
)
CURRICULUM = ("pause", "thought", "code", "removal")  # learn in stages, see ``stage_of``
ARRIVED = 1  # what is said behind a chain that ends at its goal; 0 behind one that does not
WIDTHS = (1, 2, 4, 8)  # chains that a search tries, from fewest to most
FITTED = 1000  # questions whose thoughts a codebook is fitted to


@dataclass(frozen=True)
class UnitConfig:
    """Task and units. Ids below ``nodes`` are nodes, the next one is the pause, the last ``codes`` are codes."""

    kind: str = option("thought", "what stands between question and answer", KINDS)
    nodes: int = option(10, "nodes of the graph")
    hops: int = option(4, "edges from the start to the answer; a step of the chain for each but the last")
    per_step: int = option(1, "thoughts, codes or pauses in the place of one step")
    codes: int = option(16, "different codes")
    ways: int = option(1, "edges from each node; with 2 a chain of words has to find a way to a goal", (1, 2))
    commitment: float = option(0.25, "how strongly hidden states are drawn to their codes, beside codes to them")

    def __post_init__(self):
        require(self, "kind", lambda v: v in KINDS, "one of " + ", ".join(KINDS))
        for name in ("nodes", "codes"):
            require(self, name, lambda v: isinstance(v, int) and v >= 2, "a whole number of at least 2")
        for name in ("hops", "per_step"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "commitment", lambda v: 0 <= v < float("inf"), "a number of at least 0")
        require(self, "ways", lambda v: v == 1 or (v == 2 and self.kind == "span"), "1, or 2 with kind='span'")

    @property
    def vocab_size(self):
        """Ids of nodes, the pause and codes."""
        return self.nodes + 1 + self.codes

    @property
    def units(self):
        """Steps between question and answer."""
        return 0 if self.kind in ("answer", "removal") else self.hops - 1

    @property
    def length(self):
        """Places that one unit takes."""
        return 1 if self.kind == "span" else self.per_step

    @property
    def question(self):
        """Tokens of a question: where each node's edges end, then the goal, if there is one, and the start."""
        return self.ways * (self.nodes + 1)

    @property
    def wanted(self):
        """The answer that a search is after: ARRIVED where there is a goal, else None, any that is sure."""
        return ARRIVED if self.ways == 2 else None

    @property
    def context(self):
        """Tokens of the longest row."""
        return self.question + (self.hops - 1) * max(1, self.per_step)


@dataclass(frozen=True)
class ArmConfig:
    """The model that all arms share, and how often each is trained."""

    layers: int = option(2, "blocks; the deeper model has so many for each edge, as many as thoughts pass one after the other")
    width: int = option(64, "features of the residual stream")
    heads: int = option(4, "attention heads")
    seeds: int = option(3, "how often each arm is trained, from other weights and on other problems")

    def __post_init__(self):
        require(self, "seeds", lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")

    def model(self, arm, settings):
        """The ModelConfig of an arm."""
        layers = self.layers * settings.hops if arm in DEEPER else self.layers
        return ModelConfig(
            vocab_size=settings.vocab_size, context=settings.context, layers=layers, width=self.width, heads=self.heads,
            feed_forward=4 * self.width, positions="learned", norm="rms", feed_forward_bias=False,
        )  # fmt: skip


def stage_of(step, steps, settings):
    """How many steps of the chain are replaced at a training step (section 3 of arXiv:2412.06769).

    A kind with a curriculum begins with the written chain (stage 0) and ends with units alone, or with nothing. Every stage
    has an equal share of the ``steps``, the last one twice that and what is left over.
    """
    if settings.kind not in CURRICULUM:
        return last_stage(settings)
    share = max(1, steps // (settings.hops + 1))
    return min(last_stage(settings), step // share)


def last_stage(settings):
    """The stage at whose rows a kind is measured: all steps replaced, but none of the written chain."""
    return 0 if settings.kind == "span" else settings.hops - 1


def require_plain(config):
    """Raises UserError for models that units of thought are not written for: those that forget, drop or route."""
    for name in ("window", "dropout", "experts"):
        if getattr(config, name):
            raise UserError(f"thought units need a model without {name}, got {name}={getattr(config, name)}; leave it out")
    if config.positions == "alibi":
        raise UserError("thought units need positions='learned', 'rope', 'sinusoidal' or 'none', not 'alibi'")
    if config.output != "tokens":
        raise UserError(f"thought units need a model of text, not output={config.output!r}")


def require_places(places, length):
    """Raises UserError unless the places of thoughts go up and each has a token before it."""
    if any(not 1 <= place < length for place in places) or list(places) != sorted(set(places)):
        raise UserError(f"thoughts at {list(places)} do not fit {length} tokens: places go up, from 1 to {length - 1}")
