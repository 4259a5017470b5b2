"""What the grader found, in words for the terminal."""

import dataclasses
import textwrap

import numpy as np

WIDTH = 100
LARGE = 24  # numbers of an array that are still written out


def finding(exercise, found, file):
    """A Finding as text: the property, the input that shows it, expected against got, and the mistake if it is known."""
    lines = [f"{exercise.name}: not yet", "", f"  what fails   {found.property}"]
    if found.mistake is not None:
        lines += _wrapped("  likely why   ", exercise.mistakes[found.mistake])
    if found.expected is None:
        lines += _wrapped("               ", found.words)
    if found.arguments:
        lines += ["", "  the smallest input that shows it"]
        lines += [line for name, value in found.arguments.items() for line in _named(name, value)]
        if found.dy is not None and found.property.startswith("the gradient"):
            lines += _named("dy", found.dy)
    if found.expected is not None:
        lines += ["", *_named("expected", found.expected, ""), *_named("got", found.got, "")]
        if np.size(found.expected) > 1 or "format" in found.words or "shape" in found.words:
            lines += _wrapped("  in short     ", found.words)
    lines += ["", f"  change {file} and check again; a hint: python -m lessons hint {exercise.name}"]
    return "\n".join(lines)


def _named(name, value, indent="  "):
    """name = value on one or more lines; large arrays by their shape and first numbers."""
    if isinstance(value, dict) and not any(isinstance(one, dict) for one in value.values()):
        return [f"  {indent}{name}:", *(line for key, one in value.items() for line in _named(key, one, indent + "  "))]
    if dataclasses.is_dataclass(value):
        changed = (f for f in dataclasses.fields(value) if getattr(value, f.name) != f.default)
        settings = ", ".join(f"{f.name}={getattr(value, f.name)!r}" for f in changed)
        return _wrapped(f"  {indent}{name} = ", f"{type(value).__name__}({settings})")
    if not isinstance(value, np.ndarray):
        return _wrapped(f"  {indent}{name} = ", repr(value))
    text = np.array2string(value, precision=6, suppress_small=False, max_line_width=WIDTH, threshold=LARGE, edgeitems=2)
    text = "\n".join(line for line in text.split("\n") if line.strip())
    shape = f"# shape {value.shape}" if value.ndim > 2 or value.size > LARGE else ""
    start = f"  {indent}{name} = "
    rows = text.split("\n")
    return [start + rows[0], *(" " * len(start) + row for row in rows[1:])][:12] + ([" " * len(start) + shape] if shape else [])


def _wrapped(start, text):
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or [start]


def progress(exercises, answers):
    """The map: a line a lesson, a mark an exercise."""
    notes = answers.read()
    marks = {"new": "·", "begun": "o", "changed": "~", "passed": "#"}
    lines, done = [], 0
    for lesson in sorted({exercise.lesson for exercise in exercises}):
        own = [exercise for exercise in exercises if exercise.lesson == lesson]
        states = [answers.state(exercise, notes) for exercise in own]
        done += states.count("passed")
        lines += ["", f"lesson {lesson:<2} {''.join(marks[state] for state in states)}  {states.count('passed')} of {len(own)}"]
        lines += [
            f"  {marks[state]} {exercise.name:<28} {exercise.minutes:>3} min  {exercise.title}"
            for exercise, state in zip(own, states)
        ]
    head = f"{done} of {len(exercises)} exercises done   # passed   o begun   ~ changed since it passed   · new"
    return "\n".join([head, *lines])
