"""Declarations of the patchers: where bytes are cut, by rules and by the entropy of a model."""

import numpy as np

import numpy_ref.tokenizers.patches as numpy_patches
import torch_impl.tokenizers.patches as torch_patches
from parity_tests.components.byte import or_refusal
from parity_tests.harness.declaration import Bug, Component
from parity_tests.texts import PIECES

EXACT = {"call": or_refusal, "exact": True, "dtypes": ("float64",), "compiles": False}


def draw_bytes(source, least=0):
    """Rows of bytes: of texts that are cut in interesting places, or any."""
    batch, length = source.integer(1, 3), source.size(40, least=max(1, least)) if source.integer(0, 9) else least
    kind = source.choice("text", "text", "any", "few")
    source.event(kind)
    if kind == "text":
        data = "".join(PIECES[source.choice(*PIECES)] for _ in range(8)).encode()
        data = np.frombuffer(data * (1 + batch * length // len(data)), np.uint8)[: batch * length]
    else:
        data = source.rng.integers(0, 256, batch * length) if kind == "any" else source.rng.choice([32, 97, 0x80], batch * length)
    source.event("no bytes", length == 0)
    source.event("one byte", length == 1)
    return data.reshape(batch, length).astype(source.choice(np.uint8, np.int64))


def draw_static(source):
    size = source.choice(0, 1, 2, 3, 4, 100)
    source.event("size 0", size == 0)
    return source.case({"tokens": draw_bytes(source)}, size=size)


STATIC = Component(
    name="static_starts",
    numpy=numpy_patches.static_starts,
    torch=torch_patches.static_starts,
    draw=draw_static,
    events=("text", "any", "few", "no bytes", "one byte", "size 0"),
    bugs=(
        Bug("the first byte is not alone", "numpy", "(place - 1) % size == 0", "place % size == 0"),
        Bug("no answer about the byte to come", "numpy", "tokens.shape[1] + 1)", "tokens.shape[1])"),
        Bug("size 0 divides", "numpy", "size < 1", "size < 0", needs=("size 0",)),
        Bug("one byte more", "torch", "% size", "% (size + 1)"),
        Bug("begins without a patch", "torch", "(place == 0) | ", ""),
    ),
    **EXACT,
)  # fmt: skip

SPACE = Component(
    name="space_starts",
    numpy=numpy_patches.space_starts,
    torch=torch_patches.space_starts,
    draw=lambda source: source.case({"tokens": draw_bytes(source)}),
    events=("text", "any", "few", "no bytes", "one byte"),
    bugs=(
        Bug("begins at the space: the border tells of a byte to come", "numpy", "starts[:, 2:] = spacelike[:, 1:] & ~spacelike[:, :-1]", "starts[:, 1:-1] = spacelike[:, 1:] & ~spacelike[:, :-1]"),
        Bug("behind every space of several", "numpy", " & ~spacelike[:, :-1]", ""),
        Bug("digits are spacelike", "numpy", "(letter | digit |", "(letter |"),
        Bug("characters are cut", "numpy", " | (tokens >> 6 == 0b10)", ""),
        Bug("capitals are spacelike", "numpy", "tokens | 32 >=", "tokens >="),
        Bug("the first byte is not alone", "numpy", "starts[:, :2] = True", "starts[:, :1] = True", function="_with_first"),
        Bug("accented bytes are letters", "torch", " & (byte < 128)", " | (byte >= 128)", function="_spacelike"),
        Bug("behind the last space of several", "torch", "spacelike[:, 1:] & ~spacelike[:, :-1]", "spacelike[:, :-1] & ~spacelike[:, 1:]"),
    ),
    **EXACT,
)  # fmt: skip


def draw_entropies(source):
    batch, length = source.integer(1, 3), source.size(40)
    entropies = np.abs(source.array("entropies", (batch, length + 1), ("one", "ties", "small")))
    threshold = source.choice(0.0, 0.5, 1.0, 1.0, float("inf"), float("nan"))
    source.event("a tie", bool((entropies == threshold).any()))
    source.event("no number", np.isnan(threshold))
    monotonic = source.flag()
    source.event("monotonic", monotonic)
    return source.case({"entropies": entropies}, threshold=threshold, monotonic=monotonic)


ENTROPY = Component(
    name="entropy_starts",
    numpy=numpy_patches.entropy_starts,
    torch=torch_patches.entropy_starts,
    draw=draw_entropies,
    events=("a tie", "no number", "monotonic"),
    bugs=(
        Bug("a tie is a border", "numpy", "entropies > threshold", "entropies >= threshold", needs=("a tie",)),
        Bug("one byte late", "numpy", "starts = entropies > threshold", "starts = np.roll(entropies, 1, axis=1) > threshold"),
        Bug("the fall of the entropy", "numpy", "entropies[:, 1:] - entropies[:, :-1] > threshold", "entropies[:, :-1] - entropies[:, 1:] > threshold"),
        Bug("never monotonic", "numpy", "if monotonic:", "if False:"),
        Bug("no number is a threshold", "numpy", "math.isnan(threshold)", "False", needs=("no number",)),
        Bug("always monotonic", "torch", "entropies.diff(dim=1) if monotonic else entropies[:, 1:]", "entropies.diff(dim=1)"),
        Bug("one byte early", "torch", "F.pad(above[:, 1:], (min(2, entropies.shape[1]), 0), value=True)", "F.pad(above, (1, 0), value=True).roll(-1, 1)"),
    ),
    **EXACT,
)  # fmt: skip


def draw_logits(source):
    logits = source.array("logits", (source.integer(1, 3), source.size(17), source.size(33, least=2)))
    return source.case({"logits": logits})


ENTROPIES = Component(
    name="next_byte_entropies",
    numpy=numpy_patches.next_byte_entropies,
    torch=torch_patches.next_byte_entropies,
    draw=draw_logits,
    inside="float32",
    events=("heavy", "constant", "ties", "zero"),
    bugs=(
        Bug("in bits", "numpy", "-np.sum(np.exp(logs) * logs, axis=-1)", "-np.sum(np.exp(logs) * logs, axis=-1) / math.log(2)"),
        Bug("the surprise of the likeliest", "numpy", "-np.sum(np.exp(logs) * logs, axis=-1)", "-np.max(logs, axis=-1)"),
        Bug("not shifted", "numpy", "[unknown, entropies]", "[entropies, unknown]"),
        Bug("the first byte is known", "numpy", "math.log(logits.shape[-1]), shape", "0.0, shape"),
        Bug("of the logits", "torch", "torch.log_softmax(rows, -1)", "rows"),
        Bug("in 16 bits", "torch", "logits.float() if logits.itemsize == 2 else logits", "logits.half().float()"),
    ),
)  # fmt: skip


def draw_starts(source):
    batch, length = source.integer(1, 3), source.size(40)
    starts = source.rng.random((batch, length + 1)) < source.choice(0.0, 0.1, 0.3, 1.0)
    starts[:, :2] = True
    source.event("long patches", bool((starts.sum(1) < length / 4).any()))
    return {"starts": starts}


def draw_limited(source):
    longest = source.choice(0, 1, 2, 3, 7)
    source.event("longest 0", longest == 0)
    return source.case(draw_starts(source), longest=longest)


LIMITED = Component(
    name="limited",
    numpy=numpy_patches.limited,
    torch=torch_patches.limited,
    draw=draw_limited,
    events=("longest 0", "long patches"),
    bugs=(
        Bug("counted from the beginning of the row", "numpy", "(place - begin) % longest", "place % longest"),
        Bug("borders of old forgotten", "numpy", "np.where(starts, place, 0)", "np.where(starts, 0, 0)"),
        Bug("one byte too long", "numpy", "% longest == 0", "% (longest + 1) == 0"),
        Bug("length 0 divides", "numpy", "longest < 1", "longest < 0", needs=("longest 0",)),
        Bug("cut once only", "torch", "(place - begin) % longest == 0", "place - begin == longest"),
    ),
    **EXACT,
)  # fmt: skip

IDS = Component(
    name="patch_ids",
    numpy=numpy_patches.patch_ids,
    torch=torch_patches.patch_ids,
    draw=lambda source: source.case(draw_starts(source)),
    events=("long patches",),
    bugs=(
        Bug("from 1", "numpy", " - 1", ""),
        Bug("the byte to come is in", "numpy", "starts[:, :-1]", "starts"),
        Bug("numbered through all rows", "numpy", "np.cumsum(starts[:, :-1], axis=1)", "np.cumsum(starts[:, :-1]).reshape(starts[:, :-1].shape)"),
        Bug("one byte late", "torch", "starts[:, :-1]", "starts[:, 1:]"),
    ),
    **EXACT,
)  # fmt: skip

COMPLETE = Component(
    name="complete_ids",
    numpy=numpy_patches.complete_ids,
    torch=torch_patches.complete_ids,
    draw=lambda source: source.case(draw_starts(source)),
    events=("long patches",),
    bugs=(
        Bug("the patch of the byte itself: it knows what comes", "numpy", "np.cumsum(starts, axis=1)[:, 1:] - 2", "np.cumsum(starts, axis=1)[:, :-1] - 1"),
        Bug("one patch late", "numpy", " - 2", " - 3"),
        Bug("complete one byte late", "numpy", "[:, 1:] - 2", "[:, :-1] - 2"),
        Bug("one patch early", "torch", " - 2", " - 1"),
    ),
    **EXACT,
)  # fmt: skip

COMPONENTS = (STATIC, SPACE, ENTROPY, ENTROPIES, LIMITED, IDS, COMPLETE)
