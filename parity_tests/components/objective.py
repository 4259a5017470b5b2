"""Declarations of the losses over preferences: of reward models, and of policies (DPO, IPO)."""

import numpy as np

import numpy_ref.dpo.objective as numpy_dpo
import numpy_ref.reward.objective as numpy_reward
import torch_impl.dpo.objective as torch_dpo
import torch_impl.reward.objective as torch_reward
from parity_tests.harness.declaration import Bug, Case, Component

LEADS = (100.0, -100.0, 1e4, -1e4)


def answers(source, *names, far=True):
    """Numbers of each pair's answers (B,), in some of the draws far apart; and which pairs are ties."""
    pairs = source.size(33)
    values = {name: source.array(name, (pairs,), ("one", "small", "sixteen", "ties", "constant", "zero")) for name in names}
    if far and source.flag():  # log(1 + exp(lead)) overflows in float32 from 89 on
        lead = source.choice(*LEADS)
        first, second = names[:2]
        place = source.rng.integers(pairs)
        values[first], values[second] = values[first] * 1.0, values[second] * 1.0
        values[first][place], values[second][place] = lead / 2, -lead / 2
        source.layouts.pop(first), source.layouts.pop(second)
        source.event(f"lead of {lead:g}")
    ties = {"none": None, "some": source.rng.random(pairs) < 0.5, "all": np.ones(pairs, bool)}
    kind = source.choice(*ties)
    source.event(f"{kind} tied")
    return values, ties[kind]


def draw_bradley_terry(source):
    values, ties = answers(source, "chosen", "rejected")
    smoothing, centring = source.choice(0.0, 0.1), source.choice(0.0, 0.01)
    margin = source.choice(0.0, 0.5, source.rng.uniform(0, 3, values["chosen"].shape))
    source.event("a margin for each pair", np.ndim(margin) == 1)
    source.event("smoothing and centring", bool(smoothing and centring))
    arrays = values | {"ties": ties} | ({"margin": margin} if np.ndim(margin) else {})
    static = {} if np.ndim(margin) else {"margin": margin}
    denominator = source.choice(None, 7)
    source.event("denominator of the whole step", denominator is not None)
    return source.case(arrays, label_smoothing=smoothing, centring=centring, denominator=denominator, **static)


def draw_margin_ranking(source):
    values, ties = answers(source, "chosen", "rejected")
    margin = source.choice(1.0, 0.5, source.rng.uniform(0, 3, values["chosen"].shape))
    lead = values["chosen"] - values["rejected"]
    source.event("exactly at the bend", bool(np.any(lead == margin)))
    source.event("a margin for each pair", np.ndim(margin) == 1)
    arrays = values | {"ties": ties} | ({"margin": margin} if np.ndim(margin) else {})
    static = {} if np.ndim(margin) else {"margin": margin}
    return source.case(arrays, denominator=source.choice(None, 7), **static)


def draw_lists(source):
    lists, places = source.integer(1, 5), source.size(9)
    rewards = source.array("rewards", (lists, places), ("one", "small", "sixteen", "ties", "constant", "zero"))
    if source.flag():
        rewards = rewards + 0.0
        rewards[source.rng.integers(lists), source.rng.integers(places)] = source.choice(100.0, -100.0, 1e4, -1e4)
        source.layouts.pop("rewards")
        source.event("far apart")
    lengths = source.rng.integers(1, places + 1, lists)
    mask = source.choice(None, np.arange(places) < lengths[:, None])
    source.event("lists of several lengths", mask is not None and len(set(lengths)) > 1)
    source.event("one answer alone", places == 1)
    return source.case({"rewards": rewards, "mask": mask}, denominator=source.choice(None, 7))


NAMES = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")


def draw_policies(source):
    values, ties = answers(source, *NAMES)
    if source.flag():  # the first step: the policy is its own reference
        for name in ("chosen", "rejected"):
            values[f"reference_{name}"] = values[f"policy_{name}"].copy()
        source.event("policy equals reference")
    return source.case(values | {"ties": ties}, beta=source.choice(0.1, 0.5, 1.0), denominator=source.choice(None, 7))


def draw_dpo(source):
    case = draw_policies(source)
    smoothing = source.choice(0.0, 0.2)
    source.event("smoothing", bool(smoothing))
    return Case(
        case.arrays, case.static | {"label_smoothing": smoothing}, frozenset(source.events), case.layouts, case.seed,
        case.cotangent, case.cotangent_layout,
    )  # fmt: skip


def draw_implicit(source):
    shape = (source.size(33),)
    return source.case({name: source.array(name, shape) for name in ("policy", "reference")}, beta=source.choice(0.1, 2.0))


