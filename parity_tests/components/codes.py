"""Declarations of quantised thoughts: the choice, its straight-through gradient, and what fits the codebook."""

import numpy as np

import numpy_ref.thoughts.codes as numpy_codes
import torch_impl.thoughts.codes as torch_codes
from numpy_ref.config import parameter_shapes
from numpy_ref.thoughts.settings import UnitConfig
from parity_tests.components.block import KERNELS, random_parameters
from parity_tests.components.stream import plain_config
from parity_tests.harness.declaration import Bug, Component


def codes_and_states(source, width=None):
    """(hidden, table): states near codes that lie apart, so that in no number format another code is the nearest."""
    codes, width, leading = source.size(17, least=2), width or source.integer(5, 9), source.leading()
    signs = (np.arange(codes)[:, None] >> np.arange(5)) % 2
    table = np.concatenate([4.0 * signs - 2.0, source.rng.standard_normal((codes, width - 5))], axis=1)
    chosen = source.tokens(leading, codes)
    source.event("an unused code", len(np.unique(chosen)) < codes)
    source.event("a code used twice", len(np.unique(chosen)) < chosen.size)
    return table[chosen] + 0.2 * source.rng.uniform(-1.0, 1.0, (*leading, width)), table


def draw_table(source):
    config, settings = plain_config(source), UnitConfig("code", nodes=3, codes=5)
    params = random_parameters(source.rng, {"token_embedding.weight": parameter_shapes(config)["token_embedding.weight"]})
    source.event("scaled", config.embedding_scale != 1)
    return source.case({"params": params}, config=config, settings=settings)


CODE_TABLE = Component(
    name="code_table",
    numpy=numpy_codes.code_table,
    torch=torch_codes.code_table,
    draw=draw_table,
    differentiable=("params",),
    events=("scaled",),
    compiles=False,
    bugs=(
        Bug("the first ids", "numpy", "weight[-settings.codes :], vjp", "weight[: settings.codes], vjp"),
        Bug("scale forgotten", "numpy", "config.embedding_scale * weight", "weight", needs=("scaled",)),
        Bug("scale forgotten in the gradient", "numpy", "= config.embedding_scale * dtable", "= dtable", needs=("scaled",)),
        Bug("gradient of other ids", "numpy", "dweight[-settings.codes :]", "dweight[: settings.codes]"),
        Bug("the first ids in Torch", "torch", "[-settings.codes :]", "[: settings.codes]"),
        Bug("one code fewer", "torch", "[-settings.codes :]", "[1 - settings.codes :]"),
    ),
)  # fmt: skip


def draw_scores(source):
    codes, width = source.size(17, least=2), source.size(9)
    hidden, table = (source.array(name, shape, ("one", "small", "sixteen", "zero")) for name, shape in
                     (("hidden", (*source.leading(), width)), ("table", (codes, width))))  # fmt: skip
    return source.case({"hidden": hidden, "table": table})


CODE_SCORES = Component(
    name="code_scores",
    numpy=numpy_codes.code_scores,
    torch=torch_codes.code_scores,
    draw=draw_scores,
    dtypes=("float64", "float32"),
    events=("zero", "sixteen"),
    compiles=False,
    bugs=(
        Bug("nearest by product", "numpy", "- 0.5 * np.sum(table * table, axis=-1)", ""),
        Bug("the whole square", "numpy", "0.5 * np.sum", "np.sum"),
        Bug("far codes first", "numpy", "hidden @ table.T - ", "-hidden @ table.T - "),
        Bug("length for its square", "torch", ".square().sum(-1)", ".square().sum(-1).sqrt()"),
        Bug("one length for all", "torch", ".square().sum(-1)", ".square().sum()"),
    ),
)  # fmt: skip


def draw_nearest(source):
    hidden, table = codes_and_states(source)
    return source.case({"hidden": hidden, "table": table})


NEAREST_CODE = Component(
    name="nearest_code",
    numpy=numpy_codes.nearest_code,
    torch=torch_codes.nearest_code,
    draw=draw_nearest,
    differentiable=("hidden", "table"),
    dtypes=("float64", "float32"),  # as of ``partial_sums``: a 16-bit table is summed in its format
    events=("an unused code", "a code used twice"),
    compiles=False,
    bugs=(
        Bug("no gradient straight through", "numpy", "return dy.copy(), _scattered", "return 0 * dy, _scattered"),
        Bug("the codebook has no gradient", "numpy", "_scattered(dy, chosen, table)", "0 * _scattered(dy, chosen, table)"),
        Bug("not quantised at all", "numpy", "table[chosen] + (hidden - hidden.real)", "hidden"),
        Bug("the farthest code", "numpy", "np.argmax(", "np.argmin("),
        Bug("a code twice counts once", "numpy", "one_hot.T @", "(one_hot / np.maximum(one_hot.sum(0), 1)).T @", "_scattered", needs=("a code used twice",)),
        Bug("the state is not passed through", "torch", " + (hidden - hidden.detach())", ""),
        Bug("the codebook is detached", "torch", "return table[", "return table.detach()["),
        Bug("half the gradient", "torch", "(hidden - hidden.detach())", "0.5 * (hidden - hidden.detach())"),
    ),
)  # fmt: skip


