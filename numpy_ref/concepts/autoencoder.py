"""The concept space: a sentence as one vector, from which its bytes can be read again.

The encoder sees all bytes at once and gives the mean of what it made of them. In training noise is added to it, so that
the decoder learns to read vectors near that of a sentence as well: what a model predicts never hits one exactly.
"""

import numpy as np

from numpy_ref.model.block import block, with_prefix
from numpy_ref.model.embedding import embedding
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm
from numpy_ref.model.positions import rope_phases
from numpy_ref.patching.byte_stack import byte_head, stack, under


def mean_pool(x, lengths):
    """The mean over the first places of each row: y = sum over t < length of x_t / length.

    Shapes: x (B, T, d), lengths (B,), from 1 to T -> (B, d);  vjp: dy -> dx (B, T, d).

    Backward: each place that counts gets dy / length, padding nothing.
    """
    share = np.where(np.arange(x.shape[1]) < lengths[:, None], 1.0 / lengths[:, None], 0.0).astype(x.dtype)[..., None]

    def vjp(dy):
        return dy[:, None] * share

    return np.sum(x * share, axis=1), vjp


def encode_sentences(tokens, lengths, params, config):
    """The concept of each sentence.

        h = blocks(E[bytes]), every byte sees every byte of the sentence
        z = n(Wc mean over the bytes of norm(h)),     n(x) = x / sqrt(mean(x^2) + eps)

    Without the last norm the encoder would beat the noise on z by large numbers.

    params: those of ``encoder_shapes``, and any others. config: AutoencoderConfig.

    Shapes: tokens (B, L), anything below 257 behind the end; lengths (B,) in bytes, 1 to L -> (B, c);
    vjp: dy -> grads of the encoder's parameters.
    """
    stack_config = config.stack("encoder")
    mask = (np.arange(tokens.shape[1]) < lengths[:, None])[:, None, None]
    x, embed_vjp = embedding(tokens, params["byte_embedding.weight"])
    phases, vjps = rope_phases(np.arange(x.shape[1])[None], stack_config, x.dtype), []
    blocks = with_prefix(params, "encoder")
    for layer in range(config.layers):
        own = with_prefix(blocks, f"blocks.{layer}")
        x, block_vjp = block(x, own, stack_config, mask, causal=False, layer=layer, phases=phases)
        vjps.append(block_vjp)
    normed, norm_vjp = rms_norm(x, params["encoder_norm.weight"], stack_config.norm_eps)
    pooled, pool_vjp = mean_pool(normed, lengths)
    z, concept_vjp = linear(pooled, params["to_concept.weight"])
    z, size_vjp = rms_norm(z, np.ones_like(z, shape=z.shape[-1:]), stack_config.norm_eps)

    def vjp(dy):
        grads = {}
        dpooled, grads["to_concept.weight"], _ = concept_vjp(size_vjp(dy)[0])
        dx, grads["encoder_norm.weight"] = norm_vjp(pool_vjp(dpooled))
        for layer in reversed(range(config.layers)):
            dx, block_grads = vjps[layer](dx)
            grads |= under(f"encoder.blocks.{layer}", block_grads)
        grads["byte_embedding.weight"] = embed_vjp(dx)
        return {name: grads[name] for name in params if name in grads}

    return z, vjp


def decode_logits(concepts, tokens, params, config):
    """Scores of every token of a sentence, given the concept and the tokens before it.

        x_t = W z + E[token_{t-1}],    E[token_{-1}] = 0;        logits = head(blocks(x)), causal

    Shapes: concepts z (B, c), tokens (B, L) of which the last is not looked at -> (B, L, 257);
    vjp: dy -> dconcepts, grads of the decoder's parameters.
    """
    said, embed_vjp = embedding(tokens[:, :-1], params["byte_embedding.weight"])
    meant, concept_vjp = linear(concepts, params["from_concept.weight"])
    x = np.concatenate([np.zeros_like(said, shape=(len(said), 1, said.shape[2])), said], axis=1) + meant[:, None]
    h, stack_vjp = stack(x, with_prefix(params, "decoder"), config.stack("decoder"))
    logits, head_vjp = byte_head(h, params, config)

    def vjp(dy):
        dh, grads = head_vjp(dy)
        dx, blocks = stack_vjp(dh)
        grads |= under("decoder", blocks)
        dconcepts, grads["from_concept.weight"], _ = concept_vjp(np.sum(dx, axis=1))
        grads["byte_embedding.weight"] = embed_vjp(dx[:, 1:])
        return dconcepts, {name: grads[name] for name in params if name in grads}

    return logits, vjp
