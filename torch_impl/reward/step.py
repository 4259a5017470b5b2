"""One training step of a reward model: pairs or rankings in, new weights out."""

import torch

from numpy_ref.reward.dataset import flat
from torch_impl.model.transformer import transformer
from torch_impl.reward.model import reward_model
from torch_impl.reward.objective import bradley_terry, margin_ranking, plackett_luce
from torch_impl.reward.rows import packed
from torch_impl.training.accumulation import accumulated
from torch_impl.training.step import apply_gradients, compute_dtype, loss_scale

TORCH_EXTRA_ARGUMENTS = {"forward"}


def preference_loss(scores, mask, margins, ties, settings, label_smoothing=0.0, denominator=None):
    """The loss of ``settings.loss`` (see RewardConfig) over rewards sorted from the best answer to the worst.

    Shapes: scores and mask (B, K), margins (B,), ties bool (B,) -> ().
    """
    if settings.loss == "plackett_luce":
        return plackett_luce(scores, mask, denominator)
    margin = settings.lead + settings.margin_scale * margins.to(scores)
    chosen, rejected = scores[:, 0], scores[:, 1]
    if settings.loss == "margin_ranking":
        return margin_ranking(chosen, rejected, margin, ties, denominator)
    return bradley_terry(chosen, rejected, margin, ties, label_smoothing, settings.centring, denominator)


def comparison_scores(params, comparisons, config, recompute=False, forward=transformer):
    """(scores, mask), each (B, K): rewards of the answers of some Comparisons and which of them exist, on the device of
    the parameters."""
    texts, counts, _, _ = flat(comparisons)
    device = params["token_embedding.weight"].device
    tokens, documents, ends = (tensor.to(device) for tensor in packed(texts, config.context, config.width))
    rewards = reward_model(tokens, ends, params, config, documents, recompute, forward)
    counts = torch.from_numpy(counts)
    mask = (torch.arange(int(counts.max())) < counts[:, None]).to(device)
    return (rewards.new_zeros(mask.shape).masked_scatter(mask, rewards), mask)


def reward_loss_and_grads(
    params, comparisons, model_config, train_config, settings, scale=1.0, forward=transformer
):
    """(loss, name -> gradient, metrics) of a batch of Comparisons; metrics as of ``comparison_metrics``.

    Parts and scale are those of ``accumulated``.
    """

    def part(weights, rows):
        few = comparisons[rows]
        scores, mask = comparison_scores(weights, few, model_config, train_config.recompute, forward)
        margins, ties = (torch.from_numpy(value).to(scores.device) for value in flat(few)[2:])
        loss = preference_loss(
            scores, mask, margins, ties, settings, train_config.label_smoothing, len(comparisons)
        )
        values = scores.detach()
        return loss, (values[:, 0], values[:, 1], ties, values[mask])

    loss, grads, seen = accumulated(params, len(comparisons), part, model_config, train_config, scale)
    return loss, grads, comparison_metrics(*(torch.cat(values) for values in zip(*seen)))


def comparison_metrics(better, worse, ties, rewards):
    """{"accuracy", "lead", "reward"}: the share of pairs in the right order (equal rewards: half), their mean difference,
    both without ties and NaN if there is nothing else, and the mean reward.

    Shapes: better, worse, ties (B,), rewards (N,) -> tensors ().
    """
    lead = (better - worse)[~ties]
    return {"accuracy": ((lead.sign() + 1) / 2).mean(), "lead": lead.mean(), "reward": rewards.mean()}


def reward_step(params, states, comparisons, model_config, train_config, settings, step, forward=transformer):
    """One optimiser step in place: (metrics, params, states) as of ``train_step``, metrics with the rewards' own."""
    dtype = compute_dtype(params, model_config, train_config)
    scale = loss_scale(states, train_config, dtype)["scale"]
    loss, grads, more = reward_loss_and_grads(
        params, comparisons, model_config, train_config, settings, scale, forward
    )
    metrics, params, states = apply_gradients(params, states, loss, grads, train_config, step, dtype)
    return metrics | more, params, states
