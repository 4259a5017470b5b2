"""H-Net with one stage (arXiv:2507.07955): where the bytes are cut is learnt together with everything else."""

from numpy_ref.model.block import with_prefix
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm
from numpy_ref.patching.byte_stack import byte_embedding, byte_head, stack, under
from numpy_ref.patching.chunking import ema_scan, ratio_loss, route, select, spread


def hnet(tokens, params, config, straight_through=True):
    """Logits of the next byte, the ratio loss, and where chunks begin.

        h = norm(encoder(embedded bytes))        p = route(h)        a chunk begins where p > 1/2
        z = R norm(global transformer(U h at the borders))                     every chunk
        u = spread(ema_scan(z, p at the borders), p)                           every byte
        logits = head(decoder(u + S h)),    S = 0 at the beginning of training

    Each of the three networks ends in a norm (section 2.3.1): without the encoder's, S would have to grow by as much as
    the bytes are smaller than the chunks before the decoder heard of them. Encoder and decoder are transformers here,
    where the paper has state space models; U and R take the place of its padding to more features and cutting to fewer.
    straight_through: see ``spread``.

    Shapes: tokens (B, T) -> ((B, T, V), (), bool (B, T));  vjp: dlogits, dratio -> grads with the keys of params.
    """
    x, embed_vjp = byte_embedding(tokens, params)
    raw, encoder_vjp = stack(x, with_prefix(params, "encoder"), config.stack("encoder"))
    h, encoder_norm_vjp = rms_norm(raw, params["encoder_norm.weight"], config.stack("encoder").norm_eps)
    p, route_vjp = route(h, with_prefix(params, "route"))
    borders = p.real > 0.5
    chosen, select_vjp = select(h, borders)
    strength, strength_vjp = select(p[..., None], borders)
    large, enlarge_vjp = linear(chosen, params["enlarge.weight"])
    seen, global_vjp = stack(large, with_prefix(params, "global"), config.stack("global"))
    normed, norm_vjp = rms_norm(seen, params["global_norm.weight"], config.stack("global").norm_eps)
    z, reduce_vjp = linear(normed, params["reduce.weight"])
    smooth, ema_vjp = ema_scan(z, strength[..., 0])
    u, spread_vjp = spread(smooth, p, borders, straight_through)
    past, residual_vjp = linear(h, params["residual.weight"])
    written, decoder_vjp = stack(u + past, with_prefix(params, "decoder"), config.stack("decoder"))
    logits, head_vjp = byte_head(written, params, config)
    ratio, ratio_vjp = ratio_loss(p, borders, config.target)

    def vjp(dlogits, dratio):
        dwritten, grads = head_vjp(dlogits)
        du, decoder_grads = decoder_vjp(dwritten)
        dh, grads["residual.weight"], _ = residual_vjp(du)
        dsmooth, dp = spread_vjp(du)
        dz, dstrength = ema_vjp(dsmooth)
        dnormed, grads["reduce.weight"], _ = reduce_vjp(dz)
        dseen, grads["global_norm.weight"] = norm_vjp(dnormed)
        dlarge, global_grads = global_vjp(dseen)
        dchosen, grads["enlarge.weight"], _ = enlarge_vjp(dlarge)
        dp = dp + strength_vjp(dstrength[..., None])[..., 0] + ratio_vjp(dratio)
        dh_route, route_grads = route_vjp(dp)
        draw, grads["encoder_norm.weight"] = encoder_norm_vjp(dh + select_vjp(dchosen) + dh_route)
        dx, encoder_grads = encoder_vjp(draw)
        parts = {"decoder": decoder_grads, "global": global_grads, "route": route_grads, "encoder": encoder_grads}
        for prefix, found in parts.items():
            grads |= under(prefix, found)
        grads |= embed_vjp(dx)
        return {name: grads[name] for name in params}

    return (logits, ratio, borders), vjp
