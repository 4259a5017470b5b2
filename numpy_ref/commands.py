"""The commands that read a model, and what all commands share; ``wing`` (see ``cli.Wing``) computes, this file talks."""

import dataclasses
import json
import sys
import tempfile
import unicodedata
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref import checkpoint_file, log, plots
from numpy_ref.config import SampleConfig, parameter_count
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.inspect import describe, text
from numpy_ref.presets import preset
from numpy_ref.rl import parts
from numpy_ref.tokenizer_commands import check_same, keep, tokens_of

DEFINITION = "words for people: the wings compute"

# What a resumed run can't change: the weights, or the order of the data, would no longer be those it began with.
FIXED = ("optimizer", "seed", "pack_documents")


def say(*words):
    """Print to stderr: stdout is for results."""
    print(*words, file=sys.stderr, flush=True)


def given(options, kind):
    """The fields of the dataclass ``kind`` that the command line sets."""
    names = (field.name for field in dataclasses.fields(kind))
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def whole(options, name, least):
    """A whole number among the options, or None. Raises UserError for one that is too small."""
    value = getattr(options, name, None)
    if value is not None and value < least:
        raise UserError(f"--{name.replace('_', '-')} {value} is not allowed; give a whole number of at least {least}")
    return value


def time_budget(options):
    """The seconds that a command may take, or None. Raises UserError for a number that is none."""
    seconds = getattr(options, "time_budget", None)
    if seconds is not None and not 0 < seconds < float("inf"):
        raise UserError(f"--time-budget {seconds} is not allowed; give a number of seconds above 0")
    return seconds


def stopped(wing, stop, out):
    """What to say after Ctrl-C, SIGTERM, or the end of the time."""
    return f"stopped after step {stop.step} and saved; go on with: python -m {wing.name} train --resume --out {out}"


def picture(out):
    """Draw the training curve from the log, if it has rows. No run fails for want of a picture."""
    rows, path = log.read_rows(out / log.NAME), out / "training_curve.png"
    try:
        if any(row.get("loss") is not None for row in rows):
            plots.training_curve(rows, path, title=f"Training of {out}")
    except OSError as error:
        say(f"{path} could not be drawn: {error.strerror or error}")


def opened(wing, options):
    """The Run of --checkpoint on --device; with --ema its weights are their moving average."""
    device, dtype = wing.choose_device(getattr(options, "device", "auto")), None
    if hasattr(options, "dtype"):
        model, _ = checkpoint_file.configs(checkpoint_file.read(options.checkpoint)[1])
        dtype = str(wing.choose_dtype(options.dtype, device, model)).removeprefix("torch.")
        if options.dtype not in ("auto", dtype):
            raise UserError(f"{wing.name} trains in {options.dtype}, but reads models in {dtype}; take --dtype {dtype}")
    run = wing.load(options.checkpoint, dtype=dtype, device=device)
    if run.model_config.output in ("value", "critic"):
        run = parts.policy_of(run)
    if run.model_config.output != "tokens":
        raise UserError(f"{options.checkpoint} is a reward model, which writes no text; give a model that `train` or `sft` made")
    if hasattr(options, "ema"):
        run = checkpoint_file.averaged(run, options.checkpoint)
    number = parameter_count(run.model_config)
    average = ", moving average of its weights" if hasattr(options, "ema") else ""
    say(f"{options.checkpoint}: {number:,} parameters, {run.step} steps, trained by {run.wing}{average}")
    return run


def generate(wing, options):
    """Continue every --prompt; a single one streams to a terminal."""
    sample = SampleConfig(**given(options, SampleConfig))
    prompts = [prompt_tokens(wing, prompt) for prompt in options.prompt]
    run = opened(wing, options)
    streams = len(prompts) == 1 and sys.stdout.isatty()
    writer = Stream(wing) if streams else None
    if streams:
        writer.write(options.prompt[0])
    counts, start = {}, perf_counter()
    if hasattr(options, "draft") or hasattr(options, "lookup"):
        rows = [speculated(wing, options, run, prompts, sample, writer and writer.push, counts)]
    else:
        rows = wing.generate(run.params, run.model_config, prompts, sample, on_token=writer and writer.push)
    seconds = perf_counter() - start
    if streams:
        writer.finish()
    else:
        texts = [prompt + decoded(wing, row) for prompt, row in zip(options.prompt, rows)]
        sys.stdout.write("\n\n".join(texts) + "\n")
    total = sum(len(row) for row in rows)
    say(f"{total} tokens in {seconds:.1f} s ({total / seconds:,.0f} tokens/s)")
    if counts:
        share = counts["accepted"] / max(1, counts["proposed"])
        say(f"{counts['accepted']} of {counts['proposed']} guesses kept ({share:.0%}), {counts['steps']} passes of the model")


def speculated(wing, options, run, prompts, sample, on_token, counts):
    """One prompt continued by speculative decoding, with a draft model or by lookup."""
    if len(prompts) > 1:
        raise UserError(f"{len(prompts)} prompts were given; --draft and --lookup continue one")
    draft = None
    if hasattr(options, "draft"):
        if hasattr(options, "lookup"):
            raise UserError("--draft and --lookup were both given; guesses come from one of them")
        check_same(wing, options.draft)
        other = wing.load(options.draft, device=wing.choose_device(getattr(options, "device", "auto")))
        draft = other.params, other.model_config
    ahead = getattr(options, "ahead", 4)
    return wing.speculate(
        run.params, run.model_config, prompts[0], sample, draft, ahead, on_token=on_token, counts=counts
    )


