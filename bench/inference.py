"""Inference of the modern architecture: greedy decoding at batch 1 and 32, and the reading of a prompt.

    decode 1, decode 32    ``generate`` of a loaded model, prompt included: new tokens a second over all rows
    prefill                a prompt into an empty cache, and the logits after its last token: prompt tokens a second

One process does all three. Weights are the reference's random ones, the same for everybody. int8 and int4 (groups of
32) are this project's quantised matrices, with activations in bfloat16.
"""

import importlib
import time
from dataclasses import replace

import numpy as np

from bench import candidates, clock, gate, sides, work
from bench.report_parts import compared, label, memory, select, size, table
from numpy_ref.config import SampleConfig, parameter_count, parameter_shapes
from numpy_ref.presets import preset

PROMPT, PREFILL, GROUP = 16, 512, 32
LARGE = 1e9  # parameters: float64 copies of a larger model would fill the memory, so that it has no reference
LONG = 2  # seconds: a call that takes longer is made once to be compared and once to be timed
BATCHES = (1, 32)
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5}
MODES = (*(f"decode {rows}" for rows in BATCHES), "prefill")
MODELS = ("llama-1m", "llama-10m", "llama-124m")


def groups(options):
    """One group a model: all formats of ours, both of the peers; on CUDA also the 7B-shaped model, without peers."""
    found = [_group(name, 64, options) for name in (("tiny",) if options.quick else MODELS)]
    if not options.quick:  # the largest in two groups, so that one doesn't take a quarter of an hour
        found[-1:] = [
            [
                job | {"name": name, "modes": modes}
                for job in found[-1]
                if job["dtype"] in work.FLOATS or "decode 1" in modes  # codes are for few rows: many write values out
            ]
            for name, modes in ((MODELS[-1], ["decode 1", "prefill"]), (f"{MODELS[-1]}-batch-32", ["decode 32"]))
        ]
    if options.device == "cuda" and not options.quick:
        large = _group("llama-7b", 64, options)
        found.append([job for job in large if job["dtype"] != "float32" and job["implementation"] == "torch"])
    return found


def _group(name, tokens, options):
    shape = {"preset": name, "context": preset(name)[0].context, "tokens": 8 if name == "tiny" else tokens}
    formats = ("float32",) if options.quick else BYTES
    cells = [("torch", dtype) for dtype in formats]
    cells += [(peer, dtype) for peer in ("hf", "litgpt") for dtype in work.FLOATS if options.peers]
    if name == "llama-1m":
        cells.insert(0, ("numpy", "float32"))
    return [
        {
            "kind": "inference",
            "name": name,
            "implementation": who,
            "dtype": dtype,
            "compiled": False,
            "allocator": "tuned" if who in ("torch", "numpy") else "default",
            "shape": shape,
            "modes": list(MODES),
            "device": "cpu" if who == "numpy" else options.device,
        }
        for who, dtype in cells
    ]


def measure(job):
    """Compare with the float64 reference, then time each mode."""
    if job["implementation"] in ("numpy", "torch"):
        model = Ours(job)
    else:
        from bench import llama_peers

        model = llama_peers.Inference(job)
    start = time.perf_counter()
    results = model.results()
    first = time.perf_counter() - start
    parity = None
    if parameter_count(model.config) < LARGE:
        label = f"inference {model.config} {job['shape']} {job['modes']} {_kind(job)}"
        wanted = gate.cached(job.get("cache"), label, lambda: reference(job, model.config))
        if job["dtype"] != "float32":  # coarser formats may part ways at a near tie
            wanted, results = ({"logits": found["logits"]} for found in (wanted, results))
        parity = gate.compare(results, wanted, job["dtype"], candidates.SLACK)
    modes = {mode: _timed(job, model, mode) for mode in job["modes"]}
    notes = model.notes | {"parameters": parameter_count(model.config)}
    return {"modes": modes, "parity": parity, "first_call_seconds": first, "notes": notes}


