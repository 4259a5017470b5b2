"""Parameters by name."""


def with_prefix(params, prefix):
    """The entries whose names begin with "prefix.", by the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}
