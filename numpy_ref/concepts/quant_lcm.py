"""Quant-LCM (arXiv:2412.08821, section 2.4): the next concept as codes, each given those before it.

Quant-LCM-d draws each code from a distribution; Quant-LCM-c regresses what the codes so far have left, and takes the
nearest entry.
"""

import numpy as np

from numpy_ref.model.block import with_prefix
from numpy_ref.model.feed_forward import feed_forward
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm


def code_logits(context, partial, params, config, first=0):
    """Scores of the entries of each codebook, given the context and what the codes so far add up to.

        u_j = h + Wp r_j + E_j,    r_j = sum of the entries chosen from the codebooks before j
        logits_j = Wo norm(u_j + feed_forward(norm(u_j)))

    E_j says which codebook is meant; all share the rest. A discrete choice can be one successor or another where
    regression must give their mean. For the kind residual (Quant-LCM-c) Wo has a row for each feature, not for each entry,
    and what comes out is the concept less r_j.

    params: those of ``code_shapes``, and any others. first: number of the codebook that the first r belongs to.
    Shapes: context h (B, T, d), partial r (B, T, J, c) -> (B, T, J, K), for residual (B, T, J, c);
    vjp: dy -> dcontext, grads of these parameters. What codes add up to is data.
    """
    said, partial_vjp = linear(partial, params["partial.weight"])
    books = slice(first, first + partial.shape[2])
    u = context[:, :, None] + said + params["codebook_embedding.weight"][books]
    normed, norm_vjp = rms_norm(u, params["head_norm.weight"])
    thought, head_vjp = feed_forward(normed, with_prefix(params, "head"))
    last, last_vjp = rms_norm(u + thought, params["final_norm.weight"])
    logits, output_vjp = linear(last, params["output.weight"])

    def vjp(dy):
        grads = {}
        dlast, grads["output.weight"], _ = output_vjp(dy)
        du, grads["final_norm.weight"] = last_vjp(dlast)
        dnormed, head = head_vjp(du)
        du_norm, grads["head_norm.weight"] = norm_vjp(dnormed)
        du = du + du_norm
        _, grads["partial.weight"], _ = partial_vjp(du)
        grads["codebook_embedding.weight"] = np.zeros_like(params["codebook_embedding.weight"])
        grads["codebook_embedding.weight"][books] = np.sum(du, axis=(0, 1))
        grads |= {f"head.{name}": grad for name, grad in head.items()}
        return np.sum(du, axis=2), {name: grads[name] for name in params if name in grads}

    return logits, vjp
