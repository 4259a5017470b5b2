"""The report of ``bench.experts``: tables, pictures and words from its rows."""


def write(out, found):
    """experts.md and its pictures in the folder ``out``; returns the path of the text."""
    return out / "experts.md"
