"""``make demo``: train a model on real text, look at it, and see NumPy say the same words. Then reward it for sorting.

    python -m parity_tests.demo [--out runs/demo] [--steps N]

It stands here because it compares the wings: PyTorch trains and writes, NumPy reads the checkpoint and goes on.
"""

import dataclasses
import itertools
import sys
import textwrap
from pathlib import Path

import numpy as np
import torch

import numpy_ref.__main__ as numpy_side
import torch_impl.__main__ as torch_side
from numpy_ref import cli, commands, log, memory, plots
from numpy_ref.config import SampleConfig, parameter_count
from numpy_ref.presets import preset
from numpy_ref.data.token_files import prepare
from numpy_ref.errors import UserError
from numpy_ref.inference.generate import generate as numpy_generate
from numpy_ref.interrupt import Interrupted
from numpy_ref.model.transformer import transformer as numpy_transformer
from numpy_ref.progress import Progress, clock, counter
from parity_tests import second_act
from torch_impl.inference.attention_maps import attention_maps
from torch_impl.inference.generate import generate
from torch_impl.model.transformer import transformer
from torch_impl.training.evaluate import evaluate
from torch_impl.training.loop import train

DATA = "pydoc"
PROMPTS = ("The future of", "Artificial intelligence")
TEMPERATURES = (0.5, 0.8, 1.0)
SENTENCE = "The list has two items."
ALOUD = "If the object"  # its likeliest continuation is prose; after the other prompts it is an indented table
GREEDY = 120  # tokens that both wings generate side by side
TOLERANCE = 1e-3  # float32 logits of both wings differ by about 1e-5; more than this would be a bug


def main(argv=None):
    """Run the demo; returns the exit status."""
    memory.keep_memory()
    options = options_of(sys.argv[1:] if argv is None else argv)
    out = Path(options.out)
    model, settings = preset("showcase")
    settings = dataclasses.replace(settings, steps=options.steps or settings.steps)
    wing = torch_side.WING
    device = wing.choose_device(settings.device)
    dtype = str(wing.choose_dtype(settings.dtype, device, model)).removeprefix("torch.")

    size = f"{parameter_count(model):,} parameters"
    heading(1, f"Training: {size}, corpus {DATA}, {settings.steps} steps, {dtype} on {device}")
    dataset = prepare(DATA, out / "data", wing.encode, np.uint8, progress=counter("reading"))
    report = Progress(settings.steps)
    try:
        run = train(model, settings, dataset, out, report=report)
    except Interrupted as stop:
        report.note(commands.stopped(wing, stop, out))
        return stop.status
    finally:
        report.close()
    print(f"{run.tokens:,} bytes read in {clock(run.seconds)} minutes")

    heading(2, "Held-out text, never seen in training")
    tokens, per_token = dataset.side("validation")
    result = evaluate(run.params, model, tokens, settings.batch, bytes_per_token=per_token)
    print(f"loss           {result['loss']:.3f} nats per byte, over {result['tokens']:,} bytes")
    print(f"perplexity     {result['perplexity']:.2f}")
    print(f"bits per byte  {result['bits_per_byte']:.3f}")

    heading(3, "Samples")
    for temperature in TEMPERATURES:
        show_samples(wing, run, SampleConfig(tokens=200, temperature=temperature))

    heading(4, "Pictures")
    plots.training_curve(log.read_rows(out / log.NAME), out / "training_curve.png", title=f"showcase on {DATA}")
    text = wing.encode(SENTENCE)
    maps = attention_maps(text.to(device), run.params, model).cpu().numpy()
    plots.attention_maps(maps, list(SENTENCE), out / "attention.png", title=f"Where each head looks: “{SENTENCE}”")
    print(f"{out / 'training_curve.png'}\n{out / 'attention.png'}")

    heading(5, "NumPy reads the checkpoint and goes on; greedy, float32")
    fine = side_by_side(out, device)

    try:
        second_act.perform(wing.load(out, "float32", device), out, device, heading, options.steps)
    except Interrupted as stop:
        return stop.status
    print(f"\nThe run is in {out}: checkpoint.npz, config.json, log.jsonl, two pictures, data/; in taught/ and rewarded/ the others. Try:")
    print(f"  .venv/bin/python -m torch_impl chat --checkpoint {out}")
    print(f"  .venv/bin/python -m numpy_ref generate --checkpoint {out} --prompt 'The future of' --temperature 0.8")
    print(f"  .venv/bin/python -m torch_impl inspect --checkpoint {out}")
    print(f"  .venv/bin/python -m torch_impl chat --checkpoint {out}/rewarded --greedy     and then: sort 314159=")
    return 0 if fine else 1


def options_of(argv):
    """--out and --steps."""
    parser = cli.Parser(prog="python -m parity_tests.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/demo", help="run folder (runs/demo)")
    parser.add_argument("--steps", type=int, default=None, help="training steps (the preset's)")
    return parser.parse_args(argv)


def heading(number, words):
    print(f"\n\033[1m[{number}/7] {words}\033[0m" if sys.stdout.isatty() else f"\n[{number}/7] {words}", flush=True)


def show_samples(wing, run, sample):
    """Both prompts continued at one temperature, wrapped for reading."""
    rows = generate(run.params, run.model_config, [wing.encode(prompt) for prompt in PROMPTS], sample)
    print(f"temperature {sample.temperature}")
    for prompt, row in zip(PROMPTS, rows):
        print(indented(commands.harmless(prompt + commands.decoded(wing, row))) + "\n", flush=True)


def indented(text, width=96):
    """Text as a paragraph at most ``width`` wide, its own line ends kept."""
    return "\n".join("  | " + line for line in wrapped(text, width))


def wrapped(text, width):
    """Lines at most ``width`` wide."""
    return [part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]]


def side_by_side(out, device):
    """Generate with both wings from the same file; True when tokens and logits agree."""
    torch_run = torch_side.WING.load(out, device=device)
    numpy_run = numpy_side.WING.load(out)
    sample = SampleConfig(tokens=GREEDY, greedy=True)
    prompt = ALOUD
    config = torch_run.model_config
    ours = generate(torch_run.params, config, [torch_side.WING.encode(prompt)], sample)[0].tolist()
    theirs = numpy_generate(numpy_run.params, config, [numpy_side.WING.encode(prompt)], sample)[0].tolist()

    whole = np.array([[*numpy_side.WING.encode(prompt).tolist(), *ours]])[:, -config.context :]
    with torch.no_grad():
        logits = transformer(torch.from_numpy(whole).to(device), torch_run.params, config).cpu().numpy()
    difference = float(np.abs(numpy_transformer(whole, numpy_run.params, config)[0] - logits).max())

    texts = [prompt + commands.decoded(numpy_side.WING, tokens) for tokens in (ours, theirs)]
    print_columns("PyTorch", commands.harmless(texts[0]), "NumPy", commands.harmless(texts[1]))
    agree = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), None)
    same = f"yes, all {len(ours)}" if agree is None else f"no, from token {agree} on"
    print(f"\nsame tokens: {same}; largest difference of the logits: {difference:.1e}")
    return agree is None and difference < TOLERANCE


def print_columns(left_title, left, right_title, right, width=46):
    """Two texts next to each other."""
    sides = [wrapped(text, width) for text in (left, right)]
    print(f"  {left_title:<{width}} | {right_title}")
    print(f"  {'-' * width} | {'-' * width}")
    for a, b in itertools.zip_longest(*sides, fillvalue=""):
        print(f"  {a:<{width}} | {b}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(cli.fail(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
