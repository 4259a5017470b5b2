"""The source of a component as the book shows it: without its docstring, and with the private helpers that it uses."""

import ast
import inspect
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@cache
def _module(name):
    """(lines, {name: top-level node}) of a module."""
    source = inspect.getsource(sys.modules[name])
    nodes = {}
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign):
            nodes |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
            for target in node.targets:
                if isinstance(target, ast.Tuple):
                    nodes |= {one.id: node for one in target.elts if isinstance(one, ast.Name)}
    return source.splitlines(), nodes


def sources(function):
    """(path in the project, source of the function and of the helpers that it uses, in the order of the file)."""
    function = inspect.unwrap(function)
    lines, nodes = _module(function.__module__)
    wanted, left = set(), [function.__name__]
    while left:
        name = left.pop()
        if name in nodes and name not in wanted:
            wanted.add(name)
            used = {node.id for node in ast.walk(nodes[name]) if isinstance(node, ast.Name)}
            left += [one for one in used if one in nodes and (one.startswith("_") or one.isupper())]
    chosen = sorted({id(nodes[name]): nodes[name] for name in wanted}.values(), key=lambda node: node.lineno)
    first = nodes[function.__name__]
    chosen.sort(key=lambda node: node is not first)  # the component itself stands at the top
    text = "\n\n\n".join(_without_docstring(node, lines) for node in chosen)
    return str(Path(inspect.getsourcefile(function)).relative_to(ROOT)), text


def _without_docstring(node, lines):
    start = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    hidden = set()
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        for part in ast.walk(node):
            if isinstance(part, (ast.FunctionDef, ast.ClassDef)) and part is node and ast.get_docstring(part):
                doc = part.body[0]
                hidden |= set(range(doc.lineno, doc.end_lineno + 1))
                if len(part.body) == 1:
                    hidden.discard(doc.lineno)
    kept = [lines[number - 1] for number in range(start, node.end_lineno + 1) if number not in hidden]
    while kept and not kept[-1].strip():
        kept.pop()
    body = next((i for i, line in enumerate(kept) if i and line.strip()), len(kept))
    header = [line for line in kept[:body] if line.strip()]
    return "\n".join(header + kept[body:])


def docstring_blocks(function):
    """[("text" or "equation", lines)] of a docstring: what is indented is an equation or a table of cases."""
    text = inspect.getdoc(inspect.unwrap(function)) or ""
    blocks, kind, held = [], None, []
    for line in text.split("\n"):
        this = "equation" if line.startswith("    ") else "text" if line.strip() else None
        if this is None and kind == "equation":  # an empty line inside a block of equations
            held.append("")
            continue
        if this != kind:
            if kind:
                blocks.append((kind, held))
            kind, held = this, []
        if this:
            held.append(line)
    if kind:
        blocks.append((kind, held))
    return blocks
