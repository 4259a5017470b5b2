"""Declaration of the first weights of byte models. Models and steps as wholes: test_patching.py."""

import numpy_ref.patching.initialise as numpy_initialise
import torch_impl.patching.initialise as torch_initialise
from numpy_ref.patching.config import KINDS
from parity_tests.components.byte_stack import small_config
from parity_tests.harness.declaration import DTYPE, Bug, Component


def draw_initialise(source):
    kind = source.choice(*KINDS)
    source.event(kind)
    return source.case({}, config=small_config(source, kind, vocab_size=5), seed=source.integer(0, 2**40), dtype=DTYPE)


INITIALISE = Component(
    name="patching initialise",
    numpy=numpy_initialise.initialise,
    torch=torch_initialise.initialise,
    draw=draw_initialise,
    dtypes=("float64", "float32"),
    events=(*KINDS, "n-grams"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("norms begin at 0", "numpy", "np.ones(shape, dtype)", "np.zeros(shape, dtype)"),
        Bug("a random router", "numpy", 'name.startswith("route.")', "False"),
        Bug("a residual from the beginning", "numpy", 'name == "residual.weight"', "False"),
        Bug("depth forgotten", "numpy", "math.sqrt(2 * config.stack(name.partition(\".\")[0]).layers)", "1.0", function="_deviation"),
        Bug("one stream for all", "torch", "STREAM_INIT + number", "STREAM_INIT"),
        Bug("seed ignored", "torch", "normal(seed,", "normal(0,"),
    ),
)  # fmt: skip

COMPONENTS = (INITIALISE,)
