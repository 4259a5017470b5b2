"""The README's table of components, written from the declarations: ``python -m parity_tests.components_table``.

The table stands between two marks in README.md; a test fails when it no longer says what the declarations say.
"""

import re
from collections import defaultdict
from pathlib import Path

from parity_tests.components import COMPONENTS
from parity_tests.harness.declaration import DTYPES

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- components -->\n", "<!-- end of components -->\n"
HEADER = """| part | file (the same in `numpy_ref/` and `torch_impl/`) | components, each with its number of planted bugs, all caught | \
proved equal in | lesson |
|---|---|---|---|---|
"""
# In which parts of the curriculum a file is read: the first one explains most of it.
PARTS = {
    "rng": "1",
    "model.activations": "1, 3",
    "model.attention": "1, 3",
    "model.multi_head_attention": "1, 3",
    "model.norms": "1, 3",
    "model.positions": "1, 3",
    "precision": "4",
    "model.float8": "4",
    "training.schedules": "2, 4",
    "training.losses": "2, 4",
    "training.muon": "2, 4",
    "training.step": "2, 4",
    "training.token_logprobs": "8, 9",
    "training.loss_scaling": "4",
    "training.ema": "4",
    "data.batches": "2, 4",
    "tokenizers.bpe": "4",
    "tokenizers.segmentation": "10",
    "tokenizers.unigram": "10",
    "tokenizers.wordpiece": "10",
    "tokenizers.boundless": "10",
    "tokenizers.patches": "10",
    "model.hash_ngrams": "10",
    "patching": "10",
    "thoughts": "10",
    "context": "10",
    "model.router": "5",
    "model.balance": "5",
    "model.moe": "5",
    "training.routing": "5",
    "model.masks": "3",
    "model.kv_cache": "3",
    "model.quantization": "3",
    "inference.cached": "3",
    "model.widen": "6",
    "data.packing": "6",
    "sft": "6",
    "inference.speculative": "3",
    "reward": "7",
    "dpo": "6, 7",
    "rl": "8, 9",
    "ppo": "8",
    "grpo": "9",
    "model": "1",
    "tokenizers.byte": "2",
    "data": "2",
    "training": "2",
    "inference": "2",
    "hyperbolic": "10",
    "concepts": "10",
}


def part(module):
    """The parts of a file, or those of its folder."""
    return PARTS.get(module) or PARTS[module.partition(".")[0]]


def status(components):
    """The number formats in which the components of a file were compared."""
    words = []
    floats = [one for one in components if not one.exact]
    if floats:
        smallest = max(DTYPES.index(dtype) for one in floats for dtype in one.dtypes)
        words.append(f"float64 to {DTYPES[smallest]}" if smallest else "float64")
    return ", ".join(words + ["exact"] * any(one.exact for one in components))


def table():
    """The table as Markdown: a row a file, in the order of parts and declarations."""
    files, rows = defaultdict(list), []
    for one in COMPONENTS:
        files[one.module].append(one)
    lessons = {path.stem[:2].lstrip("0"): path.name for path in sorted((README.parent / "lessons").glob("[0-9][0-9]_*.ipynb"))}
    for module in sorted(files, key=lambda module: int(part(module).partition(",")[0])):
        file = module.replace(".", "/") + ".py"
        names = ", ".join(f"`{one.name}` {len(one.bugs)}" for one in files[module])
        read = ", ".join(f"[{n}](lessons/{lessons[n]})" for n in part(module).split(", ") if n in lessons)
        rows.append(f"| {part(module)} | [`{file}`](numpy_ref/{file}) | {names} | {status(files[module])} | {read} |\n")
    return HEADER + "".join(rows)


def written(readme):
    """The README with the table and the number of planted bugs as they are now."""
    before, _, rest = readme.partition(BEGIN)
    after = rest.partition(END)[2]
    number = sum(len(one.bugs) for one in COMPONENTS)
    before = re.sub(r"\d+(?=\s+planted bugs that)", str(number), before)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
