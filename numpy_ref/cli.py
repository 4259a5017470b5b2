"""The command line of both wings: options from the dataclasses of ``config.py``, one clear line for every error.

    python -m torch_impl train --preset showcase --data pydoc --out runs/demo
    python -m numpy_ref generate --checkpoint runs/demo --prompt "The future of" --greedy
"""

import argparse
import contextlib
import difflib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from numpy_ref import commands, hyperbolic_commands, memory, run_plots, tokenization_commands, tokenizer_commands
from numpy_ref.chat import chat as chat_command
from numpy_ref.cli_options import add_checkpoint, add_dtype, add_fields
from numpy_ref.concepts import commands as concept_commands
from numpy_ref.concepts.config import KINDS
from numpy_ref.concepts.settings import ExperimentConfig
from numpy_ref.config import ModelConfig, SampleConfig, TrainConfig
from numpy_ref.context import commands as context_commands
from numpy_ref.errors import RunWarning, UserError
from numpy_ref.presets import PRESETS
from numpy_ref.reward import commands as reward_commands
from numpy_ref.rl import commands as rl_commands
from numpy_ref.rl import settings as rl_settings
from numpy_ref.sft import commands as sft_commands
from numpy_ref.thoughts import commands as thought_commands
from numpy_ref.train_command import train as train_command

DEFINITION = "text in, text out: the wings compute"


@dataclass(frozen=True)
class Wing:
    """The functions that a wing brings to the command line; ``name`` is the package: python -m NAME."""

    name: str
    train: Callable  # training/loop.py
    processes: Callable  # processes.py, training/distributed.py
    choose_device: Callable  # device.py
    choose_dtype: Callable  # device.py
    product_speed: Callable  # device.py
    load: Callable  # training/checkpoint.py
    save: Callable  # training/checkpoint.py
    evaluate: Callable  # training/evaluate.py
    generate: Callable  # inference/generate.py
    speculate: Callable  # inference/speculative.py
    attention_maps: Callable  # inference/attention_maps.py
    quantize_params: Callable  # model/quantization.py
    encode: Callable  # tokenizers/byte.py
    decoder: Callable  # tokenizers/byte.py: Decoder
    tokenizers: dict  # kind -> its class: BPE, Unigram, WordPiece, BoundlessBPE of tokenizers/
    train_tokenizer: dict  # kind -> train of tokenizers/bpe.py, ...
    encode_all: Callable | None = None  # encodes an iterable of texts, where that is not one after the other
    fine_tune: Callable | None = None  # sft/loop.py
    model_weights: Callable | None = None  # sft/loop.py
    conversation_losses: Callable | None = None  # sft/evaluate.py
    merge: Callable | None = None  # sft/lora.py
    widen_vocabulary: Callable | None = None  # model/widen.py
    to_numpy: Callable | None = None  # an array of the wing as NumPy's, and back
    from_numpy: Callable | None = None
    train_reward: Callable | None = None  # reward/loop.py
    train_ppo: Callable | None = None  # ppo/loop.py
    train_grpo: Callable | None = None  # grpo/loop.py
    train_dpo: Callable | None = None  # dpo/loop.py
    judge_texts: Callable | None = None  # reward/evaluation.py: judge
    calibration: Callable | None = None  # reward/evaluation.py
    accuracy_by: Callable | None = None  # reward/evaluation.py
    best_of_n: Callable | None = None  # reward/evaluation.py
    ensemble: Callable | None = None  # reward/model.py
    train_units: Callable | None = None  # thoughts/loop.py
    search_units: Callable | None = None  # thoughts/evaluate.py: searched
    search_widths: Callable | None = None  # thoughts/evaluate.py: by_width
    train_senses: Callable | None = None  # context/loop.py
    concepts: dict | None = None  # name -> function of concepts/
    chat: Any = None  # the ChatFormat of a model that knows one, whose control ids the decoder then shows
    byte_trainer: Callable | None = None  # patching/trainer.py: Trainer
    graph_trainer: Callable | None = None  # hyperbolic/trainer.py: Trainer
    vocabulary: Any = None  # of a tokenizer of one of these kinds, whose methods are then in encode, encode_all and decoder


def main(wing, argv=None):
    """Run a command; returns the exit status: 0 done, 2 wrong input, 130 stopped by Ctrl-C, 143 by SIGTERM."""
    memory.keep_memory()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # any byte may be typed, any character generated
            stream.reconfigure(errors="surrogateescape" if stream is sys.stdin else "replace")
    try:
        with warnings_in_a_line():
            options = parse(wing, sys.argv[1:] if argv is None else argv)
            if hasattr(options, "checkpoint"):
                wing = tokenizer_commands.speaking(wing, options.checkpoint)
            status = options.run(wing, options)
        sys.stdout.flush()
        return status or 0
    except UserError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough; keep Python from trying again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return fail(f"{error.filename or 'output'}: {error.strerror or error}; check path, permissions and free space")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        return fail("not enough memory; take a smaller --batch, --context or model")