def pairs(*names):
    def build(rng):
        return Case({name: rng.standard_normal(64) for name in names})

    return build


DTYPES = ("float64", "float32")  # rewards and log-probabilities of whole answers are never kept in 16 bits
TIES = ("none tied", "some tied", "all tied", *(f"lead of {lead:g}" for lead in LEADS))

BRADLEY_TERRY = Component(
    name="bradley_terry",
    numpy=numpy_reward.bradley_terry,
    torch=torch_reward.bradley_terry,
    draw=draw_bradley_terry,
    differentiable=("chosen", "rejected"),
    dtypes=DTYPES,
    shapes={"small": pairs("chosen", "rejected")},
    events=(*TIES, "a margin for each pair", "smoothing and centring", "denominator of the whole step"),
    bugs=(
        Bug("log of 1 + exp, which overflows", "numpy", "_softplus(-z)", "np.log(1.0 + np.exp(-z))"),
        Bug("the worse answer preferred", "numpy", "z = chosen - rejected", "z = rejected - chosen"),
        Bug("margin ignored", "numpy", "np.where(tied, 0.0, margin)", "np.where(tied, 0.0, 0.0 * margin)"),
        Bug("margin added to the lead", "numpy", "- np.where(tied, 0.0, margin)", "+ np.where(tied, 0.0, margin)"),
        Bug("margin asked of ties", "numpy", "np.where(tied, 0.0, margin)", "np.where(tied, 1.0 * margin, margin)"),
        Bug("a tie is a win", "numpy", "np.where(tied, 0.5, label_smoothing)", "np.where(tied, label_smoothing, label_smoothing)"),
        Bug("smoothing forgotten in the gradient", "numpy", "(against - _sigmoid(-z))", "(np.where(tied, 0.5, 0.0).astype(chosen.dtype) - _sigmoid(-z))"),
        Bug("gradient of both answers alike", "numpy", "dtotal - dz", "dtotal + dz"),
        Bug("centring of the difference", "numpy", "total = chosen + rejected", "total = chosen - rejected"),
        Bug("centring's gradient halved", "numpy", "(2.0 * centring)", "centring"),
        Bug("sum for mean", "torch", "loss.sum() / (denominator or len(loss))", "loss.sum()"),
        Bug("denominator ignored", "torch", "(denominator or len(loss))", "len(loss)"),
        Bug("PyTorch's softplus", "torch", "against * z - F.logsigmoid(z)", "against * z + F.softplus(-z)", dtype="float64"),
        Bug("log of sigmoid, which underflows", "torch", "F.logsigmoid(z)", "torch.log(torch.sigmoid(z))"),
        Bug("smoothing in float32", "torch", "torch.full_like(z, label_smoothing).masked_fill(ties, 0.5)", "torch.where(ties, 0.5, label_smoothing).to(z.dtype)", dtype="float64", needs=("some tied", "smoothing and centring")),
        Bug("margin asked of ties in Torch", "torch", "torch.where(ties, chosen - rejected, z)", "z"),
    ),
)

MARGIN_RANKING = Component(
    name="margin_ranking",
    numpy=numpy_reward.margin_ranking,
    torch=torch_reward.margin_ranking,
    draw=draw_margin_ranking,
    differentiable=("chosen", "rejected"),
    dtypes=DTYPES,
    shapes={"small": pairs("chosen", "rejected")},
    events=(*TIES, "a margin for each pair", "exactly at the bend"),
    bugs=(
        Bug("a tie is a win", "numpy", "tied = np.zeros(chosen.shape, bool) if ties is None else ties", "tied = np.zeros(chosen.shape, bool)"),
        Bug("ties pulled in one direction", "numpy", "np.sign(lead.real)", "1.0"),
        Bug("no hinge", "numpy", "active = short.real > 0", "active = short.real > -np.inf"),
        Bug("margin 1 for all", "torch", "short = margin - lead", "short = 1 - lead"),
        Bug("margin below zero", "torch", "short = margin - lead", "short = -margin - lead"),
        Bug("squared hinge", "torch", "F.relu(short).sum()", "F.relu(short).square().sum()"),
        Bug("ties must be equal", "torch", "lead.abs() - margin", "lead.abs()"),
    ),
)

