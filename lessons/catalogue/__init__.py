"""Every exercise, in the order of the lessons."""

import difflib

from lessons.catalogue import part_01, part_02, part_03, part_04, part_05, part_06, part_07, part_08, part_09, part_10
from numpy_ref.errors import UserError

PARTS = (part_01, part_02, part_03, part_04, part_05, part_06, part_07, part_08, part_09, part_10)
EXERCISES = tuple(exercise for part in PARTS for exercise in part.EXERCISES)


def find(name):
    """The exercise of a name, with or without its number, or of a file. Raises UserError with the nearest names."""
    asked = name.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
    for exercise in EXERCISES:
        if asked in (exercise.name, exercise.name[3:]):
            return exercise
    near = difflib.get_close_matches(asked, [one for e in EXERCISES for one in (e.name, e.name[3:])], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "python -m lessons progress lists them all"
    raise UserError(f"there is no exercise {name!r}; {hint}")