def _timed(job, model, mode):
    """Peak memory and time of a mode, with its work."""
    rows, device = int(mode.rpartition(" ")[2]) if mode != "prefill" else 1, job["device"]
    call = (lambda: model.prefill(prompts(1, _prefill(job)))) if mode == "prefill" else (lambda: model.text(rows))
    start = time.perf_counter()
    memory = clock.peak_memory(call, device)
    seconds = [time.perf_counter() - start]
    if seconds[0] < LONG:
        seconds = clock.timed(call, device, job.get("budget", 2.0), least=3)
    return {"seconds": clock.summary(seconds), "memory": memory} | _work(job, model.config, mode, rows)


def _work(job, config, mode, rows):
    """Tokens, operations and unavoidable bytes of a call; ``figures``: bytes a decoding step must read.

    A step reads all weights but the embedding's table, and the cache up to its own token, which counts in the model's
    format for everybody (ours is float32 on CPUs).
    """
    shapes, dtype = parameter_shapes(config), job["dtype"]
    rest = sum(np.prod(shape) for name, shape in shapes.items() if len(shape) < 2 or "embedding" in name)
    table_rows = 0 if config.tie_embeddings else np.prod(shapes["token_embedding.weight"])
    weights = parameter_count(config)
    wide = 2 if dtype in ("int8", "int4") else BYTES[dtype]
    overhead = {"int8": 0.0, "int4": 8.0 / GROUP}.get(dtype, 0.0)  # a float32 scale and a zero each group
    read = (weights - rest) * (BYTES[dtype] + overhead) + (rest - table_rows) * wide
    if mode == "prefill":
        length = _prefill(job)
        forward, _ = work.model_flops(config, 1, length)
        return {"tokens": length, "flops": forward, "bytes": int(read)}
    tokens = job["shape"]["tokens"]
    cached = 2 * config.layers * config.key_value_heads * config.head_features * wide * rows
    step = read + cached * (PROMPT + tokens / 2)
    forward, _ = work.model_flops(config, rows, PROMPT + tokens)
    figures = {"step_bytes": int(step)}
    return {"tokens": rows * tokens, "flops": forward, "bytes": int(tokens * step), "figures": figures}


def _prefill(job):
    return min(PREFILL, job["shape"]["context"])


def _kind(job):
    return job["dtype"] if job["dtype"] in ("int8", "int4") else ""


def model_config(job):
    """The preset as peers can have it: the embedding is not scaled."""
    return candidates.model_config(job, embedding_scale=1.0)


def prompts(rows, length):
    """Random bytes: (rows, length)."""
    return np.random.default_rng(2).integers(0, 256, (rows, length))


def reference(job, config):
    """What the float64 NumPy reference says: logits of a prompt, and the greedy texts of both batches."""
    from numpy_ref.inference.generate import generate
    from numpy_ref.model.transformer import transformer

    params = {name: _double(value) for name, value in _quantised(job, _weights(job, config), "numpy").items()}
    found = {"logits": transformer(prompts(1, PROMPT), params, config)[0]}
    if not _kind(job):
        sample = SampleConfig(tokens=job["shape"]["tokens"], greedy=True)
        for rows in batches(job):
            found[f"tokens {rows}"] = np.stack(generate(params, config, list(prompts(rows, PROMPT)), sample))
    return found


def batches(job):
    """The numbers of rows that the job decodes."""
    return [rows for rows in BATCHES if f"decode {rows}" in job["modes"]]


def _weights(job, config):
    return candidates.initial_params(config, job.get("cache"))


def _double(value):
    return value.astype(np.float64) if isinstance(value, np.ndarray) else value


def _quantised(job, params, wing):
    """The parameters in codes, if the job's format is one of codes."""
    if not _kind(job):
        return params
    package = {"numpy": "numpy_ref", "torch": "torch_impl"}[wing]
    quantize_params = importlib.import_module(f"{package}.model.quantization").quantize_params
    return quantize_params(params, model_config(job), int(job["dtype"][3:]), GROUP)


