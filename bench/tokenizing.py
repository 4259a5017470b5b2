"""Tokenizers: training byte pair encoding and encoding with it, ours and the peers', on the same text and threads.

Parity first, as everywhere: merges learnt must be the same merges, ids the same ids. What is trained is compared with
our own fast side, whose equality with the reference the parity suite proves; of what is encoded the beginning is
compared with the NumPy reference as well. Every call begins with an empty cache.
"""

import json
import os
from pathlib import Path

import numpy as np

from bench import clock, gate, rows
from numpy_ref.data import corpus
from numpy_ref.errors import UserError
from numpy_ref.tokenizers import tokenizer_file
from numpy_ref.tokenizers.pretokenize import PATTERNS

KIND = "tokenizing"
PEERS = ("hf_tokenizers", "tiktoken")
NAMES = {"torch": "ours", "numpy": "ours, NumPy", "hf_tokenizers": "Hugging Face tokenizers", "tiktoken": "tiktoken"}
HEAD = 100_000  # characters that the reference encodes too


def groups(options, source="stdlib", vocab_size=32768 + 256):
    """The groups of jobs: training, encoding. tiktoken only encodes."""
    if options.quick or options.device != "cpu":
        return []
    shape = {"source": source, "vocab_size": vocab_size, "pattern": "gpt4"}
    who = {"bpe training": ("hf_tokenizers",), "bpe encoding": PEERS}
    return [[_job(name, "torch", shape), *(_job(name, peer, shape) for peer in who[name] if options.peers)] for name in who]


def _job(name, implementation, shape):
    found = {"kind": KIND, "name": name, "implementation": implementation, "dtype": "int64", "compiled": False}
    return found | {"allocator": "default", "shape": shape, "modes": ["all"], "device": "cpu"}


# -- in the worker ------------------------------------------------------------------------------------------------


def measure(job):
    """The answer to a job; see ``worker``."""
    threads = int(os.environ.get("OMP_NUM_THREADS", 1))
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # Hugging Face's threads
    texts = texts_of(job["shape"]["source"])
    train = job["name"] == "bpe training"
    call, results = {
        "torch": _ours, "numpy": _ours, "hf_tokenizers": _hugging_face, "tiktoken": _tiktoken,
    }[job["implementation"]](job, texts, threads, train)  # fmt: skip
    label = json.dumps([job["name"], job["shape"]])
    found = results(call())
    parity = gate.compare(found, gate.cached(job.get("cache"), label, lambda: _reference(job, texts, train)), "int64")
    size = sum(len(text.encode()) for text in texts)
    mode = {"seconds": clock.summary(clock.timed(call, "cpu", budget=0, least=1))}
    mode |= {} if train else {"tokens": found["ids"].size}
    return {"modes": {"all": mode}, "parity": parity, "notes": {"text_bytes": size, "threads": threads}}


def texts_of(source):
    """The documents of a corpus, without the few that are no UTF-8."""
    found = []
    for document in corpus.documents(source):
        try:
            found.append(document.text)
        except UserError:
            continue
    return found


def _reference(job, texts, train):
    from numpy_ref.tokenizers.bpe import BPE as Reference
    from torch_impl.tokenizers.bpe import BPE

    known = _vocabulary(job, texts)
    if train:
        return {"merges": np.array(known.merges, np.int64)}
    head = "".join(texts)[:HEAD]
    ids = [np.asarray(ids, np.int64) for ids in BPE(known).encode_all(texts, workers=1)]
    return {"ids": np.concatenate(ids), "head": Reference(known).encode(head).astype(np.int64)}


def _vocabulary(job, texts):
    """What our fast side learns in one process, kept for the other workers of a run."""
    from torch_impl.tokenizers.bpe import train

    shape = job["shape"]
    name = f"{shape['source']}-{shape['vocab_size']}".replace("/", "-")
    folder = Path(job["cache"]) / name if job.get("cache") else None
    if folder and folder.is_dir():
        return tokenizer_file.read(folder)
    known = train(texts, shape["vocab_size"], shape["pattern"], workers=1)
    if folder:
        tokenizer_file.write(known, folder)
    return known


