"""A page for each component: what it computes, its derivation, both sources side by side, its planted bugs, its measurements."""

import html
import re
from collections import defaultdict
from functools import cache

from bench import rows
from bench.report import by_side, latest
from bench.report_parts import factor, milliseconds
from lessons.book.highlight import python
from lessons.book.layout import Page
from lessons.book.markdown import inline
from lessons.book.sources import ROOT, docstring_blocks, sources
from parity_tests.components import COMPONENTS
from parity_tests.components_table import part

MEASURED = ROOT / "bench" / "results"
TITLES = {
    1: "The transformer", 2: "Training", 3: "Modern models", 4: "Larger runs", 5: "Mixture of experts", 6: "Fine-tuning",
    7: "Reward models", 8: "PPO", 9: "GRPO", 10: "Concepts and hyperbolic space",
}  # fmt: skip


def file_of(component):
    return "component-" + re.sub(r"\W+", "-", f"{component.module}-{component.name}").lower().strip("-") + ".html"


def group_of(component):
    number = int(part(component.module).partition(",")[0])
    return f"Components of part {number}: {TITLES[number]}"


def ordered():
    """The components in the order of the book: by part, then as they are declared."""
    return sorted(COMPONENTS, key=lambda one: int(part(one.module).partition(",")[0]))


def pages(caught):
    """The pages of all components. caught: {(component name, bug name): words} of the property that each bug fails."""
    links = {one.name: file_of(one) for one in COMPONENTS}
    return [page(one, caught, links) for one in ordered()]


def page(component, caught, links):
    """One page; ``links``: component name -> file."""

    def word(code):
        return links.get(code) if code != component.name else None

    numpy_path, numpy_source = sources(component.numpy)
    torch_path, torch_source = sources(component.torch)
    body = [f"<h1>{html.escape(component.name)}</h1>", _docstring(component, word)]
    body += ["<h2>Both sides</h2>", '<div class="sides">']
    body += [_side("NumPy: the reference", numpy_path, numpy_source), _side("PyTorch: the fast side", torch_path, torch_source)]
    body += ["</div>", _proof(component), _bugs(component, caught), _speed(component)]
    return Page(file_of(component), component.name, "\n".join(filter(None, body)), group_of(component), wide=True)


def _docstring(component, word):
    parts = []
    for kind, lines in docstring_blocks(component.numpy):
        if kind == "equation":
            parts.append(f'<pre class="equation">{_linked(_unindented(lines))}</pre>')
            continue
        text = "\n".join(lines)
        if re.match(r"Backward[.:,]", text):
            parts.append('<h2 id="backward">The backward pass</h2>')
            text = re.sub(r"^Backward[.:,] *", "", text)
            text = text[:1].upper() + text[1:]
        parts.append(f"<p>{inline(text, word=word)}</p>")
    return "\n".join(parts)


def _unindented(lines):
    return "\n".join(line[4:] for line in lines).rstrip()


def _linked(text):
    """Escaped text whose arXiv numbers are links."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', html.escape(text))


def _side(title, path, source):
    return f'<section><h3>{title}</h3><p class="path">{path}</p><pre><code>{python(source)}</code></pre></section>'


# -- proof ---------------------------------------------------------------------------------------------------------


@cache
def parity_table():
    """(column titles, {component: cells}) of the stored parity report."""
    lines = [line for line in (MEASURED / "parity" / "parity.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return cells[0][1:], {row[0]: row[1:] for row in cells[2:]}


def _proof(component):
    columns, found = parity_table()
    row = found.get(component.name)
    if not row:
        return ""
    shown = [(title, cell) for title, cell in zip(columns, row) if cell]
    head = "".join(f'<th class="number">{html.escape(title)}</th>' for title, _ in shown)
    body = "".join(f'<td class="number">{html.escape(cell)}</td>' for _, cell in shown)
    note = (
        "The largest error over all drawn inputs, in budgets: 1.00 is the most that rounding explains on that input, "
        "<em>equal</em> means to the last bit. The smallest margin is the error of the least visible planted bug, in budgets."
    )
    return f'<h2>The proof</h2><p class="note">{note}</p><div class="table"><table><tr>{head}</tr><tr>{body}</tr></table></div>'


def _bugs(component, caught):
    if not component.bugs:
        return ""
    lines = []
    for bug in component.bugs:
        where = "NumPy" if bug.side == "numpy" else "PyTorch"
        function = f" in <code>{html.escape(bug.function)}</code>" if bug.function else ""
        fails = html.escape(caught.get((component.name, bug.name), ""))
        change = f"<del><code>{html.escape(bug.old.strip())}</code></del><br><ins><code>{html.escape(bug.new.strip())}</code></ins>"
        lines.append(f"<tr><td>{html.escape(bug.name)}<br><span class='note'>{where}{function}</span></td><td>{change}</td><td>{fails}</td></tr>")
    note = "Each is planted in the source, one at a time, and the suite has to notice. The last column says what fails first."
    return (
        f'<h2>Planted bugs</h2><p class="note">{note}</p><div class="table"><table><tr><th>bug</th><th>change</th>'
        f"<th>what fails</th></tr>{''.join(lines)}</table></div>"
    )


# -- speed ---------------------------------------------------------------------------------------------------------


@cache
def measured():
    """{device: newest rows} of every folder of measurements; other folders hold what experiments found."""
    found = {}
    for folder in sorted(MEASURED.iterdir()):
        files = sorted(folder.glob("20??-??-??-*.jsonl"), key=lambda path: path.name[:10])
        if files:
            found[folder.name] = latest(rows.read(files))
    return found


def _speed(component):
    lines = defaultdict(list)
    for device, newest in measured().items():
        for mode in ("forward", "both"):
            sides = by_side(newest, component.name, mode)
            for side, row in sides.items():
                times = rows.ratio(sides["numpy"], row)[1] if sides.get("numpy") and sides["numpy"]["run"] == row["run"] else None
                lines[device].append((side, row["dtype"], mode.replace("both", "forward and backward"), milliseconds(row), factor(times) if times else ""))
    if not lines:
        return ""
    tables = []
    for device, cells in lines.items():
        body = "".join(f"<tr><td>{side.split()[0]}</td><td>{dtype}</td><td>{mode}</td><td class='number'>{ms}</td><td class='number'>{times}</td></tr>" for side, dtype, mode, ms, times in cells)
        tables.append(
            f'<p class="note">{html.escape(device)}, at the sizes of the showcase</p><div class="table"><table><tr><th>side</th><th>format</th><th>pass</th>'
            f'<th class="number">ms</th><th class="number">times NumPy\'s speed</th></tr>{body}</table></div>'
        )
    return "<h2>Speed</h2>" + "".join(tables)
