"""Declarations of policy, with_value, regulariser and the whole losses of PPO and GRPO."""

import numpy as np

import numpy_ref.grpo.loss as numpy_grpo
import numpy_ref.ppo.loss as numpy_ppo
import numpy_ref.rl.policy as numpy_policy
import numpy_ref.rl.regulariser as numpy_regulariser
import torch_impl.grpo.loss as torch_grpo
import torch_impl.ppo.loss as torch_ppo
import torch_impl.rl.policy as torch_policy
import torch_impl.rl.regulariser as torch_regulariser
from numpy_ref.config import NORM_POSITIONS, POSITIONS, parameter_shapes
from numpy_ref.rl.settings import ESTIMATORS, GRPOConfig, OBJECTIVES, PPOConfig
from parity_tests.components.block import KERNELS, draw_config, random_parameters
from parity_tests.components.masked import DTYPES, draw_mask
from parity_tests.components.ppo import RATIO_EVENTS, draw_ratios
from parity_tests.harness.declaration import Bug, Component


def stacked(function, arguments):
    """The three arrays as one, with one cotangent."""
    result = function(**arguments)
    if function.__module__.startswith("torch"):
        import torch

        return torch.stack(result)
    value, vjp = result
    return np.stack(value), lambda dy: vjp(*dy)


def draw(source):
    config = draw_config(
        source,
        vocab_size=source.size(17, least=2),
        context=source.integer(2, 9),
        layers=source.integer(1, 2),
        positions=source.choice(*POSITIONS),
        tie_embeddings=source.flag(),
        logit_softcap=source.choice(0.0, 4.0),
        dropout=0.0,
        output=source.choice("tokens", "value", "critic"),
    )
    rows, length = source.integer(1, 3), source.integer(2, config.context)
    mask = draw_mask(source, rows, length - 1)
    tokens = source.tokens((rows, length), config.vocab_size)
    kept = None
    if source.flag():
        kept = source.rng.random((rows, length - 1, config.vocab_size)) < 0.6
        np.put_along_axis(kept, tokens[:, 1:, None], True, axis=-1)
    temperature = source.choice(1.0, 1.0, 0.7)
    source.event(config.output)
    source.event("tied", config.tie_embeddings)
    source.event("filters", kept is not None and not kept.all())
    source.event("temperature", temperature != 1)
    source.event("capped logits", config.logit_softcap > 0)
    arrays = {
        "tokens": tokens,
        "mask": mask,
        "params": random_parameters(source.rng, parameter_shapes(config)),
        "kept": kept,
    }
    return source.case(arrays, config=config, temperature=temperature)


POLICY = Component(
    name="policy",
    numpy=numpy_policy.policy,
    torch=torch_policy.policy,
    draw=draw,
    call=stacked,
    kernels=KERNELS,
    differentiable=("params",),
    dtypes=DTYPES,
    weight=6,
    compiles=False,
    events=(
        *NORM_POSITIONS, *POSITIONS, "tokens", "value", "critic", "tied", "filters", "temperature", "capped logits",
        "mask: nothing", "mask: gaps",
    ),
    bugs=(
        Bug("value after the token", "numpy", "values, value_vjp = _values(inputs, mask, chosen, params, config)", "values, value_vjp = _values(inputs, mask, x[np.roll(mask, 1, axis=1)], params, config)"),
        Bug("log-probability of the token that was read", "numpy", "tokens[:, :-1], tokens[:, 1:][mask]", "tokens[:, :-1], tokens[:, :-1][mask]"),
        Bug("temperature forgotten", "numpy", "token_logprobs(logits, targets, temperature, kept)", "token_logprobs(logits, targets, 1.0, kept)", "_head"),
        Bug("filters forgotten", "numpy", "token_logprobs(logits, targets, temperature, kept)", "token_logprobs(logits, targets, temperature)", "_head"),
        Bug("trunk without the critic's gradient", "numpy", "dchosen + dvalue_x", "dchosen"),
        Bug("tied head without the embedding's gradient", "numpy", "grads[name] = grads[name] + grad", "grads[name] = grad"),
        Bug("entropy without a gradient", "numpy", "logprobs_vjp(dlogprobs) + entropy_vjp(dentropy)", "logprobs_vjp(dlogprobs)", "_head"),
        Bug("critic without a gradient", "numpy", "model_vjp(dhidden) |", "model_vjp(0 * dhidden) |", "_values"),
        Bug("softcap left out", "numpy", "if config.logit_softcap:", "if False:", "_head"),
        Bug("the policy's trunk for the critic's", "torch", "scalar_head(read(own, critic_config(config)),", "scalar_head(x,", "_values"),
        Bug("values stop the gradient", "torch", "scalar_head(x, params", "scalar_head(x.detach(), params", "_values"),
        Bug("rows moved", "torch", "masked_scatter(mask, rows)", "masked_scatter(mask, rows.flip(0))", "_placed"),
        Bug("filters forgotten in Torch", "torch", "None if kept is None else kept[mask]", "None"),
    ),
)