class Ours:
    """Either wing."""

    def __init__(self, job):
        self.job, self.config, self.notes, self.decoders = job, model_config(job), {}, {}
        wing = job["implementation"]
        package = {"numpy": "numpy_ref", "torch": "torch_impl"}[wing]
        self.generate = importlib.import_module(f"{package}.inference.generate").generate
        self.cached = importlib.import_module(f"{package}.inference.cached").cached_transformer
        self.init_cache = importlib.import_module(f"{package}.model.kv_cache").init_cache
        self.transformer = importlib.import_module(f"{package}.model.transformer").transformer
        self.sample = SampleConfig(tokens=job["shape"]["tokens"], greedy=True)
        if wing == "numpy":
            self.params, self.place = _quantised(job, _weights(job, self.config), wing), np.asarray
            return
        import torch

        dtype = torch.bfloat16 if _kind(job) else getattr(torch, job["dtype"])
        self.place = lambda tokens: torch.from_numpy(tokens).to(job["device"])
        if parameter_count(self.config) > LARGE:
            params = _random(parameter_shapes(self.config), job["device"], dtype)
        else:
            params = {name: torch.from_numpy(value) for name, value in _weights(job, self.config).items()}
        params = _quantised(job, params, wing)
        self.params = {
            name: value.to(job["device"], dtype) if isinstance(value, torch.Tensor) else _placed(value, job["device"])
            for name, value in params.items()
        }
        self.dtype = torch.float32 if job["device"] == "cpu" else dtype  # of the cache, as ``generate`` chooses it

    def results(self):
        logits = self.transformer(self.place(prompts(1, PROMPT)), self.params, self.config)
        logits = logits[0] if isinstance(logits, tuple) else logits
        found = {"logits": sides.flatten(logits)["y"]}
        texts = {rows: [np.asarray(row) for row in self.text(rows)] for rows in batches(self.job)}
        return found | {f"tokens {rows}": np.stack(text) for rows, text in texts.items()}

    def text(self, rows):
        given = [self.place(row) for row in prompts(rows, PROMPT)]
        return self.generate(self.params, self.config, given, self.sample, **self._prepared(rows))

    def _prepared(self, rows):
        """The decoder of the PyTorch wing, whose weights are laid out once, when the model is."""
        if self.job["implementation"] == "numpy":
            return {}
        if rows not in self.decoders:
            from torch_impl.inference.decode import make_decoder

            self.decoders = {rows: make_decoder(self.params, self.config, rows)}
        return {"decoder": self.decoders[rows]}

    def prefill(self, tokens):
        if self.job["implementation"] == "numpy":
            cache = self.init_cache(self.config, 1, tokens.shape[1], np.float32)
        else:
            cache = self.init_cache(self.config, 1, tokens.shape[1], self.dtype, device=self.job["device"])
        return self.cached(self.place(tokens), self.params, self.config, cache, last=True)


def _random(shapes, device, dtype):
    """Weights of a model that is too large to draw twice: normal matrices, vectors of ones."""
    import torch

    return {
        name: torch.ones(shape, device=device, dtype=dtype)
        if len(shape) == 1
        else torch.empty(shape, device=device, dtype=dtype).normal_(std=0.02)
        for name, shape in shapes.items()
    }


def _placed(quantized, device):
    moved = {name: getattr(quantized, name).to(device) for name in ("codes", "scales")}
    return replace(quantized, **moved, zeros=None if quantized.zeros is None else quantized.zeros.to(device))


def sections(found, drawn):
    """A section a model, with a table a mode."""
    measured = select(found, kind="inference")
    for name in _models(measured):
        parts = [f"## Inference: {name}"]
        for mode in MODES:
            group = [row for row in measured if row["shape"]["preset"] == name and row["mode"] == mode]
            group.sort(key=lambda row: -row["tokens_per_second"])
            parts += [_heading(mode, group), _table(mode, group), _verdicts(group)]
        first = min(row["notes"]["parameters"] for row in measured if row["shape"]["preset"] == name)
        parts[0] += f"\n\n{first:,} parameters."
        if "inference.png" in drawn:
            parts.append("![inference](inference.png)")
        yield "\n\n".join(filter(None, parts))


