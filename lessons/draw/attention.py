"""Where each head looks on a text."""

import io

from lessons.draw.picture import Picture
from numpy_ref import plots
from numpy_ref.inference.attention_maps import attention_maps


def attention(tokens, labels, params, config, layer=None, head=None, title="Where each head looks"):
    """Attention maps of all layers and heads, or of one.

    tokens (T,) of whole numbers; labels: T short texts; params, config: a model. Rows are the tokens that look.
    """
    maps = attention_maps(tokens, params, config)
    layers, heads = slice(layer, None if layer is None else layer + 1), slice(head, None if head is None else head + 1)
    buffer = io.BytesIO()
    plots.attention_maps(maps[layers, heads], labels, buffer, title, layer or 0, head or 0)
    return Picture(buffer.getvalue(), title)