def prompt_tokens(wing, prompt):
    """The tokens of a prompt. Raises UserError for an empty one."""
    if not prompt:
        raise UserError("the prompt is empty; give at least one character to go on with")
    return wing.encode(prompt)


def decoded(wing, tokens):
    """The text of some tokens; bytes that are no UTF-8 show as a replacement character."""
    decoder = wing.decoder()
    return "".join(decoder.push(int(token)) for token in tokens) + decoder.finish()


def harmless(words):
    """The words with replacement characters for control characters, which could move a terminal's cursor or worse."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in words)


class Stream:
    """Writes tokens to stdout as they come, whole characters at a time."""

    def __init__(self, wing):
        self.decoder, self.said, self.terminal = wing.decoder(), [], sys.stdout.isatty()

    def write(self, words):
        self.said.append(words)
        sys.stdout.write(harmless(words) if self.terminal else words)
        sys.stdout.flush()

    def push(self, row, token):
        self.write(self.decoder.push(int(token)))

    def finish(self):
        """End the line; returns all that was written before."""
        self.write(self.decoder.finish())
        said = "".join(self.said)
        self.write("\n")
        return said


def evaluate(wing, options):
    """Loss, perplexity and bits per byte on the held-out part of a corpus, or on the part trained on."""
    part = getattr(options, "split", "validation")
    run = opened(wing, options)
    with tempfile.TemporaryDirectory() as folder:
        dataset = tokens_of(wing, options.data, folder)
        tokens, per_token = dataset.side(part)
        result = wing.evaluate(run.params, run.model_config, tokens, run.train_config.batch, bytes_per_token=per_token)
    result = {name: int(value) if name == "tokens" else float(value) for name, value in result.items()}
    if hasattr(options, "json"):
        print(json.dumps(result | {"data": options.data, "split": part}))
        return
    print(f"{part} part of {options.data}: {result['tokens']:,} tokens")
    print(f"loss           {result['loss']:.4f} nats per token")
    print(f"perplexity     {result['perplexity']:.4f}")
    print(f"bits per byte  {result['bits_per_byte']:.4f}")


def inspect(wing, options):
    """The module tree, parameters, FLOPs and memory of a preset or a checkpoint."""
    if hasattr(options, "preset"):
        model, settings = preset(options.preset)
    else:
        model, settings = checkpoint_file.configs(checkpoint_file.read(options.checkpoint)[1])
    facts = describe(model, settings)
    print(json.dumps(facts) if hasattr(options, "json") else text(facts))


def attention(wing, options):
    """Draw and save the attention weights of a text: all layers and heads, or one of each."""
    target = Path(options.out)
    if target.suffix != ".png":
        raise UserError(f"--out {options.out} is no picture; give a name that ends in .png")
    tokens = prompt_tokens(wing, options.prompt)
    run = opened(wing, options)
    config = run.model_config
    if len(tokens) > config.context:
        raise UserError(f"the prompt has {len(tokens)} tokens, more than the context of {config.context}; shorten it")
    layers = one_or_all(options, "layer", config.layers)
    heads = one_or_all(options, "head", config.heads)
    weights = np.asarray(wing.attention_maps(tokens, run.params, config), np.float32)[layers][:, heads]
    labels = [decoded(wing, [token]) for token in tokens]
    title = f"Where {'each head' if weights.shape[1] > 1 else f'head {heads.start}'} looks"
    plots.attention_maps(weights, labels, target, title, layers.start, heads.start)
    arrays = {"weights": weights, "tokens": np.asarray(tokens), "layers": np.arange(config.layers)[layers]}
    arrays["heads"] = np.arange(config.heads)[heads]
    replace(target.with_suffix(".npz"), lambda file: np.savez(file, **arrays))
    say(f"wrote {target} and {target.with_suffix('.npz')}: weights {' x '.join(map(str, weights.shape))}")


def one_or_all(options, name, count):
    """The slice of layers or heads that an option picks. Raises UserError when there is none of that number."""
    if not hasattr(options, name):
        return slice(0, count)
    number = getattr(options, name)
    if not 0 <= number < count:
        raise UserError(f"there is no {name} {number}; this model's {name}s go from 0 to {count - 1}")
    return slice(number, number + 1)


def quantize(wing, options):
    """Write a copy of a model with 8 or 4 bits a weight: it generates and can be evaluated, but not trained."""
    out = Path(options.out)
    if (out / checkpoint_file.NAME).exists():
        raise UserError(f"{out} already holds a model; take another --out")
    run = opened(wing, options)
    if any(checkpoint_file.is_quantized(value) for value in run.params.values()):
        raise UserError(f"{options.checkpoint} is quantised already; give the original")
    run.params = wing.quantize_params(run.params, run.model_config, options.bits, getattr(options, "group", 32))
    run.states = {name: {} for name in run.params}
    before = checkpoint_file.locate(options.checkpoint)
    wing.save(out, run)
    checkpoint_file.describe(out, run.model_config, run.train_config)
    keep(wing, out)
    size = (out / checkpoint_file.NAME).stat().st_size
    weights = 4 * parameter_count(run.model_config)
    say(f"wrote {out}: {size / 2**20:.2f} MiB, {weights / size:.1f} times smaller than float32 weights ({before})")