def _heading(mode, group):
    if not group:
        return None
    if mode == "prefill":
        return f"Reading a prompt of {group[0]['tokens']} tokens into an empty cache, batch 1; prompt tokens a second."
    rows = int(mode.split()[1])
    tokens = group[0]["tokens"] // rows
    return (
        f"Greedy decoding, batch {rows}: {tokens} tokens after a prompt of {PROMPT}, which is read within the time. "
        "Shares are of what a copy (bytes read and written) and a sum (bytes read) of the largest buffer reached in "
        "the same run: models that fit a cache may pass them. On a CPU the PyTorch wing holds its weights twice, the "
        "second time laid out for decoding, which is done when the model is loaded."
    )


def _table(mode, group):
    lines = []
    for row in group:
        q = row["seconds"]
        low, high = row["tokens"] / q["high"], row["tokens"] / q["low"]
        line = (label(row), f"{row['tokens_per_second']:,.0f} [{low:,.0f}, {high:,.0f}]", memory(row))
        if mode == "prefill":
            line += (f"{row['flops'] / q['median'] / 1e9:,.0f}",)
        else:
            line += (size(row["figures"]["step_bytes"]), *_shares(row))
        lines.append(line)
    titles = ("who", "tokens/s", "memory")
    if mode == "prefill":
        return table((*titles, "GFLOP/s"), lines)
    return table((*titles, "bytes a step", "GB/s", "of copy", "of read"), lines)


def _shares(row):
    """Gigabytes a second that the steps read, and the share of what a copy and a sum reach in memory, by one run."""
    rate = row["bytes"] / row["seconds"]["median"]
    limits = [(row.get("limits") or {}).get(name) for name in ("copy", "read")]
    return (f"{rate / 1e9:.1f}", *(f"{rate / limit[max(limit)]:.0%}" if limit else "-" for limit in limits))


def _verdicts(group):
    """Best against best, and in each of the peers' formats."""

    def best(*who, **wanted):
        return next((row for row in select(group, **wanted) if row["implementation"] in who), None)

    peers = ("hf", "litgpt")
    lines = [compared("Best against the best peer", best("torch"), best(*peers))]
    for dtype in work.FLOATS:
        lines.append(compared(f"In {dtype}", best("torch", dtype=dtype), best(*peers, dtype=dtype)))
    lines.append(compared("NumPy against float32 Torch", best("numpy"), best("torch", dtype="float32")))
    return "\n".join(filter(None, lines))


def picture(measured):
    """A row a model, a column a mode."""
    from bench.pictures import figure_with_panels, speed_bars

    measured = [row for row in measured if row["kind"] == "inference"]
    names, cells = _models(measured), {}
    for row in sorted(measured, key=lambda row: row["tokens_per_second"]):
        cells.setdefault((row["shape"]["preset"], row["mode"]), []).append(row)
    if not names:
        return None
    tallest = [max(len(cells.get((name, mode), ())) for mode in MODES) for name in names]
    heights = [0.26 * count + 0.8 for count in tallest]
    figure, panels = figure_with_panels(
        13.5, sum(heights), nrows=len(names), ncols=len(MODES), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    words = {"prefill": "prompt tokens a second"}
    for line, name in zip(panels, names):
        for axes, mode in zip(line, MODES):
            if (name, mode) not in cells:
                axes.set_axis_off()
                continue
            speed_bars(axes, cells[name, mode])
            axes.set_title(f"{name}: {mode.replace('decode', 'decoding, batch')}", loc="left")
            axes.set_xlabel(words.get(mode, "new tokens a second") + " (line: quartiles)")
            axes.grid(axis="x")
            axes.tick_params(axis="y", length=0)
    return figure


def _models(measured):
    return [name for name in ("tiny", *MODELS, "llama-7b") if any(row["shape"]["preset"] == name for row in measured)]


PICTURES = {"inference.png": picture}
