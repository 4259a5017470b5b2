"""Preferences without a reward model: the policy's own log-probabilities, against a reference, are the reward."""

import numpy as np

from numpy_ref.reward.objective import bradley_terry


def implicit_reward(policy, reference, beta=0.1):
    """The reward for which the policy is the best answer to the reference with a KL penalty beta (arXiv:2305.18290, eq. 5).

        r = beta (ln pi(y | x) - ln pi_ref(y | x))        up to a constant of the prompt, which cancels in pairs

    Shapes: log-probabilities of whole answers (B,), (B,) -> (B,).
    """
    return beta * (policy - reference)


def dpo(
    policy_chosen, policy_rejected, reference_chosen, reference_rejected,
    beta=0.1, ties=None, label_smoothing=0.0, denominator=None,
):  # fmt: skip
    """Direct preference optimisation (arXiv:2305.18290, eq. 7): Bradley and Terry's loss of the implicit rewards.

        l = -(1 - s) ln sigmoid(beta h) - s ln sigmoid(-beta h)
        h = ln pi(y_c)/pi_ref(y_c) - ln pi(y_r)/pi_ref(y_r)

    ``label_smoothing`` s > 0 is cDPO, for preferences of which a share s is wrong: its minimum lies at the finite
    beta h = ln((1 - s) / s). Of ``ties`` each answer has half a win.

    Shapes: log-probabilities of whole answers (B,) each -> ();  vjp: dy -> dpolicy_chosen, dpolicy_rejected (B,). The reference is constant. Other arguments as of ``bradley_terry``.

    Backward: r = beta (policy - reference), so dpolicy = beta dr.
    """
    chosen = implicit_reward(policy_chosen, reference_chosen, beta)
    rejected = implicit_reward(policy_rejected, reference_rejected, beta)
    loss, loss_vjp = bradley_terry(
        chosen, rejected, ties=ties, label_smoothing=label_smoothing, denominator=denominator
    )

    def vjp(dy):
        dchosen, drejected = loss_vjp(dy)
        return beta * dchosen, beta * drejected

    return loss, vjp


def ipo(
    policy_chosen, policy_rejected, reference_chosen, reference_rejected,
    beta=0.1, ties=None, denominator=None,
):  # fmt: skip
    """Identity preference optimisation (arXiv:2310.12036, eq. 17): a regression to a lead that is wide enough.

        l = (h - 1 / (2 beta))^2,    h as of ``dpo``;    a tie has l = h^2

    Where all preferences agree, DPO drives h to infinity whatever beta is; this stops at 1 / (2 beta). The paper's tau
    is beta. Log-probabilities are sums over an answer's tokens, as in the paper; means are the caller's choice.

    Shapes, arguments, vjp: those of ``dpo``.

    Backward: dl/dh = 2 (h - 1 / (2 beta)), dpolicy_chosen = dl/dh, dpolicy_rejected = -dl/dh.
    """
    lead = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    wanted = np.full(lead.shape, 0.5 / beta, lead.dtype)
    off = lead - (wanted if ties is None else np.where(ties, 0.0, wanted).astype(lead.dtype))
    divisor = denominator or len(lead)

    def vjp(dy):
        dlead = dy / divisor * 2.0 * off
        return dlead, -dlead

    return np.sum(off * off) / divisor, vjp
