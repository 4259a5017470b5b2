"""Every declaration, in the order of the report."""

from parity_tests.components import (
    activations,
    adamw,
    attention,
    block,
    dropout,
    embedding,
    feed_forward,
    linear,
    losses,
    multi_head_attention,
    norms,
    positions,
    residual,
    softmax,
    step,
    transformer,
)

COMPONENTS = (
    *embedding.COMPONENTS,
    *positions.COMPONENTS,
    *norms.COMPONENTS,
    *linear.COMPONENTS,
    *activations.COMPONENTS,
    *dropout.COMPONENTS,
    *residual.COMPONENTS,
    *softmax.COMPONENTS,
    *attention.COMPONENTS,
    *multi_head_attention.COMPONENTS,
    *feed_forward.COMPONENTS,
    *block.COMPONENTS,
    *transformer.COMPONENTS,
    *losses.COMPONENTS,
    *adamw.COMPONENTS,
    *step.COMPONENTS,
)
