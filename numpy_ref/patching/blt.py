"""Byte Latent Transformer (arXiv:2412.09871): a small model reads bytes, a large one patches, a small one writes bytes."""

from numpy_ref.model.block import with_prefix
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm
from numpy_ref.patching.byte_stack import byte_embedding, byte_head, stack, under
from numpy_ref.patching.cross_attention import patch_max, pool_attention, unpool_attention
from numpy_ref.tokenizers.patches import complete_ids, patch_ids


def blt(tokens, params, config, starts):
    """Logits of the next byte from patches of bytes.

        h = encoder(embedded bytes)                                   every byte
        p = gather(U max of h over the patch's bytes, h)              every patch: k vectors look at its bytes
        g = norm(global transformer(p))                               every patch
        d = spread(h, g of the last patch that is complete)           every byte looks at the k vectors of one patch
        logits = head(decoder(d))

    The prediction of byte t + 1 may know bytes up to t. The patch that byte t is in may go on; its vectors know all its
    bytes. So a byte sees the patch before, unless it is itself the last of its patch, see ``complete_ids``.

    starts: where patches begin, from one of the patchers. config: PatchConfig; the vector of a patch has global_width =
    k width features.

    Shapes: tokens (B, T), starts bool (B, T + 1) -> (B, T, 256);  vjp: dy -> grads with the keys of params.
    """
    ids, complete = patch_ids(starts), complete_ids(starts)
    batch, count = len(tokens), int(ids.max(initial=0)) + 1
    x, embed_vjp = byte_embedding(tokens, params)
    h, encoder_vjp = stack(x, with_prefix(params, "encoder"), config.stack("encoder"))
    largest, max_vjp = patch_max(h, ids, count)
    pooled, pool_vjp = linear(largest, params["pool.weight"])
    slices = (batch, count, config.slices, config.width)
    gathered, gather_vjp = pool_attention(pooled.reshape(slices), h, ids, with_prefix(params, "gather"), config.heads)
    seen, global_vjp = stack(gathered.reshape(pooled.shape), with_prefix(params, "global"), config.stack("global"))
    g, norm_vjp = rms_norm(seen, params["global_norm.weight"], config.stack("global").norm_eps)
    d, spread_vjp = unpool_attention(h, g.reshape(slices), complete, with_prefix(params, "spread"), config.heads)
    written, decoder_vjp = stack(d, with_prefix(params, "decoder"), config.stack("decoder"))
    logits, head_vjp = byte_head(written, params, config)

    def vjp(dy):
        dwritten, grads = head_vjp(dy)
        dd, decoder_grads = decoder_vjp(dwritten)
        dh, dg, spread_grads = spread_vjp(dd)
        dseen, grads["global_norm.weight"] = norm_vjp(dg.reshape(pooled.shape))
        dgathered, global_grads = global_vjp(dseen)
        dpooled, dh_gather, gather_grads = gather_vjp(dgathered.reshape(slices))
        dlargest, grads["pool.weight"], _ = pool_vjp(dpooled.reshape(pooled.shape))
        dx, encoder_grads = encoder_vjp(dh + dh_gather + max_vjp(dlargest))
        parts = {"decoder": decoder_grads, "spread": spread_grads, "global": global_grads, "gather": gather_grads}
        for prefix, found in (parts | {"encoder": encoder_grads}).items():
            grads |= under(prefix, found)
        grads |= embed_vjp(dx)
        return {name: grads[name] for name in params}

    return logits, vjp
