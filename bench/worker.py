"""One measurement in a process of its own: ``python -m bench.worker '<job as JSON>'`` prints one line of JSON.

A job has ``kind`` and what that kind needs; the answer has ``status`` and, only if the result was right, ``modes`` with
the time, memory and work of each mode. The order: make the inputs, compare with the reference, then time.
"""

import json
import sys
import time
import warnings

from bench import clock, gate


def answer(job):
    """The answer to a job, whatever happens: a dict with ``status`` ok, parity_failed, unavailable or error."""
    modes = job.get("modes")
    try:
        return {"status": "ok"} | measure(job)
    except gate.ParityError as error:
        return {"status": "parity_failed", "reason": str(error), "parity": error.parity, "modes": modes}
    except (ImportError, AttributeError) as error:  # a component or a peer that isn't there (yet)
        return {"status": "unavailable", "reason": f"{type(error).__name__}: {error}", "modes": modes}
    except Exception as error:
        return {"status": "error", "reason": f"{type(error).__name__}: {error}", "modes": modes}


def measure(job):
    """Dispatch on the kind of job; each returns {"modes": {...}, "parity": ...}."""
    if job.get("allocator") == "tuned":
        from numpy_ref.memory import keep_memory

        keep_memory()
    kinds = {
        "component": component,
        "training": whole,
        "generation": whole,
        "machine": machine,
        "control": control,
        "environment": environment,
    }
    return kinds.get(job["kind"], kinds_of_their_own)(job)


def kinds_of_their_own(job):
    """The kinds of `kinds`, each measured by its own module."""
    from bench import kinds

    return kinds.measure(job)


def component(job, cases=None):
    """Forward, backward and both of one component on one side."""
    from bench import components, sides

    case = (cases or components.cases(job["shape"]["preset"], job["shape"]["batch"]))[job["name"]]
    device, dtype = job.get("device", "cpu"), job["dtype"]

    def reference():
        return sides.NumpySide(case, job["name"], "float64").results()

    side = sides.SIDES[job["implementation"]](case, job["name"], dtype, device)
    results = side.results()  # the first call: a step in place has not moved its arguments yet
    label = f"component {job['name']} {job['shape']}"
    parity = gate.compare(results, gate.cached(job.get("cache"), label, reference), dtype, case.slack)
    del results
    flops = {"forward": case.flops, "backward": case.backward, "both": case.flops + case.backward}
    modes = {}
    for mode in case.modes:
        call = getattr(side, mode)
        if mode == "backward":
            side.forward()  # one graph, gone backward through again and again
        memory = clock.peak_memory(call, device)
        modes[mode] = {"flops": flops[mode], "bytes": side.traffic(mode), "memory": memory} | timing(job, call)
    return {"modes": modes, "parity": parity}


def whole(job):
    """A training step or a generated text, ours or a peer's."""
    from bench import candidates

    candidate = candidates.make(job)
    start = time.perf_counter()
    candidate.first_call()
    first = time.perf_counter() - start
    label = json.dumps([job["kind"], candidate.reference_label, job["shape"]])
    reference = gate.cached(job.get("cache"), label, candidate.reference)
    parity = gate.compare(candidate.results(), reference, job["dtype"], candidates.SLACK)
    del reference
    device = job.get("device", "cpu")
    memory = clock.peak_memory(candidate.call, device)
    mode = {"flops": candidate.flops, "bytes": candidate.bytes, "tokens": candidate.tokens, "memory": memory}
    mode |= timing(job, candidate.call, budget=job.get("budget", 4.0), least=3)
    return {"modes": {job["modes"][0]: mode}, "parity": parity, "first_call_seconds": first, "notes": candidate.notes}


def machine(job):
    """What the machine can do at best: matrix products and copies, as PyTorch or NumPy does them."""
    from bench import machine as peaks

    return {"modes": peaks.measure(job), "parity": None}


def control(job):
    """Candidates whose answer is known: does the bench see that one is slower, and that one is wrong?"""
    import numpy as np

    wanted = {"y": np.arange(8.0)}
    actual = {"y": wanted["y"] * (1.001 if job["implementation"] == "wrong" else 1.0)}
    parity = gate.compare(actual, wanted, job["dtype"])
    pause = {"known": 0.02, "twice": 0.04}[job["implementation"]]
    return {"modes": {"forward": timing(job, lambda: time.sleep(pause))}, "parity": parity}


def environment(job):
    from bench.environment import describe

    return {"modes": {}, "parity": None, "environment": describe(job.get("device", "cpu"))}


def timing(job, call, budget=0.25, least=5):
    budget, least = job.get("budget", budget), job.get("least", least)
    seconds = clock.timed(call, job.get("device", "cpu"), budget, least)
    return {"seconds": clock.summary(seconds)}


def main(argv):
    """Read the job, print the answer; other people's chatter goes to stderr."""
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(answer(json.loads(argv[0]))), file=out)


if __name__ == "__main__":
    main(sys.argv[1:])