def draw_with_value(source):
    config = draw_config(source, output=source.choice("tokens", "value", "critic"), dropout=0.0, vocab_size=7)
    own = {name: shape for name, shape in parameter_shapes(config).items() if "value." not in name and "critic." not in name}
    arrays = {"params": random_parameters(source.rng, own), "reward": None}
    if config.output == "critic" and source.flag():
        critic = {name: shape for name, shape in parameter_shapes(config).items() if name.startswith("critic.")}
        arrays["reward"] = {name[7:]: value for name, value in random_parameters(source.rng, critic).items()}
    source.event(config.output)
    source.event("from a reward model", arrays["reward"] is not None)
    return source.case(arrays, config=config)


WITH_VALUE = Component(
    name="with_value",
    numpy=numpy_policy.with_value,
    torch=torch_policy.with_value,
    draw=draw_with_value,
    dtypes=("float64",),
    exact=True,
    compiles=False,
    events=("tokens", "value", "critic", "from a reward model"),
    bugs=(
        Bug("reward model ignored", "numpy", "reward or trunk", "trunk", needs=("from a reward model",)),
        Bug("critic keeps the output head", "numpy", 'if name != "output.weight"', "if name", needs=("critic",)),
        Bug("head of ones", "numpy", "np.zeros((1, config.width), kind)", "np.ones((1, config.width), kind)"),
        Bug("no bias", "torch", '"value.weight": weight, "value.bias": bias', '"value.weight": weight', needs=("value",)),
        Bug("critic without a trunk", "torch", "trunk | {", "{", needs=("critic",)),
    ),
)


def draw_terms(source):
    """The arrays of a regulariser: entropies, and a reference a step away or far away."""
    arrays = draw_ratios(source, wide=True)
    mask = arrays["mask"]
    far = source.choice(0.3, 0.3, 30.0)
    arrays["entropy"] = np.where(mask, source.rng.random(mask.shape), np.nan if source.flag() else 0.0)
    arrays["reference"] = arrays["logprobs"] + far * source.rng.standard_normal(mask.shape)
    source.event("far from the reference", far > 1)
    return arrays


def draw_regulariser(source):
    arrays = draw_terms(source)
    del arrays["advantages"]
    kl, bonus = source.choice(0.0, 0.1, 0.5), source.choice(0.0, 0.01)
    kind, weighted = source.choice(*ESTIMATORS), source.flag()
    if not kl and source.flag():
        arrays["reference"] = None
    source.event("no distance", not kl)
    source.event("no bonus", not bonus)
    source.event(kind, kl > 0)
    source.event("weighted", kl > 0 and weighted)
    static = {"kl": kl, "kind": kind, "weighted": weighted, "bonus": bonus, "by": source.choice("token", "sequence")}
    return source.case(arrays, denominator=source.choice(None, 9), **static)


REGULARISER = Component(
    name="regulariser",
    numpy=numpy_regulariser.regulariser,
    torch=torch_regulariser.regulariser,
    draw=draw_regulariser,
    differentiable=("logprobs", "entropy"),
    dtypes=DTYPES,
    compiles=False,
    events=(*RATIO_EVENTS, *ESTIMATORS, "no distance", "no bonus", "weighted", "far from the reference"),
    bugs=(
        Bug("entropy is punished", "numpy", "loss, kl_vjps = -bonus * loss, None", "loss, kl_vjps = bonus * loss, None"),
        Bug("distance is rewarded", "numpy", "loss + kl * distance", "loss - kl * distance"),
        Bug("the ratio is a constant", "numpy", "dterm * np.where(inside, ratio * estimate, 0.0)", "0.0", needs=("weighted",)),
        Bug("not weighted", "numpy", "if weighted:", "if False:", needs=("weighted", "a step away")),
        Bug("always k3", "numpy", "0.0), kind)", '0.0), "k3")', needs=("k2",)),
        Bug("bonus without a gradient", "numpy", "entropy_vjp(-bonus * dy)", "entropy_vjp(0 * dy)"),
        Bug("weight of the distance forgotten in the gradient", "numpy", "mean_vjp(kl * dy)", "mean_vjp(dy)", needs=("k2",)),
        Bug("NaN from behind the mask", "torch", "torch.where(mask, logprobs, 0), torch.where(mask, reference, 0)", "logprobs, reference", needs=("k2", "NaN behind the mask")),
        Bug("the weight has no gradient", "torch", ".exp() * estimate", ".exp().detach() * estimate", needs=("weighted",)),
        Bug("entropy is punished in Torch", "torch", "-bonus * aggregate", "bonus * aggregate"),
    ),
)


