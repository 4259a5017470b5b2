"""``python -m lessons``: exercises that grade themselves, hints, progress, pictures, notebooks and the book."""

import sys
from pathlib import Path

from lessons import notebook, words
from lessons.answers import HOME, Answers
from lessons.catalogue import EXERCISES, find
from lessons.draw import commands
from numpy_ref.cli import Parser, fail
from numpy_ref.errors import UserError


def main(argv=None):
    """Run a command; returns the exit status: 0 done, 1 an exercise that does not pass yet, 2 wrong input."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        options = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
        return options.run(options) or 0
    except UserError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except OSError as error:
        return fail(f"{error.filename or 'output'}: {error.strerror or error}; check path, permissions and free space")


def build_parser():
    parser = Parser(prog="python -m lessons", description="Lessons and exercises. Without a command: what to do next.")
    parser.set_defaults(run=following, answers=str(HOME))
    chooser = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name, help, run, exercise=True):
        sub = chooser.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run, answers=str(HOME))
        if exercise:
            sub.add_argument("exercise", metavar="EXERCISE", help="such as 03_rope, or rope")
        sub.add_argument("--answers", metavar="DIR", help="folder of your answers (answers)")
        return sub

    command("next", "the next exercise", following, exercise=False)
    command("progress", "the map of all exercises", progress, exercise=False)
    command("start", "write the file with the gap into your answers", start)
    command("check", "grade your answer", check)
    command("hint", "one hint more each time", hint)
    command("solution", "show the reference that the answer is compared with", solution)

    built = chooser.add_parser("build", help="execute lessons and write their notebooks")
    built.add_argument("lessons", nargs="*", default=[], metavar="LESSON", help="numbers or names (all)")
    built.add_argument("--text", action="store_true", default=False, help="only text has changed: keep all outputs")
    built.set_defaults(run=lambda options: notebook.build_all(options.lessons, options.text))
    book = chooser.add_parser("book", help="write the lessons and all components as static pages")
    book.add_argument("--out", default="runs/book", metavar="DIR", help="folder of the pages (runs/book)")
    book.set_defaults(run=write_book)
    pictures = chooser.add_parser("draw", help="draw a picture: draw --help lists them")
    commands.add(pictures.add_subparsers(dest="picture", required=True, metavar="PICTURE"))
    return parser


def following(options):
    """Say what to do next."""
    answers = Answers(options.answers)
    notes = answers.read()
    left = [exercise for exercise in EXERCISES if answers.state(exercise, notes) != "passed"]
    if not left:
        print(f"all {len(EXERCISES)} exercises are done; python -m lessons progress shows them")
        return
    print(f"next: {left[0].name}, {left[0].title} (lesson {left[0].lesson}, about {left[0].minutes} minutes)")
    print(f"  python -m lessons check {left[0].name}")


def progress(options):
    print(words.progress(EXERCISES, Answers(options.answers)))


def start(options):
    exercise, answers = find(options.exercise), Answers(options.answers)
    fresh = answers.begin(exercise)
    file = shown(answers.file(exercise))
    print(f"{file} {'is yours: read the task, fill the gap' if fresh else 'is there already; delete it to begin anew'}")
    print(f"  python -m lessons check {exercise.name}")


def check(options):
    from lessons import grader  # it loads PyTorch, which takes a while

    exercise, answers = find(options.exercise), Answers(options.answers)
    if answers.begin(exercise):
        print(f"{shown(answers.file(exercise))} was written for you: read the task, fill the gap, and check again")
        return 1
    file = answers.file(exercise)
    found = grader.grade(exercise, grader.load(exercise, shown(file)))
    if found is not None:
        print(words.finding(exercise, found, shown(file)))
        return 1
    answers.note(exercise, passed=answers.hash(exercise))
    inputs = len(grader.prepared(exercise, "float64"))
    reference = shown(exercise.source()[0])
    print(f"{exercise.name}: passed, on {inputs} inputs and within the budgets that PyTorch has to keep")
    print(f"  the reference says it like this: {reference} (python -m lessons solution {exercise.name})")
    following(options)
    return 0


def hint(options):
    exercise, answers = find(options.exercise), Answers(options.answers)
    given = min(answers.read().get(exercise.name, {}).get("hints", 0) + 1, len(exercise.hints))
    for number, text in enumerate(exercise.hints[:given], 1):
        print("\n".join(words._wrapped(f"  {number}  ", text)))
    left = len(exercise.hints) - given
    print(f"{left} more: ask again" if left else f"that was the last one; python -m lessons solution {exercise.name} shows it all")
    answers.note(exercise, hints=given)


def solution(options):
    exercise = find(options.exercise)
    file, text = exercise.source()
    print(f"# {shown(file)}\n\n{text}", end="")


def write_book(options):
    from lessons.book.build import build  # it loads PyTorch

    build(options.out)


def shown(path):
    """A path as short as it can be written from here."""
    path, here = Path(path).resolve(), Path.cwd().resolve()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    sys.exit(main())
