"""Countdown: reach a number by adding, subtracting and multiplying given ones, each exactly once.

    countdown 27 from 3 5 4=     (5+4)*3 is right, and so is 3*(4+5); 3*5+4*3 is wrong (3 twice), 5*4+7 too (no 7)

Many answers are right, so an answer is parsed and computed, not compared.
"""

import operator
import re

from numpy_ref.tasks.task import Example

DEFINITION = "prompts, answers and their judges: text"

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
SMALLEST, LARGEST = 1, 12  # of the given numbers
TARGETS = range(1, 100)
LONGEST = 100  # characters of an expression; nobody needs half as many
TRIED = 0.1  # credit for an expression of the given numbers that has another value


def draw(draws, count):
    """An Example with ``count`` numbers. What asks the same: the target and the numbers, in any order."""
    while True:
        numbers = [SMALLEST + draws.below(LARGEST - SMALLEST + 1) for _ in range(count)]
        target, answer = _combined(draws, numbers)
        if target in TARGETS:
            prompt = f"countdown {target} from {' '.join(map(str, numbers))}="
            return Example(prompt, answer, f"{target} {sorted(numbers)}")


def judge(example, completion, count):
    """1 for an expression of the given numbers, each once, that has the target's value; a tenth if it has another."""
    target, given = asked(example.prompt)
    try:
        value, numbers = evaluated(completion)
    except ValueError:
        return 0.0
    if sorted(numbers) != sorted(given):
        return 0.0
    return 1.0 if value == target else TRIED


def asked(prompt):
    """(target, numbers) of a prompt."""
    target, _, numbers = prompt.removeprefix("countdown ").removesuffix("=").partition(" from ")
    return int(target), [int(number) for number in numbers.split()]


def evaluated(text):
    """(value, the numbers in it) of an expression of whole numbers, + - * and parentheses. ValueError for anything else.

    Products bind tighter than sums; there are no signs and no spaces.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters")
    tokens = re.findall(r"[0-9]{1,3}|.", text, re.DOTALL)
    place, value, numbers = _sum(tokens, 0)
    if place != len(tokens):
        raise ValueError(text)
    return value, numbers


def _combined(draws, numbers):
    """(value, text) of an expression of all the numbers: two parts, combined at random until one is left."""
    parts = [(number, str(number), "number") for number in numbers]
    while len(parts) > 1:
        one, other = (parts.pop(draws.below(len(parts))) for _ in range(2))
        sign = draws.choice(sorted(OPERATORS))
        left = f"({one[1]})" if sign == "*" and one[2] == "sum" else one[1]
        right = f"({other[1]})" if other[2] == "sum" and sign != "+" else other[1]
        value = OPERATORS[sign](one[0], other[0])
        parts.append((value, left + sign + right, "product" if sign == "*" else "sum"))
    return parts[0][:2]


def _sum(tokens, place):
    return _chain(tokens, place, "+-", _product)


def _product(tokens, place):
    return _chain(tokens, place, "*", _factor)


def _chain(tokens, place, signs, part):
    """Parts joined by any of the signs, from left to right."""
    place, value, numbers = part(tokens, place)
    while place < len(tokens) and tokens[place] in signs:
        sign = tokens[place]
        place, other, more = part(tokens, place + 1)
        value, numbers = OPERATORS[sign](value, other), numbers + more
    return place, value, numbers


def _factor(tokens, place):
    if place < len(tokens) and tokens[place].isascii() and tokens[place].isdecimal():
        return place + 1, int(tokens[place]), [int(tokens[place])]
    if place < len(tokens) and tokens[place] == "(":
        place, value, numbers = _sum(tokens, place + 1)
        if place < len(tokens) and tokens[place] == ")":
            return place + 1, value, numbers
    raise ValueError("".join(tokens))
