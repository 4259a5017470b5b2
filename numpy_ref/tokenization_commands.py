"""``tokenizations``: the experiment of `patching/experiment.py` at the command line, with progress, resume and a report."""

import dataclasses
import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from numpy_ref import archive
from numpy_ref.commands import say, time_budget
from numpy_ref.config import TrainConfig
from numpy_ref.errors import UserError
from numpy_ref.files import replace
from numpy_ref.patching import report
from numpy_ref.patching.arms import ENTROPY, LABELS, SIZES, Settings, configs, entropy_config
from numpy_ref.patching.config import flops_per_byte
from numpy_ref.patching.experiment import Arm, borders_of, corpus, thresholds_of, train_config
from numpy_ref.progress import clock
from numpy_ref.tokenizers.kinds import KINDS

DEFINITION = "words and files: the wings compute"

HEADER, RESULTS, STATES = "tokenizations.json", "results.jsonl", "states"
SAVE_EVERY = 60.0  # seconds
SAMPLE = 240  # bytes of the text whose borders are drawn


def add(command, add_fields):
    """Add the command; ``command(name, help, run)`` makes a parser."""
    parser = command("tokenizations", "compare byte models, patches and BPE at the same training cost", run)
    parser.add_argument("--data", help="samples, pydoc, stdlib, a text file or a folder of them")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the report, its pictures and its numbers")
    parser.add_argument("--resume", action="store_true", help="go on with the experiment in --out")
    parser.add_argument("--size", choices=SIZES, help="settings that other options change (cpu)")
    parser.add_argument("--arms", metavar="NAMES", help=f"which models, with commas ({','.join(LABELS)})")
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="save and stop before they are over")
    for name in ("device", "dtype"):
        field = next(field for field in dataclasses.fields(TrainConfig) if field.name == name)
        parser.add_argument(f"--{name}", choices=field.metadata["choices"], help=field.metadata["help"])
    add_fields(parser, Settings, SIZES["cpu"])


