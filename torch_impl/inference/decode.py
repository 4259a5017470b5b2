"""One token at a time, as fast as it goes: what does not change between tokens is prepared once."""

import torch
import torch.nn.functional as F

from torch_impl.inference.cached import cached_transformer
from torch_impl.inference.graph import GraphDecoder
from torch_impl.model.activations import activation, softcap
from torch_impl.model.kv_cache import write_cache
from torch_impl.model.linear import linear
from torch_impl.model.masks import visible_keys
from torch_impl.model.parameters import with_prefix
from torch_impl.model.positions import config_frequencies, rope_phases
from torch_impl.model.quantization import Quantized, dequantize
from torch_impl.model.transformer import embed

_FEW = 4  # rows

TORCH_ONLY_FILE = "the same computation as cached_transformer, arranged for one token a row"


class Decoder:
    """``cached_transformer`` for one new token a row: ``decoder(tokens)`` -> logits, and the cache takes them in.

    With one token a row a model reads every weight for a handful of multiplications, so memory traffic counts, and in
    small models the number of calls. What is done about it:

    - on CPUs weights are reordered once into the blocks of oneDNN's matrix product, which is then about twice as fast;
    - the stream stays in float32, so that norms and sums need no conversions;
    - queries that share a key head are the rows of one product, instead of copies of the keys;
    - while all rows are equally long, attention reads just the filled part of the buffers and needs no mask.

    params, config: the model. Post-norm blocks, ALiBi, soft-capped scores, experts and hyperbolic heads take ``cached_transformer``'s way.
    """

    def __init__(self, params, config, rows):
        self.params, self.config = params, config
        self.plain = config.norm_position == "post" or config.positions == "alibi" or config.attention_softcap > 0
        self.plain = self.plain or config.experts > 0 or config.attention_curvature > 0
        if self.plain:
            return
        self.dtype = params["token_embedding.weight"].dtype
        if config.positions == "rope":
            theta, length = config_frequencies(config)
            device = params["token_embedding.weight"].device
            self.frequencies = theta.to("cpu" if device.type == "mps" else device), length
        self.layers = [_layer(with_prefix(params, f"blocks.{n}"), config, rows, self.dtype) for n in range(config.layers)]
        self.final_norm = _norm(with_prefix(params, "final_norm"), config)
        output = "token_embedding.weight" if config.tie_embeddings else "output.weight"
        self.output = _map({"weight": params[output]}, rows, self.dtype)

    @torch.inference_mode()
    def __call__(self, tokens, cache, at=None):
        """The logits after one more token a row.

        Shapes: tokens (rows,) integers -> logits (rows, V). cache: see ``kv_cache``; it is written. ``at``: the
        position of the new tokens if it is the same in all rows, else None.
        """
        if self.plain:
            logits, grown = cached_transformer(tokens[:, None], self.params, self.config, cache, last=True)
            cache["length"] = grown["length"]
            return logits
        config, rows = self.config, len(tokens)
        positions = cache["length"][:, None]
        x = embed(tokens[:, None], positions, self.params, config)[:, 0].to(_wide(self.dtype))
        turn = _turning(positions, config, self.dtype, self.frequencies) if config.positions == "rope" else None
        for number, (own, layer) in enumerate(zip(self.layers, cache["layers"])):
            heads = own["query_key_value"](own["attention_norm"](x).to(self.dtype)).view(rows, -1, config.head_features)
            query, key, value = self._heads(heads, own, turn, layer["key"].dtype)
            y = self._attend(query, key, value, positions, at, layer, config.layer_window(number))
            x = x + own["output"](y.to(self.dtype))
            hidden = activation(config.activation, own["up"](own["feed_forward_norm"](x).to(self.dtype)))
            x = x + own["down"](hidden)
        cache["length"] = cache["length"] + 1
        logits = self.output(self.final_norm(x).to(self.dtype))
        return softcap(logits, config.logit_softcap) if config.logit_softcap else logits

    def _heads(self, heads, own, turn, dtype):
        """Query (rows, H, hd), key and value (rows, G, hd) from all heads side by side, in the cache's format."""
        config = self.config
        turning = config.heads + config.key_value_heads
        both, value = heads[:, :turning], heads[:, turning:].to(dtype)
        if config.qk_norm:
            both = torch.cat((own["query_norm"](both[:, : config.heads]), own["key_norm"](both[:, config.heads :])), 1)
        if turn is not None:
            both = turn(both)
        both = both.to(dtype)
        return both[:, : config.heads], both[:, config.heads :], value

    def _attend(self, query, key, value, positions, at, layer, window):
        """Write the new key, then attend: (rows, H, hd) -> (rows, H hd)."""
        config, slots = self.config, layer["positions"].shape[1]
        grouped = query.unflatten(1, (config.key_value_heads, -1))
        if at is not None and at < slots:  # no ring has closed yet: slots are in the order of positions
            layer["key"][:, :, at], layer["value"][:, :, at], layer["positions"][:, at] = key, value, at
            whole = not window or at < window
            if whole or not config.sinks:
                seen = slice(0 if whole else at + 1 - window, at + 1)
                y = F.scaled_dot_product_attention(grouped, layer["key"][:, :, seen], layer["value"][:, :, seen])
                return y.flatten(1)
        else:
            write_cache(layer, key[:, :, None], value[:, :, None], positions, config.sinks)
        mask = visible_keys(positions, layer["positions"], window, config.sinks)
        y = F.scaled_dot_product_attention(grouped, layer["key"], layer["value"], attn_mask=mask)
        return y.flatten(1)


