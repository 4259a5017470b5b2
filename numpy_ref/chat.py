"""Writing with a model, turn by turn: at a terminal or through a pipe.

A base model knows no roles: it goes on with what it reads, which is the system text, the turns so far and the new line.
A fine-tuned one is asked in its chat format (`data/chat_format.py`), and its answer ends where it says so.
"""

import contextlib
import dataclasses
import sys

from numpy_ref.commands import Stream, given, opened, prompt_tokens, say
from numpy_ref.config import SampleConfig
from numpy_ref.errors import UserError

DEFINITION = "a conversation: the wings compute"

HELP = """/reset           forget the conversation
/temperature X   answer more boldly (below 1) or wildly (above)
/tokens N        length of an answer
/help            this list
/quit            leave (or Ctrl-D); Ctrl-C stops an answer"""


def chat(wing, options):
    """Answer line by line until the input ends. Only answers go to stdout."""
    run = opened(wing, options)
    kind = Turns if wing.chat else Conversation
    talk = kind(wing, run.model_config, getattr(options, "system", ""), SampleConfig(**given(options, SampleConfig)))
    if sys.stdin.isatty():
        say(f"The model {'answers' if wing.chat else 'goes on with'} what you type. /help lists commands; Ctrl-C stops an answer, Ctrl-D leaves.")
    for line in typed():
        if line.startswith("/"):
            if line.strip() == "/quit":
                return
            try:
                say(talk.command(line.split()))
            except UserError as error:
                say(f"error: {error}")
        elif line:
            try:
                answer(wing, run, talk, line)
            except KeyboardInterrupt:  # a moment before the answer began, or after it ended
                say()


def answer(wing, run, talk, line):
    """Stream the model's answer to a line. Ctrl-C ends it; what was said stays part of the conversation."""
    try:
        tokens = talk.prompt(line)
    except UserError as error:
        say(f"error: {error}")
        return
    writer = Stream(wing)
    with contextlib.suppress(KeyboardInterrupt):
        wing.generate(run.params, run.model_config, [tokens], talk.draws(), stop=talk.stop, on_token=writer.push)
    talk.heard(line, writer.finish())


class Conversation:
    """The system text, the turns so far and how answers are sampled."""

    stop = ()  # ids that end an answer

    def __init__(self, wing, config, system, sample):
        self.wing, self.config, self.sample = wing, config, sample
        self.system = system + "\n" if system else ""
        self.turns, self.count, self.warned = [], 0, False
        if len(self.encoded(self.system)) >= config.context:
            raise UserError(f"the system text does not fit the context of {config.context} tokens; shorten it")

    def prompt(self, line):
        """The tokens to go on with. The oldest turns are dropped where the context is too small for all of them.

        Half of the context at least is kept for the answer, so that it does not push the system text out at once.
        """
        room = max(1, self.config.context // 2)
        fixed = len(self.encoded(self.system)) + len(self.encoded(line))
        while self.turns and fixed + len(self.encoded("".join(self.turns))) > room:
            self.turns.pop(0)
            self.forgets()
        tokens = prompt_tokens(self.wing, self.system + "".join(self.turns) + line)
        if len(tokens) > self.config.context:
            raise UserError(
                f"{len(tokens)} tokens do not fit the context of {self.config.context}; write less at a time"
            )
        return tokens

    def forgets(self):
        """Say once that turns are dropped."""
        if not self.warned:
            say(f"(the context holds {self.config.context} tokens: the oldest turns are forgotten)")
            self.warned = True

    def heard(self, line, said):
        """Take note of a line and what was said to it."""
        self.turns.append(line + said + "\n")

    def draws(self):
        """Options of the next answer: the same words twice may get two answers."""
        self.count += 1
        return dataclasses.replace(self.sample, seed=self.sample.seed + self.count - 1)

    def command(self, words):
        """Obey a command; returns what to say. Raises UserError for one that does not exist or can't be obeyed."""
        name, *values = words
        if name == "/reset":
            self.turns, self.warned = [], False
            return "forgotten"
        if name == "/help":
            return HELP
        kinds = {"/temperature": float, "/tokens": int}
        if name not in kinds:
            raise UserError(f"there is no command {name}; /help lists them")
        try:
            (value,) = map(kinds[name], values)
        except ValueError:
            raise UserError(f"{name} needs one number, got {' '.join(values) or 'none'}") from None
        self.sample = dataclasses.replace(self.sample, **{name[1:]: value})
        return f"{name[1:]} {value:g}"

    def encoded(self, words):
        return self.wing.encode(words) if words else []


class Turns(Conversation):
    """The same in the chat format of a fine-tuned model: ``turns`` are pairs of messages."""

    def __init__(self, wing, config, system, sample):
        self.first = [{"role": "system", "content": system}] if system else []
        self.stop = (wing.chat.end,)
        super().__init__(wing, config, system, sample)

    def prompt(self, line):
        """The ids of the conversation up to where the assistant speaks; the oldest turns go where they are too many."""
        asked = [{"role": "user", "content": line}]
        room = max(1, self.config.context // 2)
        while True:
            talk = self.first + [message for turn in self.turns for message in turn] + asked
            tokens = self.wing.chat.prompt(talk, self.wing.encode)
            if len(tokens) <= room or not self.turns:
                break
            self.turns.pop(0)
            self.forgets()
        self.left = self.config.context - len(tokens)
        if self.left < 1 and not self.config.endless:
            raise UserError(f"{len(tokens)} tokens leave no room in the context of {self.config.context}; write less at a time")
        return tokens

    def draws(self):
        """Options of the next answer, which ends with the context: beyond it a text would lose its roles."""
        options = super().draws()
        return options if self.config.endless else dataclasses.replace(options, tokens=min(options.tokens, self.left))

    def heard(self, line, said):
        """Take note of a line and its answer; one of nothing is none."""
        if said:
            self.turns.append([{"role": "user", "content": line}, {"role": "assistant", "content": said}])


def typed():
    """Lines from a person, or from a pipe."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  history and arrow keys

    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            say("\nCtrl-D leaves")
        except EOFError:
            say()
            return