def draw_ppo(source):
    arrays = draw_terms(source)
    outputs = arrays["logprobs"], np.nan_to_num(arrays["entropy"]), source.rng.standard_normal(arrays["mask"].shape)
    batch = {
        "mask": arrays["mask"],
        "logprobs": arrays["old_logprobs"],
        "advantages": arrays["advantages"],
        "values": outputs[2] + source.choice(0.1, 1.0) * source.rng.standard_normal(outputs[2].shape),
        "returns": source.rng.standard_normal(outputs[2].shape),
        "reference": arrays["reference"],
    }
    settings = PPOConfig(
        clip_high=source.choice(0.2, 0.28), dual_clip=source.choice(0.0, 3.0), entropy=source.choice(0.0, 0.01),
        kl_loss_kind=source.choice(*ESTIMATORS), kl_weighted=source.flag(), by=source.choice("token", "sequence"),
        value_clip=source.choice(0.0, 0.2), value_coefficient=source.choice(0.1, 0.5),
    )  # fmt: skip
    source.layouts.clear()
    kl = source.choice(0.0, 0.1)
    source.event("distance", kl > 0)
    source.event("bonus", settings.entropy > 0)
    source.event("upper bound higher", settings.clip_high > 0.2)
    return source.case({"outputs": outputs, "batch": batch}, settings=settings, kl=kl, denominator=source.choice(None, 9))


PPO_LOSS = Component(
    name="ppo_loss",
    numpy=numpy_ppo.ppo_loss,
    torch=torch_ppo.ppo_loss,
    draw=draw_ppo,
    differentiable=("outputs",),
    dtypes=DTYPES,
    compiles=False,
    events=(*RATIO_EVENTS, "distance", "bonus"),
    bugs=(
        Bug("critic's loss not weighed", "numpy", "surrogate + s.value_coefficient * error", "surrogate + error"),
        Bug("critic's gradient not weighed", "numpy", "error_vjp(s.value_coefficient * dy)", "error_vjp(dy)"),
        Bug("values and returns exchanged", "numpy", 'values, batch["values"], batch["returns"]', 'values, batch["returns"], batch["values"]'),
        Bug("the reference taken for the old policy", "numpy", 'logprobs, old, batch["advantages"]', 'logprobs, batch["reference"], batch["advantages"]'),
        Bug("no entropy bonus", "numpy", "s.kl_weighted, s.entropy", "s.kl_weighted, 0.0", needs=("bonus",)),
        Bug("bounds exchanged", "torch", "s.clip_low, s.clip_high", "s.clip_high, s.clip_low", needs=("clipped", "upper bound higher")),
        Bug("no distance", "torch", '"kl": kl', '"kl": 0.0', needs=("distance",)),
        Bug("critic clipped all the same", "torch", "s.value_clip, **average", "0.2, **average"),
    ),
)


def draw_grpo(source):
    arrays = draw_terms(source)
    outputs = arrays["logprobs"], np.nan_to_num(arrays["entropy"]), np.zeros(arrays["mask"].shape)
    names = {"mask": "mask", "logprobs": "old_logprobs", "advantages": "advantages", "reference": "reference"}
    objective = source.choice(*OBJECTIVES)
    settings = GRPOConfig(
        objective=objective, clip_high=source.choice(0.2, 0.28), kl_loss_kind=source.choice(*ESTIMATORS),
        dual_clip=0.0 if objective in ("gspo", "cispo") else source.choice(0.0, 3.0),
        entropy=source.choice(0.0, 0.01), kl_weighted=source.flag(),
    )  # fmt: skip
    source.layouts.clear()
    kl = source.choice(0.0, 0.1)
    source.event("distance", kl > 0)
    source.event("bonus", settings.entropy > 0)
    source.event(settings.objective)
    batch = {name: arrays[old] for name, old in names.items()}
    return source.case({"outputs": outputs, "batch": batch}, settings=settings, kl=kl, denominator=source.choice(None, 9))


GRPO_LOSS = Component(
    name="grpo_loss",
    numpy=numpy_grpo.grpo_loss,
    torch=torch_grpo.grpo_loss,
    draw=draw_grpo,
    differentiable=("outputs",),
    dtypes=DTYPES,
    compiles=False,
    events=(*RATIO_EVENTS, *OBJECTIVES, "distance", "bonus"),
    bugs=(
        Bug("always dapo", "numpy", "clips = s.objective,", 'clips = "dapo",', needs=("grpo", "mask: completions")),
        Bug("distance averaged otherwise than the objective", "numpy", "BY[s.objective], denominator\n", '"token", denominator\n', needs=("grpo", "mask: completions", "distance")),
        Bug("weight of the distance forgotten", "numpy", "terms = kl,", "terms = bool(kl),", needs=("distance",)),
        Bug("no gradient of the distance", "numpy", "dlogprobs + surrogate_vjp(dy)", "surrogate_vjp(dy)", needs=("distance",)),
        Bug("denominator of the part", "torch", "*clips, denominator)", "*clips, None)"),
        Bug("bonus forgotten", "torch", '"bonus": s.entropy', '"bonus": 0.0', needs=("bonus",)),
        Bug("the reference taken for the old policy", "torch", 'batch["logprobs"], settings', 'batch["reference"], settings'),
    ),
)

COMPONENTS = (POLICY, WITH_VALUE, REGULARISER, PPO_LOSS, GRPO_LOSS)
