"""The reference: every component of a language model in readable NumPy, with its backward pass derived by hand.

A component is a pure function that returns its value and its vector-Jacobian product:

    y, vjp = layer_norm(x, weight, bias)
    dx, dweight, dbias = vjp(dy)

``vjp`` maps the gradient of the loss with respect to y to the gradients with respect to the arguments, in their order.
Nothing changes its arguments, nothing keeps state, and whatever number format comes in goes out.
``torch_impl`` holds the same names in the same files, made fast.
"""

import os

# The threads of OpenBLAS wait for work in a busy loop of 2^N turns; a short one leaves shared cores to the others. It
# must be said before NumPy loads OpenBLAS.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
