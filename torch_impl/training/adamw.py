"""AdamW: adaptive steps with decoupled weight decay."""

import math

import torch

TORCH_ONLY = {"adamw_"}


def adamw(param, grad, state, lr, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0):
    """One step of AdamW (arXiv:1711.05101, algorithm 2).

        p = p (1 - lr weight_decay)        m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
        p = p - lr mhat / (sqrt(vhat) + eps),    mhat = m / (1 - beta1^t),    vhat = v / (1 - beta2^t)

    Shapes: param, grad and the state's "m" and "v" (...); the state's "step" t is an int. Returns (param, state), new.
    """
    step = state["step"] + 1
    m = beta1 * state["m"] + (1 - beta1) * grad
    v = beta2 * state["v"] + (1 - beta2) * grad * grad
    mhat, vhat = m / (1 - beta1**step), v / (1 - beta2**step)
    param = param * (1 - lr * weight_decay) - lr * mhat / (vhat.sqrt() + eps)
    return param, {"step": step, "m": m, "v": v}


def init_state(param):
    """No step taken, both moments zero."""
    return {"step": 0, "m": torch.zeros_like(param), "v": torch.zeros_like(param)}


def decays(name, shape):
    """Whether weight decay acts on a parameter: on matrices; norms and biases, stacked or not, only set scales and offsets."""
    return len(shape) >= 2 and not name.endswith(".bias")


@torch.no_grad()
def adamw_(params, grads, states, lr, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0):
    """``adamw`` on dicts by name, in place; ``weight_decay`` acts where ``decays`` says so.

    Each line is one call for all parameters: on a GPU a few launches instead of ten for each parameter.
    """
    if not params:
        return
    for name in params:
        states[name]["step"] += 1
    step = states[next(iter(params))]["step"]
    p, g = list(params.values()), [grads[name] for name in params]
    m, v = ([states[name][moment] for name in params] for moment in "mv")
    decayed = [param for name, param in params.items() if decays(name, param.shape)]
    if decayed and weight_decay:
        torch._foreach_mul_(decayed, 1 - lr * weight_decay)
    torch._foreach_lerp_(m, g, 1 - beta1)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, g, g, 1 - beta2)
    denominator = torch._foreach_sqrt(v)
    torch._foreach_div_(denominator, math.sqrt(1 - beta2**step))
    torch._foreach_add_(denominator, eps)
    torch._foreach_addcdiv_(p, m, denominator, -lr / (1 - beta1**step))
