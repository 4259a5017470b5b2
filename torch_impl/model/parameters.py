"""Parameters by name."""


def with_prefix(params, prefix):
    """The entries under "prefix.", without it: {"a.b": 1, "c": 2} under "a" is {"b": 1}."""
    prefix += "."
    return {name[len(prefix) :]: value for name, value in params.items() if name.startswith(prefix)}
