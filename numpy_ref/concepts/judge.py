"""How well the models of the experiment continue held-out stories, and what needs no training to do so."""

import numpy as np

from numpy_ref.concepts.config import END
from numpy_ref.concepts.sentences import to_text
from numpy_ref.concepts.stories import HELD_OUT, numbers_of
from numpy_ref.rng import STREAM_STORIES, normal, uniform

DEFINITION = "the order of draws and judgements: the wings compute"

PENALTY = 1.0  # of ridge regression
RIDGE_STORIES = 4096
EXAMPLES = 4  # stories whose continuations are kept
MANY = 1024  # sentences: of more, contrastive accuracy compares those that came
STREAM_JUDGE = STREAM_STORIES + 13


def held_out(bench):
    """Ids of the held-out stories: (held_out, sentences)."""
    return bench.world.held_out(bench.settings.held_out)


def predicted(bench, kind, params, space):
    """Concepts after the held-out stories, as they came from the auto-encoder: (held_out, c) of the wing."""
    stories, config = bench.placed(space["concepts"][held_out(bench)[:, :-1]]), bench.settings.model(kind)
    draws = bench.placed(draws_for(config, bench.seed, STREAM_JUDGE, len(stories)))
    found = bench.call("next_concept", stories, params, config, draws, space["codebooks"])
    return bench.call("denormalise", found, space["normaliser"])


def draws_for(config, seed, stream, count):
    """The random numbers that ``next_concept`` takes for ``count`` stories; a kind with one answer does not look at them."""
    if config.kind == "diffusion":
        return normal(seed, stream, (count, *([config.samples] if config.eta else []), config.concept))
    return uniform(seed, stream, (count, config.codebooks))


def baselines(bench, space):
    """Predictions without a concept model, name -> (held_out, c)."""
    known, width = held_out(bench), bench.settings.concept
    many = bench.world.stories(HELD_OUT + len(known), RIDGE_STORIES)
    features, past = (bench.call("story_features", bench.placed(space["table"][ids[:, :-1]])) for ids in (known, many))
    weights = bench.call("fit_ridge", past, bench.placed(space["table"][many[:, -1]]), PENALTY)
    return {
        "the last sentence again": bench.numpy(features[:, :width]), "the mean of the story": bench.numpy(features[:, width : 2 * width]),
        "ridge regression": bench.numpy(features @ weights), "the sentence itself": space["table"][known[:, -1]],
    }  # fmt: skip


def judge(bench, space, name, prediction):
    """A row of results: how near the predictions are to what came, and what the decoder reads from them.

        stories       how many were judged
        l2            distance of prediction and right concept
        l2_read       distance of the right concept and that of the sentence which is read from the prediction
        readable      share of predictions that read as one of the sentences at all
        top1          as exactly the sentence that came
        valid, information      of a grammar alone, see `stories.py`
        contrastive   see ``contrastive_accuracy``
    """
    config, stories = bench.settings.model("autoencoder"), held_out(bench)
    right, rows = space["table"][stories[:, -1]], stories[:, -1]
    placed = bench.placed(np.ascontiguousarray(prediction))
    said = bench.call("decode_sentences", placed, space["params"], config)
    tokens = bench.numpy(said)
    lengths = bench.placed(spoken_lengths(tokens))
    again = bench.numpy(bench.call("encode_sentences", said[:, :-1], lengths, space["params"], config))
    numbers = numbers_of(tokens, bench.world.sentences)
    others = np.arange(len(space["table"])) if len(space["table"]) <= MANY else np.unique(rows)
    others = bench.placed((space["table"][others], np.searchsorted(others, rows)))
    contrast = bench.numpy(bench.call("contrastive_accuracy", placed, *others))
    measures = bench.world.judged(numbers, stories[:, :-1])
    return {
        "seed": bench.seed, "model": name, "stories": len(stories), "l2": float(np.linalg.norm(prediction - right, axis=1).mean()),
        "l2_read": float(np.linalg.norm(again - right, axis=1).mean()), "readable": float((numbers >= 0).mean()),
        "top1": float((numbers == rows).mean()), "contrastive": float(contrast.mean()), "said": to_text(tokens[:EXAMPLES]),
        "past": [" ".join(bench.world.sentences[i] for i in story[-3:-1]) for story in stories[:EXAMPLES]], **measures,
    }  # fmt: skip


def spoken_lengths(tokens):
    """Bytes of what ``decode_sentences`` gave, at least 1: of a sentence that ends at once its END is read."""
    return np.maximum(1, np.argmax(tokens == END, axis=1))