def run(wing, options):
    """Train every arm that is not done, one after the other, and write the report."""
    out, began, seconds = Path(options.out), perf_counter(), time_budget(options) or float("inf")
    header = _header(out, options)
    settings = Settings(**header["settings"])
    say(f"reading {header['data']}")
    data = corpus(header["data"], settings, wing.train_tokenizer["bpe"], wing.tokenizers["bpe"])
    facts = f"{len(data.train):,} bytes to train on, {len(data.held_out):,} held out; "
    say(f"{facts}BPE: {data.bytes_per_token:.2f} bytes a token; {settings.flops:.2g} operations for each model")
    where = {"device": getattr(options, "device", "auto"), "dtype": getattr(options, "dtype", "auto")}
    lab = Lab(wing, data, settings, out, where, began, seconds)
    done = _results(out)
    for seed in range(settings.seeds):
        for name in header["arms"]:
            if (name, seed) not in {(row["arm"], row["seed"]) for row in done}:
                row = lab.train(name, seed)
                if row is None:
                    say(f"saved; go on with: python -m {wing.name} tokenizations --resume --out {out}")
                    return
                done.append(row)
                with open(out / RESULTS, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    about = {"text": _about(header["data"], data, where["dtype"]), "settings": header["settings"], "entropy": lab.entropy_words()}
    for path in report.write(out, about, done, lab.cut(header["arms"])):
        say(f"wrote {path}")
    for row in report.averages(done):
        print(f"{row['bits_per_byte']:.4f}  {row['label']}")


def _header(out, options):
    """{"data", "settings", "arms"} of a new experiment, or of the one in ``out`` that goes on. Raises UserError."""
    path, resume = out / HEADER, getattr(options, "resume", False)
    names = {field.name for field in dataclasses.fields(Settings)}
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    if resume:
        if not path.is_file():
            raise UserError(f"there is no experiment in {out}; leave --resume out to begin one")
        try:
            header = json.loads(path.read_text(encoding="utf-8"))
            Settings(**header["settings"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is damaged; begin a new experiment in another folder") from None
        asked = given | {name: getattr(options, name) for name in ("data", "arms", "size") if hasattr(options, name)}
        if asked:
            raise UserError(f"{', '.join(sorted(asked))} can't change in an experiment that goes on; begin a new one")
        return header
    if path.exists():
        raise UserError(f"{out} already holds an experiment; go on with it by --resume, or take another --out")
    if not hasattr(options, "data"):
        raise UserError("--data is missing; give samples, pydoc, stdlib, a text file or a folder (or --resume)")
    arms = [name.strip() for name in getattr(options, "arms", ",".join(LABELS)).split(",") if name.strip()]
    unknown = [name for name in arms if name not in LABELS]
    if unknown or not arms or len(set(arms)) < len(arms):
        wrong = repr(unknown[0]) if unknown else "that list"
        raise UserError(f"--arms does not take {wrong}; give different ones of {', '.join(LABELS)}")
    settings = dataclasses.replace(SIZES[getattr(options, "size", "cpu")], **given)
    header = {"data": options.data, "settings": dataclasses.asdict(settings), "arms": arms}
    configs(settings, 2.0)  # raises for sizes that do not fit each other, before anything is read
    replace(path, lambda file: file.write(json.dumps(header, indent=1).encode()))
    return header


def _results(out):
    path = out / RESULTS
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    except ValueError:
        raise UserError(f"{path} is damaged; delete its last line, or begin anew in another folder") from None


def _about(source, data, dtype):
    sizes = f"{len(data.train):,} bytes of training text, {len(data.held_out):,} bytes held out"
    return f"Text: {source}, {sizes}, whole documents, no passage on both sides. BPE of the training text: " + (
        f"{len(data.bytes_of):,} tokens, {data.bytes_per_token:.2f} bytes a token."
        + ("" if dtype == "auto" else f" All models are trained in {dtype}.")
    )


class Lab:
    """The arms of one experiment: what they are trained on, where their states are kept, and until when."""

    def __init__(self, wing, data, settings, out, where, began, seconds):
        self.wing, self.data, self.settings, self.out, self.where = wing, data, settings, out, where
        self.began, self.seconds, self.entropy, self.thresholds, self.trained = began, seconds, None, None, {}

    def train(self, name, seed):
        """The result of an arm, or None where the time is over. A state that was saved goes on."""
        if name in ENTROPY and not self._entropies():
            return None
        arm, tokens = self._arm(name, seed)
        if not self._until_done(arm, f"{LABELS[name]}, seed {seed}", self.data.train_ids if tokens else self.data.train):
            return None
        self._save(arm)
        row = arm.result(self.data.held_out_ids if tokens else self.data.held_out)
        say(f"{LABELS[name]}, seed {seed}: {row['bits_per_byte']:.3f} bits per byte of held-out text in {clock(row['seconds'])}")
        return row

    def _arm(self, name, seed):
        """(the Arm with its saved state, whether it reads tokens)."""
        config = configs(self.settings, self.data.bytes_per_token)[name]
        trainer = self.wing.byte_trainer(config, train_config(self.settings, seed, **self.where))
        tokens = name.startswith("bpe")
        borders = borders_of(name, self.entropy and self.entropy.entropies, self.thresholds)
        sizes = self.data.bytes_of if tokens else np.ones(256, np.int64)
        arm = Arm(name, trainer, self.settings, seed, sizes, borders)
        self._restore(arm)
        return arm, tokens

    def _entropies(self):
        """Train the model of entropies, unless it is there; False where the time is over."""
        if self.entropy is None:
            settings = dataclasses.replace(self.settings, flops=self.settings.flops / 4)
            trainer = self.wing.byte_trainer(entropy_config(settings), train_config(settings, 0, **self.where))
            arm = Arm("entropy", trainer, settings, 0, np.ones(256, np.int64))
            self._restore(arm)
            if not self._until_done(arm, "model of entropies", self.data.entropy):
                return False
            self._save(arm)
            self.entropy, self.entropy_arm = trainer, arm
            self.thresholds = thresholds_of(trainer.entropies, self.data.train, self.settings)
        return True

    def _until_done(self, arm, label, data):
        """Train an arm to its end: True; save it and return False when the time is over."""
        saved, said, bits, next_row = perf_counter(), -1, [], arm.spent
        while not arm.done:
            bits.append(arm.train_step(data))
            if arm.spent >= next_row:
                arm.curve.append((arm.spent, float(np.mean(bits))))
                next_row, bits = arm.spent + arm.settings.flops / 50, []
            share = min(1.0, arm.spent / arm.settings.flops)
            if int(10 * share) > said or sys.stderr.isatty():
                said = int(10 * share)
                left = clock(arm.seconds * (1 / share - 1))
                _progress(f"{label}: {share:4.0%}  {arm.curve[-1][1]:.3f} bits per byte  {left} left")
            now = perf_counter()
            if now - saved > SAVE_EVERY or now - self.began > self.seconds - 5:
                self._save(arm)
                saved = now
                if now - self.began > self.seconds - 5 and not arm.done:
                    return False
        _progress(None)
        return True

    def _path(self, arm):
        return self.out / STATES / f"{arm.name}-{arm.seed}.npz"

    def _save(self, arm):
        state = {name: getattr(arm, name) for name in Arm.COUNTS}
        header = np.frombuffer(json.dumps(state).encode(), np.uint8)
        replace(self._path(arm), lambda file: np.savez(file, header=header, **arm.trainer.arrays()))

    def _restore(self, arm):
        path = self._path(arm)
        if path.exists():
            try:
                arrays, header = archive.read(path)
                arm.trainer.restore(arrays)
                for name in Arm.COUNTS:
                    setattr(arm, name, header[name])
            except archive.DAMAGE:
                raise UserError(f"{path} is damaged; delete it, and that model begins anew") from None

    # -- for the report -------------------------------------------------------------------------------------------

    def entropy_words(self):
        """A line about the model of entropies, or None."""
        if self.entropy is None and not any((self.out / STATES).glob("entropy-*")):
            return None
        self._entropies()
        cost, bits = flops_per_byte(self.entropy.config), self.entropy_arm.bits_per_byte(self.data.held_out)
        found = ", ".join(f"{LABELS[name]} {value:.3f}" for name, value in self.thresholds.items())
        return (
            f"Entropies come from a byte model of its own, trained on {len(self.data.entropy):,} bytes that the others "
            f"do not see ({bits:.3f} bits per byte of held-out text). Its training ({self.entropy_arm.spent:.2g} operations) "
            f"and its forward pass ({cost / 1e6:.2f}M operations a byte) are not counted. Thresholds in nats: {found}."
        )

    def cut(self, arms):
        """{label: pieces of the beginning of the held-out text} by tokenizers of every kind and by every patcher."""
        data = self.data.held_out[:SAMPLE]
        text, cut = data.tobytes().decode(errors="replace"), {}
        for kind in KINDS:
            size = max(self.settings.vocab_size, 512 + 64)
            vocabulary = self.wing.train_tokenizer[kind]([self.data.training_text[: 1 << 20]], size)
            ids = self.wing.tokenizers[kind](vocabulary).encode(text)
            cut[f"{kind}, {len(vocabulary):,} tokens"] = [vocabulary.tokens[int(i)] for i in ids]
        inputs = data[None, : self.settings.context].astype(np.int64)
        for name in arms:
            if not name.startswith(("bytes", "bpe")):
                arm, _ = self._arm(name, 0)
                starts = arm.trainer.patches(inputs, arm.borders and arm.borders(inputs))[0]
                places = [*np.flatnonzero(starts), inputs.shape[1]]
                cut[LABELS[name]] = [inputs[0, a:b].astype(np.uint8).tobytes() for a, b in zip(places, places[1:])]
        return cut


def _progress(words):
    """A line that is drawn again on a terminal, else a line of its own; None ends it."""
    if sys.stderr.isatty():
        sys.stderr.write("\n" if words is None else f"\r{words}\x1b[K")
        sys.stderr.flush()
    elif words is not None:
        say(words)