def make_decoder(params, config, rows):
    """The fastest decoder for a device: on CUDA the step is recorded as a graph, if nothing in it asks the host."""
    decoder = Decoder(params, config, rows)
    if params["token_embedding.weight"].is_cuda and not decoder.plain:
        return GraphDecoder(decoder)
    return decoder


def _layer(params, config, rows, dtype):
    attention, feed = with_prefix(params, "attention"), with_prefix(params, "feed_forward")
    up = "gate_up" if "gate_up.weight" in feed else "up"
    norms = {"attention_norm": params, "feed_forward_norm": params}
    if config.qk_norm:
        norms |= {"query_norm": attention, "key_norm": attention}
    return {
        "query_key_value": _map(with_prefix(attention, "query_key_value"), rows, dtype),
        "output": _map(with_prefix(attention, "output"), rows, dtype),
        "up": _map(with_prefix(feed, up), rows, dtype),
        "down": _map(with_prefix(feed, "down"), rows, dtype),
    } | {
        name: _norm(with_prefix(place, name), config, "rms" if place is attention else config.norm)
        for name, place in norms.items()
    }


def _map(params, rows, dtype):
    """x -> x W^T + b for ``rows`` rows, by oneDNN's reordered weights where they serve."""
    weight, bias = params["weight"], params.get("bias")
    if isinstance(weight, Quantized) and weight.codes.device.type == "cpu":
        return _quantized_map(weight, bias, rows, dtype)
    fits = isinstance(weight, torch.Tensor) and weight.device.type == "cpu"
    if not (fits and weight.dtype in (torch.float32, torch.bfloat16) and torch.backends.mkldnn.is_available()):
        return lambda x: linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def _quantized_map(weight, bias, rows, dtype):
    """The same for a quantised matrix on a CPU, by PyTorch's kernels that read the codes themselves.

    They compute in bfloat16, and win for a few rows, where reading weights is all the work; otherwise the values are
    written out once.
    """
    if dtype != torch.bfloat16 or rows > _FEW or (weight.bits == 4 and weight.group not in (32, 64, 128, 256)):
        return _map({"weight": dequantize(weight, dtype)} | ({} if bias is None else {"bias": bias}), rows, dtype)
    if weight.bits == 8:
        scales = weight.scales.bfloat16()
        return lambda x: _with_bias(torch._weight_int8pack_mm(x, weight.codes, scales), bias)
    codes = torch.stack((weight.codes & 15, weight.codes >> 4), -1).flatten(1)
    packed = torch._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
    both = torch.stack((weight.scales, weight.zeros), -1).transpose(0, 1).contiguous().bfloat16()
    group = weight.group
    return lambda x: _with_bias(torch._weight_int4pack_mm_for_cpu(x, packed, group, both), bias)


def _with_bias(y, bias):
    return y if bias is None else y + bias


def _norm(params, config, kind=None):
    """The norm as a function of the float32 stream. RMS by its vector norm: two calls instead of six."""
    weight, bias = params["weight"], params.get("bias")
    wide = _wide(weight.dtype)
    weight, bias, width = weight.to(wide), None if bias is None else bias.to(wide), len(weight)

    def layer(x):
        return F.layer_norm(x.to(wide), weight.shape, weight, bias, config.norm_eps)

    def rms(x):
        x = x.to(wide)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * (length * length).mul_(1 / width).add_(config.norm_eps).rsqrt_() * weight

    return rms if (kind or config.norm) == "rms" else layer


def _turning(positions, config, dtype, frequencies):
    """RoPE of all heads of one token: x cos + partner sin, in float32."""
    cos, sin = rope_phases(positions, config, dtype, frequencies)  # (rows, 1, r / 2)
    r, features = config.rotary_features, config.head_features
    if config.rope_interleaved:
        cos, sin = cos.repeat_interleave(2, -1), torch.stack((-sin, sin), -1).flatten(-2)
    else:
        cos, sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)

    def turn(x):
        x = x.to(cos.dtype)
        part = x if r == features else x[..., :r]
        if config.rope_interleaved:
            partner = part.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        else:
            partner = part.roll(r // 2, -1)
        turned = torch.addcmul(part * cos, partner, sin)
        return turned if r == features else torch.cat((turned, x[..., r:]), -1)

    return turn


def _wide(dtype):
    """The format of the stream: float32 or better."""
    return torch.promote_types(dtype, torch.float32)
