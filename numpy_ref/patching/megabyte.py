"""MegaByte (arXiv:2305.07185): patches of a fixed number of bytes, predicted side by side."""

import numpy as np

from numpy_ref.model.block import with_prefix
from numpy_ref.model.embedding import embedding
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm
from numpy_ref.patching.byte_stack import byte_embedding, byte_head, stack, under


def megabyte(tokens, params, config):
    """Logits of the next byte; a global model over whole patches, a local one inside each.

        e_p = [G[x] for the P bytes of patch p - 1], a learnt vector for p = 0         embedded patches, one late
        g = norm(global transformer(e))                                                cut into P parts
        l_{p,j} = E[x_{pP+j}] + n-grams + U g_{p,j}                                    every byte
        logits = head(local transformer of each patch(l))

    In the paper the local model predicts the bytes of its patch from those before; here it is given a byte and predicts
    the next one, as all models of this project do, so that its patches are those of the predicted bytes. The global
    model is one patch late, since the bytes of patch p are given one after the other. Every byte but the first of the
    text is predicted and counts.

    A length that is no multiple of P is filled up; what is predicted there is cut off.
    Shapes: tokens (B, T) -> (B, T, 256);  vjp: dy -> grads with the keys of params.
    """
    batch, length = tokens.shape
    size, width = config.patch, config.width
    count = -(-length // size)
    padded = np.zeros((batch, count * size), tokens.dtype)
    padded[:, :length] = tokens
    patches, patch_vjp = embedding(padded[:, : (count - 1) * size], params["patch_embedding.weight"])
    first = np.broadcast_to(params["first_patch.weight"][None], (batch, 1, config.global_width))
    late = np.concatenate([first, patches.reshape(batch, count - 1, config.global_width)], axis=1)
    seen, global_vjp = stack(late, with_prefix(params, "global"), config.stack("global"))
    g, norm_vjp = rms_norm(seen, params["global_norm.weight"], config.stack("global").norm_eps)
    parts, unpatch_vjp = linear(g.reshape(batch, count * size, -1), params["unpatch.weight"])
    own, embed_vjp = byte_embedding(padded, params)
    local, local_vjp = stack(
        (own + parts).reshape(batch * count, size, width), with_prefix(params, "decoder"), config.stack("decoder")
    )
    logits, head_vjp = byte_head(local.reshape(batch, count * size, width)[:, :length], params, config)

    def vjp(dy):
        dhead, grads = head_vjp(dy)
        dlocal = np.zeros_like(dhead, shape=(batch, count * size, width))
        dlocal[:, :length] = dhead
        dx, local_grads = local_vjp(dlocal.reshape(batch * count, size, width))
        dx = dx.reshape(batch, count * size, width)
        dparts, grads["unpatch.weight"], _ = unpatch_vjp(dx)
        dseen, grads["global_norm.weight"] = norm_vjp(dparts.reshape(g.shape))
        dlate, global_grads = global_vjp(dseen)
        grads["first_patch.weight"] = np.sum(dlate[:, 0], axis=0, keepdims=True)
        grads["patch_embedding.weight"] = patch_vjp(dlate[:, 1:].reshape(patches.shape))
        grads |= under("global", global_grads) | under("decoder", local_grads) | embed_vjp(dx)
        return {name: grads[name] for name in params}

    return logits, vjp