def _ours(job, texts, threads, train):
    import importlib

    wing = {"torch": "torch_impl", "numpy": "numpy_ref"}[job["implementation"]]
    module = importlib.import_module(f"{wing}.tokenizers.bpe")
    workers = {"workers": threads} if job["implementation"] == "torch" else {}
    if train:
        shape = job["shape"]
        learn = lambda: module.train(texts, shape["vocab_size"], shape["pattern"], **workers)  # noqa: E731
        return learn, lambda known: {"merges": np.array(known.merges, np.int64)}
    known = _vocabulary(job, texts)
    head = np.asarray(module.BPE(known).encode("".join(texts)[:HEAD]), np.int64)
    return lambda: list(module.BPE(known).encode_all(texts, **workers)), lambda ids: _ids(ids, head)


def _hugging_face(job, texts, threads, train):
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    if not train:
        known = tokenizers.Tokenizer.from_str(tokenizer_file.to_json(_vocabulary(job, texts))[0].decode())
        head = np.array(known.encode("".join(texts)[:HEAD]).ids, np.int64)
        encode = getattr(known, "encode_batch_fast", known.encode_batch)  # without offsets, where there is one
        return lambda: encode(texts), lambda found: _ids([one.ids for one in found], head)
    cut = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[job["shape"]["pattern"]]), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def learn():
        trained = tokenizers.Tokenizer(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.Sequence([cut, byte_level])
        trainer = trainers.BpeTrainer(
            vocab_size=job["shape"]["vocab_size"], min_frequency=2, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        trained.train_from_iterator(texts, trainer)
        return trained

    def merges(trained):
        return {"merges": np.array(tokenizer_file.from_json(trained.to_str().encode()).merges, np.int64)}

    return learn, merges


def _tiktoken(job, texts, threads, train):
    import tiktoken

    known = _vocabulary(job, texts)
    theirs = tiktoken.Encoding(
        "ours", pat_str=PATTERNS[known.pattern], mergeable_ranks=dict(known.ids), special_tokens={}
    )
    head = np.array(theirs.encode_ordinary("".join(texts)[:HEAD]), np.int64)
    return lambda: theirs.encode_ordinary_batch(texts, num_threads=threads), lambda found: _ids(found, head)


def _ids(found, head):
    return {"ids": np.concatenate([np.asarray(ids, np.int64) for ids in found]), "head": head}


# -- in the report ------------------------------------------------------------------------------------------------


def sections(found, drawn):
    """Markdown of the rows: one table for training, one for encoding, with ratios to ours of the same run."""
    for name in ("bpe training", "bpe encoding"):
        measured = [row for row in found if row["kind"] == KIND and row["name"] == name and row["status"] == "ok"]
        ours = next((row for row in measured if row["implementation"] == "torch"), None)
        if not measured:
            continue
        lines = []
        for row in sorted(measured, key=lambda row: row["seconds"]["median"]):
            seconds, size = row["seconds"], row["notes"]["text_bytes"]
            same = ours and ours["run"] == row["run"]
            times = f"{seconds['median']:.1f} [{seconds['low']:.1f}, {seconds['high']:.1f}]"
            ratio = f"{rows.ratio(row, ours)[1]:.2f}" if same else ""
            lines.append((NAMES[row["implementation"]], times, f"{size / 1e6 / seconds['median']:.1f}", ratio))
        shape, notes = measured[0]["shape"], measured[0]["notes"]
        head = f"## Tokenizers: {name}\n\n{notes['text_bytes'] / 1e6:.1f} MB of text ({shape['source']}), "
        head += f"vocabulary of {shape['vocab_size']:,}, pattern of {shape['pattern']}, {notes['threads']} threads or processes."
        titles = [("who", "s", "MB/s", "times the time of ours"), ("---", *["---:"] * 3)]
        yield f"{head}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in [*titles, *lines])


PICTURES = {}
