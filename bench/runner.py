"""Runs the groups of a plan: one process a measurement, the candidates of a group taking turns."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import environment, rows

ROOT = Path(__file__).resolve().parents[1]


class Runner:
    """Starts workers and turns their answers into rows, group by group."""

    def __init__(self, threads, rounds, device="cpu", timeout=900, say=print):
        self.rounds, self.device, self.timeout, self.say = rounds, device, timeout, say
        self.variables = environment.with_threads(threads)
        answer = self.ask({"kind": "environment", "device": device})
        if answer["status"] != "ok":
            raise RuntimeError(f"the first worker failed: {answer['reason']}")
        commit, dirty = environment.revision(ROOT)
        self.stamp = {
            "run": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "commit": commit,
            "dirty": dirty,
            "environment": answer["environment"],
        }
        self.peaks = None

    def ask(self, job):
        """The answer of one worker process; a process that dies or hangs is an answer too."""
        timeout = job.get("timeout", self.timeout)
        command = [os.environ.get("BENCH_PYTHON", sys.executable), "-m", "bench.worker", json.dumps(job)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=self.variables, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return {"status": "error", "reason": f"no answer within {timeout} s", "modes": job.get("modes")}
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            answer = {"status": "error", "reason": f"exit status {done.returncode}: {last}", "modes": job.get("modes")}
        else:
            answer = json.loads(lines[-1])
        if "reason" in answer:
            answer["reason"] = environment.without_paths(answer["reason"])[:300]
        return answer

    def run(self, groups):
        """Yields the rows of each group as it is done."""
        total, start = sum(self._rounds(group) * len(group) for group in groups), time.monotonic()
        done = 0
        with tempfile.TemporaryDirectory() as cache:
            self.variables["TORCHINDUCTOR_CACHE_DIR"] = str(Path(cache) / "inductor")  # each run compiles afresh, once
            for group in groups:
                yield self._group([job | {"cache": cache} for job in group])
                done += self._rounds(group) * len(group)
                spent = time.monotonic() - start
                self.say(
                    f"  {done} of {total} measurements, {spent / 60:.1f} min so far, about "
                    f"{spent / done * (total - done) / 60:.1f} min to go"
                )

    def _rounds(self, jobs):
        """Processes a cell: as the command line says, but for kinds whose jobs say so themselves, for they take long."""
        return jobs[0].get("rounds", self.rounds)

    def _group(self, jobs):
        answers = [[] for _ in jobs]
        for _ in range(self._rounds(jobs)):
            for job, given in zip(jobs, answers):
                if all(answer["status"] == "ok" for answer in given):  # a refused candidate is not asked again
                    given.append(self.ask(job))
        stamp = self.stamp | {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        found = [row for job, given in zip(jobs, answers) for row in rows.combine(job, given, stamp)]
        if jobs[0]["kind"] == "machine":
            self.peaks = rows.peaks(found)
        for row in found:
            on_device = self.device == "cpu" or row["implementation"] != "numpy"  # the limits are the device's
            if self.peaks and on_device and row["status"] == "ok" and "flops" in row:
                row["roofline"] = rows.roofline(row, self.peaks)
            self.say(line(row))
        return found


def line(row):
    """A row in one line of text."""
    how = "compiled" if row["compiled"] else ""
    what = f"{row['name']:<30} {row['implementation']:<7} {row['dtype']:<9} {how:<8} {row['mode']:<9}"
    if row["status"] != "ok":
        return f"{what} {row['status']}: {row['reason']}"
    if row["kind"] == "machine":
        return f"{what} {row['value'] / 1e9:8.1f} G/s"
    if "value" in row:
        return f"{what} {row['value']:10.4g}"
    spread = (row["seconds"]["high"] - row["seconds"]["low"]) / row["seconds"]["median"]
    text = f"{what} {1e3 * row['seconds']['median']:10.3f} ms  spread {spread:4.0%}"
    if "tokens_per_second" in row:
        text += f"  {row['tokens_per_second']:8.0f} tokens/s"
    return text + (f"  {row['roofline']['share']:5.1%} of the roofline" if "roofline" in row else "")
