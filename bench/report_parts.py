"""What every section of the report is made of: choosing rows, tables, words for numbers."""

from bench import rows

NAMES = {"numpy": "NumPy", "torch": "Torch", "hf": "Hugging Face", "litgpt": "litgpt", "plain": "plain PyTorch", "trl": "TRL"}
OURS = ("numpy", "torch")


def select(found, **wanted):
    """Rows that were measured and have these values."""
    return [
        row for row in found if row["status"] == "ok" and all(row.get(key) == value for key, value in wanted.items())
    ]


def table(titles, lines):
    """A Markdown table; columns after the first are aligned right."""
    if not lines:
        return ""
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [titles, rule, *lines])


def size(number):
    """Bytes in words."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(number) >= scale:
            return f"{number / scale:.{0 if number >= 10 * scale else 1}f} {unit}"
    return f"{number:.0f} B"


def label(row, allocator=True):
    """Who, in which format, how: "Torch bfloat16 compiled"."""
    words = [NAMES.get(row["implementation"], row["implementation"]), row["dtype"]]
    if row["implementation"] != "numpy" and row["kind"] != "inference":  # there both are as they come
        words.append("compiled" if row["compiled"] else "eager")
    if row["implementation"] not in OURS and row["allocator"] == "tuned" and allocator:
        words.append("(our allocator)")
    return " ".join(words)


def memory(row):
    return size(row["memory"]) if row.get("memory") is not None else "-"


def factor(number):
    """Three figures at most: 0.42, 3.1, 70."""
    return f"{number:.{2 if number < 2 else 1 if number < 20 else 0}f}"


def milliseconds(row):
    """The median in milliseconds, three figures."""
    value = 1e3 * row["seconds"]["median"] if row else None
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def compared(words, ours, theirs):
    """A line on how much faster ours is than theirs, both of one run; None if there is nothing to compare."""
    if not (ours and theirs and ours["run"] == theirs["run"]):
        return None
    low, middle, high = rows.ratio(theirs, ours)
    ratio = f"**{middle:.2f}** [{low:.2f}, {high:.2f}]"
    return f"- {words}: {label(ours)} does {ratio} times the tokens/s of {label(theirs)}."
