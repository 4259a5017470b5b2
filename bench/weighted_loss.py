"""The loss of fine-tuning alone: peak memory and time, output head included, where half of the tokens count."""

import numpy as np

from bench import clock, gate

SHARE = 0.5  # of the tokens that are answers
SHOWN = 2048  # rows of the weight's gradient that are compared


def measure(job):
    """The answer of a worker: what the candidate computes is compared before it is timed."""
    run, shape = _candidate(job), job["shape"]

    def results():
        loss, dx, dweight = run()
        return {
            "loss": np.array(float(loss)),
            "dx": dx.double().cpu().numpy(),
            "dweight": dweight[:SHOWN].double().cpu().numpy(),
        }

    label = f"weighted loss {shape['vocabulary']} {shape['tokens']} {shape['width']}"
    parity = gate.compare(
        results(), gate.cached(job.get("cache"), label, lambda: _reference(job)), job["dtype"], slack=4
    )
    seconds = clock.timed(run, job.get("device", "cpu"), job.get("budget", 1.0), 3)
    mode = {
        "memory": clock.peak_memory(run, job.get("device", "cpu")),
        "seconds": clock.summary(seconds),
        "tokens": shape["tokens"],
    }
    return {"modes": {"both": mode}, "parity": parity}


def _inputs(shape):
    from bench.work import draw

    draw = draw("weighted loss")
    x, weight = draw((shape["tokens"], shape["width"])), draw((shape["vocabulary"], shape["width"]), 0.05)
    targets = draw.rng.integers(0, shape["vocabulary"], shape["tokens"])
    answers = draw.rng.random(shape["tokens"]) < SHARE
    return x.astype(np.float32), weight.astype(np.float32), targets, answers


def _reference(job):
    from numpy_ref.training.losses import linear_cross_entropy

    x, weight, targets, answers = _inputs(job["shape"])
    loss, vjp = linear_cross_entropy(
        x.astype(np.float64), weight.astype(np.float64), targets, chunk=128, weights=answers.astype(np.float64)
    )
    dx, dweight = vjp(1.0)
    return {"loss": np.array(loss), "dx": dx, "dweight": dweight[:SHOWN]}


def _candidate(job):
    """A function () -> loss, dx, dweight."""
    import torch
    import torch.nn.functional as F

    x, weight, targets, answers = (
        torch.from_numpy(array).to(job.get("device", "cpu")) for array in _inputs(job["shape"])
    )
    x, weight = (array.to(getattr(torch, job["dtype"])).requires_grad_() for array in (x, weight))
    labels = targets.where(answers, -100)

    def run():
        if job["implementation"] == "trl":
            from trl.kernels.chunked_logprob import ChunkedLogProbFunction
            from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

            found = ChunkedLogProbFunction.apply(
                x, weight, None, labels.clamp(min=0), 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("log_probs", "entropy", "is_top1")
            )  # fmt: skip
            loss = -found[0].masked_fill(~answers, 0).sum() / answers.sum()
        elif job["shape"]["how"] == "all logits":
            loss = F.cross_entropy(F.linear(x, weight), labels)
        else:
            from torch_impl.training.losses import linear_cross_entropy

            loss = linear_cross_entropy(x, weight, targets, chunk=128, weights=answers.to(x.dtype))
        return loss.detach(), *torch.autograd.grad(loss, (x, weight))

    return run
