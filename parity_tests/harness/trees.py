"""Nested dicts, lists and tuples of arrays: arguments and results of components."""


def tree_map(function, tree):
    """The same tree with ``function`` applied to every leaf."""
    if isinstance(tree, dict):
        return {name: tree_map(function, item) for name, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(tree_map(function, item) for item in tree)
    return function(tree)


def tree_leaves(tree, path):
    """(path, leaf) for every leaf that is not None; paths read like ``dparams[up.weight]``."""
    if isinstance(tree, dict):
        for name, item in tree.items():
            yield from tree_leaves(item, f"{path}[{name}]")
    elif isinstance(tree, (list, tuple)):
        for number, item in enumerate(tree):
            yield from tree_leaves(item, f"{path}[{number}]")
    elif tree is not None:
        yield path, tree
