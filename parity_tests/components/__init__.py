"""Every declaration, in the order of the report."""

from parity_tests.components import (
    activations,
    dropout,
    embedding,
    linear,
    norms,
    positions,
    residual,
    softmax,
    step,
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
    *step.COMPONENTS,
)
