"""Where different tokenizers cut a text."""

from lessons.draw.picture import INK, drawing

TINTS = ("#cfe3f3", "#fbe3c0", "#d3ecdf", "#f3d9e6")  # pale tints of the palette; borders are drawn as well
COLUMNS = 66


def tokens(text, cuts, title="Where tokenizers cut"):
    """One row of the text for each tokenizer, its tokens side by side in boxes.

    cuts: name -> the tokens of the text as bytes, which joined together are the text. A character whose bytes lie in
    several tokens is shown where it ends.
    """
    rows = []
    for name, pieces in cuts.items():
        shown = _characters(text, pieces)
        rows.append((name, len(pieces), list(_wrapped(shown))))
    height = sum(len(lines) + 1.3 for _, _, lines in rows)
    with drawing(title, 10.5, 0.29 * height + 0.6) as (figure, picture):
        axes = figure.subplots()
        y = 0.0
        for name, count, lines in rows:
            share = len(text.encode()) / max(1, count)
            axes.text(0, y + 0.65, f"{name}: {count} tokens, {share:.2f} bytes each", fontsize=10, fontweight="bold", color=INK)
            y += 1.0
            for line in lines:
                for start, end, tint, letters in line:
                    _box(axes, start, end, y, TINTS[tint], letters)
                y += 1.0
            y += 0.3
        axes.set(xlim=(-0.3, COLUMNS + 0.3), ylim=(y, -0.1))
        axes.axis("off")
    return picture


def _characters(text, pieces):
    """(letters, number of the token) for every token that ends at least one character."""
    ends, at = [], 0
    for character in text:
        at += len(character.encode())
        ends.append(at)
    found, first, at = [], 0, 0
    for number, piece in enumerate(pieces):
        at += len(piece)
        last = first
        while last < len(ends) and ends[last] <= at:
            last += 1
        found.append((text[first:last] or "◦", number))
        first = last
    return found


def _wrapped(shown):
    """Lines of (start column, end column, tint, letters)."""
    line, column = [], 0
    for letters, number in shown:
        while letters:
            room = COLUMNS - column
            part, letters = letters[:room], letters[room:]
            line.append((column, column + len(part), number % len(TINTS), part))
            column += len(part)
            if column == COLUMNS:
                yield line
                line, column = [], 0
    if line:
        yield line


def _box(axes, start, end, y, tint, letters):
    from matplotlib.patches import Rectangle

    signs = {" ": "·", "\n": "↵", "\t": "⇥"}
    axes.add_patch(Rectangle((start, y + 0.06), end - start, 0.88, facecolor=tint, edgecolor="#7a8087", linewidth=0.6))
    for place, letter in enumerate(letters):
        axes.text(start + place + 0.5, y + 0.52, signs.get(letter, letter), ha="center", va="center", fontsize=9, family="monospace", color=INK)
