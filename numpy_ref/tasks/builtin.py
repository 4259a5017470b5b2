"""The built-in tasks.

    sort        sort 394012=                  012349       difficulty: digits
    add         add 57+68=                    125          digits of the larger number at most
    reverse     reverse hello=                olleh        letters
    copy        copy hello=                   hello        letters
    countdown   countdown 27 from 3 5 4=      (4+5)*3      numbers to reach it with; many answers are right
    class       class 8 vowels xkqp=          aeouioae     characters to write; reward: the share that belongs to the class
    next-word   (sentences) next ancient=     harbour      sentences to look in; the word that follows a given one
    questions   (sentences) question=         an answer    sentences to look in; questions written for the `samples`
"""

import functools
import json
import re
import string
from pathlib import Path

from numpy_ref.data.corpus import documents
from numpy_ref.errors import UserError
from numpy_ref.tasks import countdown
from numpy_ref.tasks.task import Example, Task, exact, same_words

DEFINITION = "prompts, answers and their judges: text"

LETTERS, DIGITS = string.ascii_lowercase, string.digits
CLASSES = {"vowels": "aeiou", "digits": DIGITS, "capitals": string.ascii_uppercase}
QUESTIONS = Path(__file__).with_name("questions.jsonl")
ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|St)\.$")


def _sort(draws, digits):
    given = draws.text(DIGITS, digits)
    answer = "".join(sorted(given))
    return Example(f"sort {given}=", answer, answer)  # held out by their digits: no order of theirs is trained on


def _add(draws, digits):
    one, other = draws.below(10**digits), draws.below(10**digits)
    return Example(f"add {one}+{other}=", str(one + other), "+".join(map(str, sorted((one, other)))))


def _reverse(draws, letters):
    given = draws.text(LETTERS, letters)
    return Example(f"reverse {given}=", given[::-1], given)


def _copy(draws, letters):
    given = draws.text(LETTERS, letters)
    return Example(f"copy {given}=", given, given)


def _class(draws, length):
    kind, salt = draws.choice(sorted(CLASSES)), draws.text(LETTERS, 4)
    prompt = f"class {length} {kind} {salt}="
    return Example(prompt, draws.text(CLASSES[kind], length), prompt)


def _class_share(example, completion, length):
    """Share of the first ``length`` characters that belong to the class; what is not written does not."""
    members = CLASSES[example.prompt.split()[2]]
    return sum(character in members for character in completion[:length]) / length


def _next_word(draws, count):
    """The word that follows one which occurs once in the passage."""
    while True:
        text = draws.choice(_texts())
        passage = _passage(text, draws.below(len(text)), draws.below(count), count)
        words = re.findall(r"[A-Za-z]+", passage)
        once = [i for i, word in enumerate(words[:-1]) if len(word) >= 4 and words.count(word) == 1]
        if once:
            place = draws.choice(once)
            return Example(f"{passage} next {words[place]}=", words[place + 1], f"{words[place]} {words[place + 1]}")


def _question(draws, count):
    text, place, question, answer = draws.choice(_questions())
    return Example(f"{_passage(text, place, draws.below(count), count)} {question}=", answer, question)


def _passage(text, place, before, count):
    """``count`` neighbouring sentences, that at ``place`` among them, ``before`` of them in front of it."""
    first = max(0, min(place - before, len(text) - count))
    return " ".join(text[first : first + count])


@functools.cache
def _texts():
    return [sentences(document.text) for document in documents("samples")]


@functools.cache
def _questions():
    """[(sentences of the text, index of the sentence with the answer, question, answer)]."""
    texts = {document.name.removesuffix(".txt"): text for document, text in zip(documents("samples"), _texts())}
    found = []
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        text = texts[one["document"]]
        place = next(i for i, sentence in enumerate(text) if one["evidence"] in sentence)
        found.append((text, place, one["question"], one["answer"]))
    return found


def sentences(text):
    """The sentences of a text without its title, each on one line."""
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=- )", text)[1:]:
        pieces = re.split(r"(?<=[.!?])(?<!\.\.)[\"')]*\s+(?=[\"'(]?[A-Z0-9])", " ".join(paragraph.split()))
        for piece in pieces:
            if found and ABBREVIATION.search(found[-1]):  # "Mr." ends no sentence
                found[-1] += " " + piece
            else:
                found.append(piece)
    return found


# kind: (easiest, hardest, what difficulty counts, characters of the answers, draw, judge, needs an end)
KINDS = {
    "sort": (2, 64, "digits", DIGITS, _sort, exact, True),
    "add": (1, 18, "digits", DIGITS, _add, exact, True),
    "reverse": (2, 64, "letters", LETTERS, _reverse, exact, True),
    "copy": (2, 64, "letters", LETTERS, _copy, exact, True),
    "countdown": (2, 6, "numbers", DIGITS + "+-*()", countdown.draw, countdown.judge, True),
    "class": (1, 64, "characters", LETTERS + string.ascii_uppercase + DIGITS, _class, _class_share, False),
    "next-word": (1, 5, "sentences", LETTERS, _next_word, exact, True),
    "questions": (1, 5, "sentences", LETTERS + " ", _question, same_words, True),
}
DEFAULTS = {"sort": 6, "add": 2, "reverse": 8, "copy": 8, "countdown": 3, "class": 16, "next-word": 1, "questions": 1}


def find(name):
    """The task of a name, "sort-6"; without a number at its usual difficulty.

    Raises UserError for a task that does not exist and a difficulty that it does not have.
    """
    kind, dash, number = name.rpartition("-")
    if not number.isdecimal():
        kind, number = name, ""
    if kind not in KINDS:
        raise UserError(f"there is no task {name!r}; choose one of {', '.join(KINDS)}, with a difficulty: sort-6")
    least, most, unit, alphabet, draw, judge, needs_end = KINDS[kind]
    difficulty = int(number) if number else DEFAULTS[kind]
    if not least <= difficulty <= most:
        raise UserError(f"{name}: {kind} has {least} to {most} {unit}; give a difficulty in that range")
    return Task(kind, difficulty, unit, alphabet, draw, judge, needs_end)