PLACKETT_LUCE = Component(
    name="plackett_luce",
    numpy=numpy_reward.plackett_luce,
    torch=torch_reward.plackett_luce,
    draw=draw_lists,
    differentiable=("rewards",),
    dtypes=DTYPES,
    compiles=False,
    events=("far apart", "lists of several lengths", "one answer alone", "ties"),
    bugs=(
        Bug("places won against all", "numpy", "place >= place[:, None]", "place >= 0 * place[:, None]"),
        Bug("worst first", "numpy", "place >= place[:, None]", "place <= place[:, None]"),
        Bug("missing answers compete", "numpy", "& there[:, None, :]", "& there[:, :, None]", needs=("lists of several lengths",)),
        Bug("only the first place counts", "numpy", "np.sum(loss) / divisor", "np.sum(loss[:, 0]) / divisor"),
        Bug("maximum not subtracted", "numpy", "np.where(there[:, :, None], peak, 0.0)", "np.where(there[:, :, None], 0.0 * peak, 0.0)", needs=("far apart",)),
        Bug("gradient of missing answers", "numpy", "axis=1) - there)", "axis=1) - 1)", needs=("lists of several lengths",)),
        Bug("mean over answers", "torch", "(denominator or len(rewards))", "(denominator or rewards.numel())"),
        Bug("missing answers cost", "torch", "won = torch.where(mask, won, 0)", "won = torch.where(mask, won, 1)", needs=("lists of several lengths",)),
        Bug("places won against the worse ones alone", "torch", "dtype=torch.bool, device=rewards.device).triu()", "dtype=torch.bool, device=rewards.device).triu(1)"),
    ),
)

DPO = Component(
    name="dpo",
    numpy=numpy_dpo.dpo,
    torch=torch_dpo.dpo,
    draw=draw_dpo,
    differentiable=("policy_chosen", "policy_rejected"),
    dtypes=DTYPES,
    shapes={"small": pairs(*NAMES)},
    events=(*TIES, "policy equals reference", "smoothing"),
    bugs=(
        Bug("reference forgotten", "numpy", "implicit_reward(policy_rejected, reference_rejected, beta)", "implicit_reward(policy_rejected, 0.0 * reference_rejected, beta)"),
        Bug("references exchanged", "numpy", "implicit_reward(policy_chosen, reference_chosen, beta)", "implicit_reward(policy_chosen, reference_rejected, beta)"),
        Bug("beta forgotten in the gradient", "numpy", "return beta * dchosen, beta * drejected", "return dchosen, drejected"),
        Bug("smoothing forgotten", "numpy", "label_smoothing=label_smoothing", "label_smoothing=0.0"),
        Bug("smoothing as the margin", "torch", "0.0, ties, label_smoothing", "label_smoothing, ties, 0.0"),
        Bug("ties forgotten", "torch", "0.0, ties,", "0.0, None,"),
        Bug("the worse answer preferred", "torch", "bradley_terry(chosen, rejected,", "bradley_terry(rejected, chosen,"),
    ),
)

IPO = Component(
    name="ipo",
    numpy=numpy_dpo.ipo,
    torch=torch_dpo.ipo,
    draw=draw_policies,
    differentiable=("policy_chosen", "policy_rejected"),
    dtypes=DTYPES,
    shapes={"small": pairs(*NAMES)},
    events=(*TIES, "policy equals reference"),
    bugs=(
        Bug("1 / beta", "numpy", "0.5 / beta", "1.0 / beta"),
        Bug("beta / 2", "numpy", "0.5 / beta", "0.5 * beta"),
        Bug("half the slope", "numpy", "* 2.0 * off", "* off"),
        Bug("one sign for both", "numpy", "return dlead, -dlead", "return dlead, dlead"),
        Bug("reference forgotten", "torch", "(policy_rejected - reference_rejected)", "policy_rejected"),
        Bug("ties need a lead", "torch", "wanted if ties is None else wanted * ~ties", "wanted"),
        Bug("distance, not its square", "torch", "off.square().sum()", "off.abs().sum()"),
    ),
)

IMPLICIT_REWARD = Component(
    name="implicit_reward",
    numpy=numpy_dpo.implicit_reward,
    torch=torch_dpo.implicit_reward,
    draw=draw_implicit,
    dtypes=DTYPES,
    compiles=False,
    events=("offset", "strided"),
    bugs=(
        Bug("divided by beta", "numpy", "beta * (policy - reference)", "(policy - reference) / beta"),
        Bug("reference minus policy", "numpy", "policy - reference", "reference - policy"),
        Bug("beta of the policy alone", "torch", "beta * (policy - reference)", "beta * policy - reference"),
        Bug("beta forgotten", "torch", "beta * (policy - reference)", "policy - reference"),
    ),
)

COMPONENTS = (BRADLEY_TERRY, MARGIN_RANKING, PLACKETT_LUCE, DPO, IPO, IMPLICIT_REWARD)
