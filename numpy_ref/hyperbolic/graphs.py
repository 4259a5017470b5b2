"""Graphs to embed, with the number of hops between their nodes.

    tree-3-5      a balanced tree: 3 children a node, 5 levels below the root, 364 nodes
    grid-19-19    19 rows and 19 columns, each node linked with its neighbours in both
    cycle-364     a ring
    a file        a tree: lines of two names, child and parent, with a tab between them (or spaces, where no name has any)
    data.noun     WordNet's own file of nouns (wndb(5WN)): every set of synonyms below its first hypernym

Hops are computed for the rows that are asked for: all pairs of the 82,115 nouns would not fit into memory.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numpy_ref.errors import UserError, shown

DEFINITION = "graphs and their files: counting, no arithmetic on floating-point numbers"

NAMED = re.compile(r"(tree)-(\d+)-(\d+)|(grid)-(\d+)-(\d+)|(cycle)-(\d+)")
LARGEST = 1_000_000  # nodes


@dataclass(frozen=True)
class Graph:
    """labels: one a node; edges: pairs of nodes (m, 2), each once; depth (n,): hops from the root, or from node 0;
    hops(rows): hops from the nodes ``rows`` (B,) to every node, (B, n)."""

    name: str
    labels: tuple
    edges: np.ndarray
    depth: np.ndarray
    hops: Callable

    def __len__(self):
        return len(self.labels)

    def all_hops(self):
        """(n, n)."""
        return self.hops(np.arange(len(self)))


def graph(source, below=None):
    """The Graph of a name or a file; ``below``: the subtree of that label. Raises UserError for what is none."""
    found = NAMED.fullmatch(source)
    if found:
        kind, *sizes = (part for part in found.groups() if part)
        known = {"tree": balanced_tree, "grid": grid, "cycle": cycle}[kind](*map(int, sizes))
    elif Path(source).is_file():
        known = read(source)
    else:
        raise UserError(f"there is no graph or file {source!r}; give a name such as tree-3-5, grid-19-19, cycle-364, or a file of a tree")
    if below:
        known = _subtree(known, below)
    if len(known) < 3:
        raise UserError(f"{source!r} has {len(known)} nodes; at least 3 are needed to tell near from far")
    return known


def balanced_tree(branching, levels):
    """Every node of the first ``levels`` levels has ``branching`` children."""
    count = sum(branching**level for level in range(levels + 1)) if branching and levels < 64 else 0
    _check(f"tree-{branching}-{levels}", count)
    parents = np.maximum(np.arange(count) - 1, 0) // branching
    return tree(parents, f"tree-{branching}-{levels}")


def grid(rows, columns):
    """Hops are |difference of rows| + |difference of columns|."""
    _check(f"grid-{rows}-{columns}", rows * columns)
    places = np.stack(np.divmod(np.arange(rows * columns), columns), -1)
    edges = [(i, i + step) for i, (r, c) in enumerate(places) for step, fine in ((1, c < columns - 1), (columns, r < rows - 1)) if fine]

    def hops(nodes):
        return np.abs(places[nodes][:, None] - places[None]).sum(-1)

    return _graph(f"grid-{rows}-{columns}", rows * columns, edges, hops)


def cycle(count):
    """Hops are those of the shorter way round."""
    _check(f"cycle-{count}", count)

    def hops(nodes):
        ahead = np.abs(np.asarray(nodes)[:, None] - np.arange(count))
        return np.minimum(ahead, count - ahead)

    return _graph(f"cycle-{count}", count, [(i, (i + 1) % count) for i in range(count)], hops)


def tree(parents, name, labels=None):
    """The Graph of a tree whose node 0 is the root, parents[0] = 0.

    hops(i, j) = depth(i) + depth(j) - 2 depth(the last ancestor that they share), which a node inherits from its parent
    unless it is an ancestor of i itself: one pass over the levels, for all nodes at once. Raises UserError for a cycle.
    """
    parents = np.asarray(parents)
    labels = tuple(labels) if labels is not None else tuple(map(str, range(len(parents))))
    levels = _levels(parents, name, labels)
    depth = np.zeros(len(parents), np.int64)
    for level, nodes in enumerate(levels):
        depth[nodes] = level

    def hops(nodes):
        above = np.zeros((len(nodes), len(parents)), bool)
        climbing = np.array(nodes)
        for _ in levels:
            above[np.arange(len(nodes)), climbing] = True
            climbing = parents[climbing]
        shared = np.zeros(above.shape, np.int64)
        for level, row in enumerate(levels[1:], 1):
            shared[:, row] = np.where(above[:, row], level, shared[:, parents[row]])
        return depth[nodes][:, None] + depth - 2 * shared

    edges = np.stack((np.arange(1, len(parents)), parents[1:]), -1)
    return Graph(name, labels, edges, depth, hops)


def read(path):
    """The tree of a file, see above. Raises UserError, one line, for a file that is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as UTF-8 text ({type(error).__name__}); give lines of child, tab, parent") from None
    wordnet = bool(lines) and lines[0].startswith("  1 ")
    return _tree_of(_hypernyms(lines, path) if wordnet else _pairs(lines, path), path)


