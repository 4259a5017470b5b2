"""H-Net with one stage of dynamic chunking (arXiv:2507.07955), with transformers as encoder and decoder."""

from torch_impl.model.block import with_prefix
from torch_impl.model.linear import linear
from torch_impl.model.norms import rms_norm
from torch_impl.patching.byte_stack import byte_embedding, byte_head, stack
from torch_impl.patching.chunking import ema_scan, ratio_loss, route, select, spread


def hnet(tokens, params, config, straight_through=True):
    """Next-byte logits, the ratio loss and the borders: encode, cut where bytes are unlike, transform the chunks, smooth and spread
    them, add what the encoder saw, decode.

    Shapes: tokens (B, T) -> (B, T, V), (), (B, T) bool. The number of chunks is fetched from the device.
    """
    h = stack(byte_embedding(tokens, params), with_prefix(params, "encoder"), config.stack("encoder"))
    h = rms_norm(h, params["encoder_norm.weight"], config.stack("encoder").norm_eps)  # §2.3.1: each network ends in one
    p = route(h, with_prefix(params, "route"))
    borders = p > 0.5
    x = linear(select(h, borders), params["enlarge.weight"])
    x = stack(x, with_prefix(params, "global"), config.stack("global"))
    x = linear(rms_norm(x, params["global_norm.weight"], config.stack("global").norm_eps), params["reduce.weight"])
    x = spread(ema_scan(x, select(p[..., None], borders)[..., 0]), p, borders, straight_through)
    x = stack(x + linear(h, params["residual.weight"]), with_prefix(params, "decoder"), config.stack("decoder"))
    return byte_head(x, params, config), ratio_loss(p, borders, config.target), borders