@contextlib.contextmanager
def warnings_in_a_line():
    """Within this context a RunWarning is one line on stderr, each time; other warnings are shown as before."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message, category, *rest, **more):
            if issubclass(category, RunWarning):
                print("warning: " + " ".join(str(message).split()), file=sys.stderr, flush=True)
            else:
                before(message, category, *rest, **more)

        warnings.simplefilter("always", RunWarning)
        warnings.showwarning = show
        yield


def fail(message):
    """Print the error as one line on stderr; returns the exit status 2."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2


class Parser(argparse.ArgumentParser):
    """Errors are UserErrors, options can't be abbreviated, and only options that were given are set."""

    def __init__(self, **arguments):
        super().__init__(allow_abbrev=False, argument_default=argparse.SUPPRESS, **arguments)

    def error(self, message):
        raise UserError(f"{message}; {self.prog} --help shows what is allowed")


def parse(wing, argv):
    """The options of a command line; ``options.run(wing, options)`` is the command. Raises UserError."""
    parser, subparsers = build_parser(wing)
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        actions = subparsers[options.command]._actions
        allowed = [flag for action in actions for flag in action.option_strings if flag.startswith("--")]
        near = difflib.get_close_matches(unknown[0].split("=")[0], allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown option {unknown[0]!r}; {hint}allowed are {', '.join(allowed)}")
    return options


def build_parser(wing):
    """(parser, {command: its parser}) of a wing."""
    parser = Parser(prog=f"python -m {wing.name}", description=f"Train and use a small language model ({wing.name}).")
    chooser = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparsers = {}

    def command(name, help, run):
        subparsers[name] = chooser.add_parser(name, help=help, description=help)
        subparsers[name].set_defaults(run=run)
        return subparsers[name]

    train = command("train", "train a model on text, or go on with a run (--resume)", train_command)
    train.add_argument("--preset", choices=PRESETS, help="settings that other options change (showcase)")
    train.add_argument("--depth", type=int, metavar="N", help="layers; width, batch, steps and learning rate follow from it")
    train.add_argument("--data", help="samples, pydoc, stdlib, a text or JSONL file, a folder of them, or hf:NAME")
    train.add_argument("--out", required=True, help="run folder: config, log, checkpoint, picture, tokens")
    train.add_argument("--tokenizer", metavar="DIR", help="what `tokenizer train` wrote (bytes)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    train.add_argument("--time-budget", type=float, metavar="SECONDS", help="stop and save before they are over")
    train.add_argument("--tensorboard", action="store_true", help="write event files too (needs tensorboard)")
    add_fields(train.add_argument_group("training"), TrainConfig, PRESETS["showcase"][1])
    add_fields(train.add_argument_group("model"), ModelConfig, PRESETS["showcase"][0])

    generate = command("generate", "continue a text; only the text goes to stdout", commands.generate)
    add_checkpoint(generate)
    again = "text to go on with; may be repeated"
    generate.add_argument("--prompt", required=True, action="append", metavar="TEXT", help=again)
    add_fields(generate, SampleConfig, SampleConfig())
    add_dtype(generate)
    generate.add_argument("--draft", metavar="DIR", help="a smaller model that guesses tokens ahead, for one prompt")
    generate.add_argument("--lookup", action="store_true", help="guess tokens ahead from the text so far, for one prompt")
    generate.add_argument("--ahead", type=int, metavar="N", help="tokens guessed at a time (4)")

    evaluate = command("eval", "measure loss, perplexity and bits per byte on text", commands.evaluate)
    add_checkpoint(evaluate)
    evaluate.add_argument("--data", required=True, help="samples, pydoc, stdlib, a text file or a folder of them")
    evaluate.add_argument("--split", choices=("train", "validation"), help="part of the text (validation, held out)")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")

    inspect = command("inspect", "show the module tree, parameters, FLOPs and memory of a model", commands.inspect)
    which = inspect.add_mutually_exclusive_group(required=True)
    which.add_argument("--preset", choices=PRESETS, help="a preset by name")
    which.add_argument("--checkpoint", metavar="DIR", help="run folder or .npz file")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")

    chat = command("chat", "write with the model: it goes on with what you type", chat_command)
    add_checkpoint(chat)
    add_dtype(chat)
    chat.add_argument("--system", metavar="TEXT", help="words in front of the conversation, which are never forgotten")
    add_fields(chat, SampleConfig, SampleConfig())

    attention = command("attention", "draw and save where heads look on a text", commands.attention)
    add_checkpoint(attention)
    attention.add_argument("--prompt", required=True, metavar="TEXT", help="text to look at")
    attention.add_argument("--layer", type=int, metavar="N", help="one layer, from 0 (all)")
    attention.add_argument("--head", type=int, metavar="N", help="one head, from 0 (all)")
    attention.add_argument("--out", required=True, metavar="FILE.png", help="picture; the weights go to FILE.npz beside it")

    plot = command("plot", "draw the curves of any number of runs in one picture", run_plots.plot)
    plot.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    plot.add_argument("--out", required=True, metavar="FILE.png", help="picture")
    plot.add_argument("--experts", action="store_true", help="the load of each expert over training, instead of curves")
    plot.add_argument("--peak", type=float, metavar="TFLOPS", help="the device's best, for MFU (known GPUs: by name)")

    quantize = command("quantize", "write a smaller copy of a model, in 8 or 4 bits a weight", commands.quantize)
    add_checkpoint(quantize)
    quantize.add_argument("--bits", type=int, required=True, metavar="N", help="8 or 4")
    quantize.add_argument("--group", type=int, metavar="N", help="4 bits: inputs that share a scale (32)")
    quantize.add_argument("--out", required=True, metavar="DIR", help="folder of the copy")

    for reader in (generate, evaluate, chat, attention, quantize, sft_commands.add(command)):
        average = "take the moving average of the weights, which `train --ema X` keeps"
        reader.add_argument("--ema", action="store_true", help=average)

    reward_commands.add(command)
    add_reinforcement(command)
    thought_commands.add(command, add_fields)
    context_commands.add(command, add_fields)
    add_concepts(command)

    tokenizer = chooser.add_parser("tokenizer", help="train, use, convert or look at a tokenizer")
    actions = tokenizer.add_subparsers(dest="command", required=True, metavar="ACTION")

    def action(name, help, run):
        full = f"tokenizer {name}"
        subparsers[full] = actions.add_parser(name, help=help, description=help)
        subparsers[full].set_defaults(run=run, command=full)
        return subparsers[full]

    tokenizer_commands.add(action)
    tokenization_commands.add(command, add_fields)
    hyperbolic_commands.add(command, add_fields)
    return parser, subparsers


def add_reinforcement(command):
    """The commands of `rl/commands.py`."""
    helps = {
        "ppo": ("learn from rewards, with a critic", rl_commands.ppo),
        "grpo": ("learn from rewards, several completions of a prompt against each other", rl_commands.grpo),
    }
    for name, (help, run) in helps.items():
        parser = command(name, help + ", or go on with such a run (--resume)", run)
        parser.add_argument("--checkpoint", metavar="DIR", help="the policy to begin with: run folder or .npz file")
        parser.add_argument("--task", action="append", metavar="NAME", help="prompts of a task, as sort-8; may be repeated, easiest first")
        parser.add_argument("--data", metavar="FILE.jsonl", help="prompts of conversations or comparisons")
        words = "right, closeness, module:function, or the run folder of a reward model; NAME=0.5 weighs it (right)"
        parser.add_argument("--reward", action="append", metavar="NAME", help=words + "; may be repeated")
        parser.add_argument("--out", required=True, help="run folder: config, log, checkpoint, reference, picture")
        parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
        parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="stop and save before they are over")
        add_fields(parser.add_argument_group("learning"), rl_settings.KINDS[name], rl_settings.KINDS[name]())
        left_out = [field.name for field in fields(TrainConfig) if field.name not in rl_settings.TRAINED]
        add_fields(parser.add_argument_group("training"), TrainConfig, rl_settings.TRAINING, leave_out=left_out)


def add_concepts(command):
    """The commands of `concepts/commands.py`."""
    parser = command("concepts", "train models that predict whole sentences as vectors, and compare them", concept_commands.concepts)
    parser.add_argument("--out", required=True, help="run folder: settings, log, weights, results, report, pictures")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="stop and save before they are over")
    add_fields(parser, ExperimentConfig, ExperimentConfig())

    parser = command("story", "go on with a story, sentence by sentence, by a model of such a run", concept_commands.story)
    parser.add_argument("--run", required=True, dest="run_folder", metavar="DIR", help="run folder of the command concepts")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="one sentence or more, each ending in . ! or ?")
    parser.add_argument("--model", choices=KINDS, help=f"which model ({concept_commands.MODEL})")
    parser.add_argument("--sentences", type=int, metavar="N", help=f"how many to write ({concept_commands.SENTENCES})")
    parser.add_argument("--seed", type=int, metavar="N", help="of what is drawn (0)")
    device = next(field for field in fields(TrainConfig) if field.name == "device")
    parser.add_argument("--device", choices=device.metadata["choices"], help=device.metadata["help"])
