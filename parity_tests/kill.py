"""Kill a training run again and again, and see that it loses nothing.

    python -m parity_tests.kill [--times 50] [--seed 0] [--out runs/kill]

A run that saves at every step is started, killed with SIGKILL at a random moment of a step or of a save, and resumed,
until it has come to its end; then the next one begins, on the other wing. Now and then the newest checkpoint is cut
short or altered as well, as a failing disk would. Every run has to end with the weights and optimiser states of a run
that nobody disturbed, bit for bit. Prints a table, and writes it to report.json in the folder.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from numpy_ref import checkpoint_file, files, log
from numpy_ref.checkpoint_file import NAME

ROOT = Path(__file__).resolve().parents[1]
WINGS = ("numpy_ref", "torch_impl")
STEPS = 8
# Large enough that a save takes about as long as a step, so that kills land in both.
MODEL = "--preset tiny --width 192 --heads 4 --feed-forward 384 --batch 2 --warmup 2 --dropout 0.1 --optimizer muon"
SAVING = f"--steps {STEPS} --save-every 1 --eval-every 3 --eval-tokens 64 --keep 3"
TRAINING = f"{MODEL} {SAVING} --dtype float32 --device cpu".split()
PATIENCE = 300.0  # seconds that a child may take to show a sign of life
EVERY = 6  # one damaged checkpoint for so many kills


class Tally(dict):
    """What happened, counted."""

    def __missing__(self, name):
        return 0

    def count(self, name):
        self[name] += 1


def start(wing, folder):
    """A training process on a run folder: resumed where there is a checkpoint, else begun."""
    resumes = checkpoint_file.history(folder) or (folder / NAME).exists()
    how = ["--resume"] if resumes else ["--data", "samples", *TRAINING]
    command = [sys.executable, "-m", wing, "train", "--out", str(folder), *how]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def kill_once(process, folder, rng, tally):
    """Kill the process in a step or in a save, by lot. Returns whether it was there to be killed, and what it said."""
    partial = folder / (NAME + files.PARTIAL)
    newest, stale = _stamp(folder / NAME), _stamp(partial)  # a partial file may be left from the kill before
    in_a_save, saves = rng.random() < 0.5, rng.randrange(3)  # how many are let pass

    def saving():
        return _stamp(partial) not in (None, stale)

    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if _stamp(folder / NAME) != newest:
            newest, saves = _stamp(folder / NAME), saves - 1
        if saves <= 0 and saving() if in_a_save else saves < 0:
            time.sleep(rng.random() * (0.01 if in_a_save else 0.1))
            break
        time.sleep(0.0002)
    if process.poll() is not None or checkpoint_file.step_of(folder / NAME) == STEPS:
        return False, process.communicate()[1]  # it is done
    process.kill()
    said = process.communicate()[1]
    tally.count("kills")
    tally.count("kills in a save" if saving() else "kills in training")
    return True, said


def _stamp(path):
    """What tells a file from one that was there before under the same name; None where there is none."""
    try:
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    except FileNotFoundError:
        return None


def damage(folder, rng, tally):
    """Cut the newest checkpoint short, or change a bit of a weight; only where there is another one to go back to."""
    path = folder / NAME
    older = [step for step, _ in checkpoint_file.history(folder)]
    if not path.exists() or not older or older[0] == checkpoint_file.step_of(path):
        return False
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        content = content[: rng.randrange(len(content))]
    else:
        content[content.index(b"output.weight.npy") + 1000] ^= 1 << rng.randrange(8)
    path.unlink()  # the names of older steps may lead to the same bytes
    path.write_bytes(content)
    tally.count("newest checkpoints damaged")
    return True


def finished(folder):
    """Arrays of the last checkpoint of a run that is done, or None."""
    arrays, header = checkpoint_file.read(folder)
    return arrays if header["step"] == STEPS else None


def same(arrays, others):
    """Whether two sets of arrays are equal to the last bit."""
    return list(arrays) == list(others) and all(
        value.dtype == others[name].dtype and np.array_equal(value.view(np.uint8), others[name].view(np.uint8))
        if value.ndim else value == others[name] for name, value in arrays.items()
    )


def torture(times, seed, out, wings=WINGS, say=print):
    """Kill ``times`` times; the Tally."""
    shutil.rmtree(out, ignore_errors=True)
    rng, tally, undisturbed, number = random.Random(seed), Tally(), {}, 0
    while tally["kills"] < times:
        wing = wings[number % len(wings)]
        if wing not in undisturbed:
            process = start(wing, out / f"undisturbed_{wing}")
            said = process.communicate()[1]
            assert process.returncode == 0, said.decode()
            undisturbed[wing] = out / f"undisturbed_{wing}"
        folder, damaged, number = out / f"run_{number}_{wing}", False, number + 1
        while True:
            going_on = (folder / NAME).exists()
            process = start(wing, folder)
            if tally["kills"] < times:
                killed, said = kill_once(process, folder, rng, tally)
            else:
                killed, said = False, process.communicate()[1]
            if not killed and process.returncode:
                tally.count("resumes that failed")
                say(said.decode()[-300:])
                return tally
            if going_on:
                tally.count("resumes")
            if damaged:
                tally.count("falls back with a warning" if b"going back to" in said else "falls back without a warning")
            damaged = killed and rng.randrange(EVERY) == 0 and damage(folder, rng, tally)
            if not killed:
                break
        ends = same(finished(folder), finished(undisturbed[wing]))
        rows = [[{k: row[k] for k in ("step", "loss", "tokens")} for row in log.read_rows(path / log.NAME)]
                for path in (folder, undisturbed[wing])]
        tally.count("runs that end bit-identical" if ends and rows[0] == rows[1] else "mismatches")
        say(f"{tally['kills']} kills, run {number} ({wing}): {'the same' if ends else 'MISMATCH'}")
        shutil.rmtree(folder)
    return tally


ROWS = ("kills", "kills in training", "kills in a save", "newest checkpoints damaged", "falls back with a warning",
        "falls back without a warning", "resumes", "resumes that failed", "runs that end bit-identical", "mismatches")
WRONG = ("falls back without a warning", "resumes that failed", "mismatches")


def main(argv=None):
    """Run it; returns the exit status: 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m parity_tests.kill", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="kills (50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--out", type=Path, default=Path("runs/kill"), help="folder (runs/kill)")
    options = parser.parse_args(argv)
    begun = time.monotonic()
    tally = torture(options.times, options.seed, options.out)
    for name in ROWS:
        print(f"{name:<30} {tally[name]:>4}")
    seconds = round(time.monotonic() - begun, 1)
    report = {name: tally[name] for name in ROWS} | {"seed": options.seed, "seconds": seconds}
    files.replace(options.out / "report.json", lambda file: file.write((json.dumps(report, indent=1) + "\n").encode()))
    print("report:", options.out / "report.json")
    return 1 if any(tally[name] for name in WRONG) else 0


if __name__ == "__main__":
    sys.exit(main())