def _pairs(lines, path):
    """[(child, parent or None, where it stands)] of lines of two names."""
    found = []
    for number, line in enumerate(lines, 1):
        names = [name.strip() for name in line.split("\t")] if "\t" in line else line.split()
        if not names or line.startswith("#"):
            continue
        if len(names) != 2 or not all(names):
            raise UserError(f"{path}, line {number}: {shown(line)} is not a child and its parent with a tab between them")
        found.append((*names, f"line {number}"))
    named = {child for child, _, _ in found}
    roots = dict.fromkeys(parent for _, parent, _ in found if parent not in named)
    return [(root, None, "") for root in roots] + found


def _hypernyms(lines, path):
    """The same of WordNet's data.noun: "offset file type count word id ... pointers symbol offset type places ... | gloss"."""
    words, pairs, used = {}, [], Counter()
    for number, line in enumerate(lines, 1):
        if line.startswith("  "):
            continue  # the licence
        try:
            fields = line.partition("|")[0].split()
            after = 4 + 2 * int(fields[3], 16)
            pointers = fields[after + 1 : after + 1 + 4 * int(fields[after])]
            above = [pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] in ("@", "@i")]
            used[fields[4]] += 1
            words[fields[0]] = fields[4] if used[fields[4]] == 1 else f"{fields[4]}.{used[fields[4]]}"
            pairs.append((fields[0], above[0] if above else None, f"line {number}"))
        except (ValueError, IndexError):
            raise UserError(f"{path}, line {number}, is not a line of WordNet's data.noun; give that file as it is") from None
    return [(words[child], words.get(parent), where) for child, parent, where in pairs]


def _tree_of(pairs, path):
    """The tree of (child, parent, where) triples. Raises UserError: two parents, no root, several, a cycle."""
    parent_of = {}
    for child, parent, where in pairs:
        if child in parent_of and parent_of[child] != parent:
            one = parent_of[child]
            raise UserError(f"{path} is not a tree: {child!r} has two parents, {one!r} and {parent!r} ({where}); keep one")
        parent_of[child] = parent
    roots = [child for child, parent in parent_of.items() if parent is None]
    if len(roots) != 1:
        which = f"{len(roots)} roots, {roots[0]!r} and {roots[1]!r}" if roots else "no root: everything has a parent"
        raise UserError(f"{path} is not a tree: it has {which}; one node, and one only, must have no parent")
    labels = [roots[0], *(child for child in parent_of if child != roots[0])]
    _check(str(path), len(labels))
    place = {label: i for i, label in enumerate(labels)}
    parents = [place[parent_of[label]] if parent_of[label] is not None else 0 for label in labels]
    return tree(parents, Path(path).name, labels)


def _levels(parents, name, labels):
    """[nodes of each depth]; raises UserError where some are never reached from the root: they lie on a cycle."""
    order = np.argsort(parents[1:], kind="stable") + 1
    starts = np.searchsorted(parents[order], np.arange(len(parents) + 1))
    levels, reached = [np.array([0])], np.zeros(len(parents), bool)
    while len(levels[-1]):
        reached[levels[-1]] = True
        levels.append(np.concatenate([order[starts[node] : starts[node + 1]] for node in levels[-1]]))
    if not reached.all():
        lost = labels[int(np.argmin(reached))]
        raise UserError(f"{name} is not a tree: {lost!r} is not below {labels[0]!r} but on a cycle, or below one")
    return levels[:-1]


def _subtree(whole, label):
    """The nodes below a label, and itself; edges of a tree are (child, parent)."""
    if label not in whole.labels or len(whole.edges) != len(whole) - 1:
        raise UserError(f"{whole.name} has no node {label!r} with nodes below it; give one of its labels, such as {whole.labels[0]!r}")
    parents = np.zeros(len(whole), np.int64)
    parents[whole.edges[:, 0]] = whole.edges[:, 1]
    root, inside = whole.labels.index(label), np.zeros(len(whole), bool)
    inside[root] = True
    for node in np.argsort(whole.depth, kind="stable"):
        inside[node] |= node != 0 and inside[parents[node]]
    kept = np.array([root, *(node for node in np.flatnonzero(inside) if node != root)])
    place = np.zeros(len(whole), np.int64)
    place[kept] = np.arange(len(kept))
    return tree(np.r_[0, place[parents[kept[1:]]]], f"{whole.name} below {label}", [whole.labels[node] for node in kept])


def _graph(name, count, edges, hops):
    return Graph(name, tuple(map(str, range(count))), np.array(edges).reshape(-1, 2), hops(np.arange(1))[0], hops)


def _check(name, count):
    if not 3 <= count <= LARGEST:
        raise UserError(f"{name} has {count} nodes; from 3 to {LARGEST:,} are allowed")
