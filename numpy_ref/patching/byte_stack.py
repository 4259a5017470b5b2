"""What all byte models are made of: embedded bytes, stacks of blocks, a score for every next byte; and the plain one."""

import numpy as np

from numpy_ref.model.block import block, with_prefix
from numpy_ref.model.embedding import embedding
from numpy_ref.model.hash_ngrams import hash_ngrams
from numpy_ref.model.linear import linear
from numpy_ref.model.norms import rms_norm
from numpy_ref.model.positions import rope_phases


def byte_embedding(tokens, params):
    """Each byte's own vector, and those of its n-grams where the model has such tables.

        y_t = E[x_t] + sum over n of E_n[hash of x_{t-n+1} ... x_t]

    params: "byte_embedding.weight" (256, d), "ngrams.N.weight" (rows, d)?. BLT divides the sum by the number of its terms;
    here the norms of the blocks do that.

    Shapes: tokens (B, T) -> (B, T, d);  vjp: dy (B, T, d) -> grads of these parameters.
    """
    y, byte_vjp = embedding(tokens, params["byte_embedding.weight"])
    tables, ngram_vjp = with_prefix(params, "ngrams"), None
    if tables:
        ngrams, ngram_vjp = hash_ngrams(tokens, tables)
        y = y + ngrams

    def vjp(dy):
        grads = {"byte_embedding.weight": byte_vjp(dy)}
        return grads | ({} if ngram_vjp is None else under("ngrams", ngram_vjp(dy)))

    return y, vjp


def stack(x, params, config):
    """Blocks, one after the other, with RoPE on the places of the row, causal.

    params: "blocks.0. ...", as in ``parameter_shapes``; config: the ModelConfig of the stack.

    Shapes: x (B, T, d) -> (B, T, d);  vjp: dy -> dx, grads with the keys of params.
    """
    phases, vjps = rope_phases(np.arange(x.shape[1])[None], config, x.dtype), []
    for layer in range(config.layers):
        x, block_vjp = block(x, with_prefix(params, f"blocks.{layer}"), config, layer=layer, phases=phases)
        vjps.append(block_vjp)

    def vjp(dy):
        grads = {}
        for layer in reversed(range(config.layers)):
            dy, block_grads = vjps[layer](dy)
            grads |= under(f"blocks.{layer}", block_grads)
        return dy, {name: grads[name] for name in params}

    return x, vjp


def byte_head(x, params, config):
    """Logits of the next byte: norm(x) W^T.

    Shapes: x (B, T, d) -> (B, T, 256);  vjp: dy -> dx, grads of "final_norm.weight" and "output.weight".
    """
    normed, norm_vjp = rms_norm(x, params["final_norm.weight"], config.stack("decoder").norm_eps)
    logits, output_vjp = linear(normed, params["output.weight"])

    def vjp(dy):
        dnormed, dweight, _ = output_vjp(dy)
        dx, dnorm = norm_vjp(dnormed)
        return dx, {"final_norm.weight": dnorm, "output.weight": dweight}

    return logits, vjp


def byte_transformer(tokens, params, config):
    """A transformer over bytes: what patches have to beat. With n-gram tables it is the fair baseline.

    Shapes: tokens (B, T) -> logits (B, T, 256);  vjp: dy -> grads with the keys of params.
    """
    x, embed_vjp = byte_embedding(tokens, params)
    x, stack_vjp = stack(x, with_prefix(params, "decoder"), config.stack("decoder"))
    logits, head_vjp = byte_head(x, params, config)

    def vjp(dy):
        dx, grads = head_vjp(dy)
        dx, blocks = stack_vjp(dx)
        grads |= under("decoder", blocks) | embed_vjp(dx)
        return {name: grads[name] for name in params}

    return logits, vjp


def under(prefix, grads):
    """The gradients under longer names: the other way round than ``with_prefix``."""
    return {f"{prefix}.{name}": grad for name, grad in grads.items()}
