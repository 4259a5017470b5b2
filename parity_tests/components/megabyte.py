"""Declaration of MegaByte."""

import numpy_ref.patching.megabyte as numpy_megabyte
import torch_impl.patching.megabyte as torch_megabyte
from parity_tests.components.block import KERNELS
from parity_tests.components.byte_stack import parameters, short, small_config
from parity_tests.harness.declaration import Bug, Component


def draw(source):
    patch = source.choice(1, 2, 4)
    config = small_config(source, "megabyte", patch=patch)
    tokens = short(source)
    source.event("patches of one byte", patch == 1)
    source.event("a patch that is not full", tokens.shape[1] % patch > 0)
    source.event("several patches", tokens.shape[1] > patch > 1)
    source.event("one patch", tokens.shape[1] <= patch)
    return source.case({"tokens": tokens, "params": parameters(source, config)}, config=config)


MEGABYTE = Component(
    name="megabyte",
    numpy=numpy_megabyte.megabyte,
    torch=torch_megabyte.megabyte,
    draw=draw,
    differentiable=("params",),
    kernels=KERNELS,
    events=("n-grams", "no n-grams", "patches of one byte", "a patch that is not full", "several patches", "one patch"),
    weight=8,
    compiles=False,
    bugs=(
        Bug("the global model reads the patch itself", "numpy", "late = np.concatenate([first, patches.reshape(batch, count - 1, config.global_width)], axis=1)", "late = np.concatenate([first, patches.reshape(batch, count - 1, config.global_width)], axis=1); late = late[:, [*range(1, count), 0]]"),
        Bug("the first patch's vector of one row alone", "numpy", "np.sum(dlate[:, 0], axis=0, keepdims=True)", "dlate[:1, 0]"),
        Bug("padding in place of bytes", "numpy", "padded[:, :length] = tokens", "padded[:, padded.shape[1] - length :] = tokens"),
        Bug("patches without a gradient", "numpy", "patch_vjp(dlate[:, 1:].reshape(patches.shape))", "patch_vjp(0 * dlate[:, 1:].reshape(patches.shape))"),
        Bug("parts not added", "numpy", "(own + parts)", "(own + 0 * parts)"),
        Bug("bytes not added", "torch", "(byte_embedding(padded, params) + parts)", "parts"),
        Bug("all patches are one in the local model", "torch", ".view(-1, size, config.width)", ".view(len(tokens), -1, config.width)"),
        Bug("global norm left out", "torch", "parts = linear(g.view(", "parts = linear(seen.view("),
        Bug("no n-grams", "torch", "(byte_embedding(padded, params) + parts)", "(byte_embedding(padded, {'byte_embedding.weight': params['byte_embedding.weight']}) + parts)"),
    ),
)  # fmt: skip

COMPONENTS = (MEGABYTE,)