def draw_loss(source):
    hidden, table = codes_and_states(source)
    return source.case({"hidden": hidden, "table": table}, commitment=source.choice(0.25, 1.0, 3.0))


CODE_LOSS = Component(
    name="code_loss",
    numpy=numpy_codes.code_loss,
    torch=torch_codes.code_loss,
    draw=draw_loss,
    differentiable=("hidden", "table"),
    dtypes=("float64", "float32"),
    events=("an unused code", "a code used twice"),
    compiles=False,
    bugs=(
        Bug("commitment forgotten", "numpy", "+ commitment * np.mean", "+ np.mean"),
        Bug("states are bound as codes are", "numpy", "return commitment * share * bind", "return share * bind"),
        Bug("states without a gradient", "numpy", "return commitment * share * bind", "return 0 * bind"),
        Bug("codes are pushed away", "numpy", "_scattered(share * pull", "_scattered(-share * pull"),
        Bug("2 forgotten", "numpy", "2.0 * dl", "dl"),
        Bug("a gradient through both terms", "torch", "hidden.detach() - chosen", "hidden - chosen"),
        Bug("codes learn from commitment too", "torch", "hidden - chosen.detach()", "hidden - chosen"),
        Bug("a sum over features", "torch", "chosen.detach()).square().mean()", "chosen.detach()).square().sum(-1).mean()"),
    ),
)  # fmt: skip


def draw_farthest(source):
    rows, width = source.size(33), source.size(5)
    x = source.rng.standard_normal((rows, width))
    count = source.integer(1, 6)
    source.event("several", count > 2 and rows > 3)
    source.event("more than there are", count > rows)
    return source.case({"x": x}, count=count)


FARTHEST_FIRST = Component(
    name="farthest_first",
    numpy=numpy_codes.farthest_first,
    torch=torch_codes.farthest_first,
    draw=draw_farthest,
    dtypes=("float64",),
    exact=True,
    events=("several", "more than there are"),
    compiles=False,
    bugs=(
        Bug("far from the last alone", "numpy", "np.minimum(apart, np.sum((x - x[starts[-1]]) ** 2, axis=-1))", "np.sum((x - x[starts[-1]]) ** 2, axis=-1)", needs=("several",)),
        Bug("far from the first alone", "numpy", "x[starts[-1]]", "x[starts[0]]", needs=("several",)),
        Bug("the nearest", "numpy", "np.argmax(apart)", "np.argmin(apart)", needs=("several",)),
        Bug("far from one of them", "torch", "torch.minimum(apart,", "torch.maximum(apart.nan_to_num(posinf=0.0),", needs=("several",)),
        Bug("one fewer", "torch", "range(1, count)", "range(1, count - 1)", needs=("several",)),
    ),
)  # fmt: skip


def draw_fit(source):
    settings = UnitConfig("code", nodes=3, codes=source.integer(2, 4))
    config = plain_config(source, positions="learned", vocab_size=settings.vocab_size)  # else orders of a question look alike
    rows = source.rng.choice(3**4, source.integer(4, 9), replace=False)
    question = rows[:, None] // 3 ** np.arange(4) % 3
    count = source.integer(1, 3)
    source.event("several thoughts", count > 1)
    source.event("scaled", config.embedding_scale != 1)
    arrays = {"params": random_parameters(source.rng, parameter_shapes(config)), "question": question}
    return source.case(arrays, config=config, settings=settings, count=count)


FIT_CODES = Component(
    name="fit_codes",
    numpy=numpy_codes.fit_codes,
    torch=torch_codes.fit_codes,
    draw=draw_fit,
    kernels=KERNELS,
    dtypes=("float64",),
    events=("several thoughts", "scaled"),
    weight=4,
    compiles=False,
    bugs=(
        Bug("scale forgotten", "numpy", "codebook / config.embedding_scale", "codebook", needs=("scaled",), dtype="float64"),
        Bug("the first thought alone", "numpy", "np.concatenate(thoughts)", "thoughts[0]", needs=("several thoughts",), dtype="float64"),
        Bug("the first ids", "numpy", "weight[-settings.codes :] = codebook", "weight[: settings.codes] = codebook", dtype="float64"),
        Bug("states of the whole question", "numpy", "thoughts.append(h[:, -1])", "thoughts.append(h[:, 0])", dtype="float64"),
        Bug("the past is dropped", "torch", "hidden_states(inputs, params, config, past)", "hidden_states(inputs, params, config)", needs=("several thoughts",), dtype="float64"),
        Bug("thoughts not thought on", "torch", "inputs = h[:, -1:]", "inputs = inputs[:, -1:]", needs=("several thoughts",), dtype="float64"),
    ),
)  # fmt: skip

COMPONENTS = (CODE_TABLE, CODE_SCORES, NEAREST_CODE, CODE_LOSS, FARTHEST_FIRST, FIT_CODES)
