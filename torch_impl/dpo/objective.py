"""Losses over log-probabilities of whole answers, under the policy and under a reference that stays as it is."""

from torch_impl.reward.objective import bradley_terry


def implicit_reward(policy, reference, beta=0.1):
    """beta ln(pi / pi_ref) (arXiv:2305.18290 eq. 5, without its constant of the prompt). Shapes: (B,), (B,) -> (B,)."""
    return beta * (policy - reference)


def dpo(
    policy_chosen, policy_rejected, reference_chosen, reference_rejected,
    beta=0.1, ties=None, label_smoothing=0.0, denominator=None,
):  # fmt: skip
    """DPO (arXiv:2305.18290 eq. 7): -ln sigmoid(beta h), h = ln pi/pi_ref (chosen) - ln pi/pi_ref (rejected).

    label_smoothing: the share of wrong preferences that cDPO expects; ties: half a win for each answer.
    Shapes: (B,) each, ties bool (B,) or None -> (), the sum divided by ``denominator`` or the number of pairs.
    """
    chosen = implicit_reward(policy_chosen, reference_chosen, beta)
    rejected = implicit_reward(policy_rejected, reference_rejected, beta)
    return bradley_terry(chosen, rejected, 0.0, ties, label_smoothing, denominator=denominator)


def ipo(
    policy_chosen, policy_rejected, reference_chosen, reference_rejected,
    beta=0.1, ties=None, denominator=None,
):  # fmt: skip
    """IPO (arXiv:2310.12036 eq. 17, whose tau is beta): (h - 1 / (2 beta))^2, for ties h^2; h and shapes as of ``dpo``."""
    lead = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    wanted = 1 / (2 * beta)
    off = lead - (wanted if ties is None else wanted * ~ties)
    return off.square().sum() / (denominator or len(off))
