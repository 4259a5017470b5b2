"""``python -m lessons draw NAME ... --out FILE.png``: the pictures from the command line."""

import sys
from pathlib import Path

import numpy as np

from numpy_ref.config import ROPE_SCALINGS
from numpy_ref.errors import UserError
from numpy_ref.presets import PRESETS, preset


def add(chooser):
    """Add one subcommand for each picture to argparse's ``chooser``."""

    def picture(name, help, draw):
        parser = chooser.add_parser(name, help=help, description=help)
        parser.set_defaults(run=saved(draw))
        parser.add_argument("--out", required=True, metavar="FILE.png", help="picture")
        return parser

    def model(parser, prompt=None):
        parser.add_argument("--checkpoint", required=True, metavar="DIR", help="run folder or .npz file")
        if prompt:
            parser.add_argument("--prompt", default=prompt, metavar="TEXT", help=f"text to look at ({prompt})")

    attention = picture("attention", "where each head of a model looks on a text", _attention)
    model(attention, "the keeper of the light")
    attention.add_argument("--layer", type=int, default=None, metavar="N", help="one layer, from 0 (all)")
    attention.add_argument("--head", type=int, default=None, metavar="N", help="one head, from 0 (all)")

    rope = picture("rope", "RoPE as rotations, and scores over the distance", _rope)
    rope.add_argument("--width", type=int, default=8, metavar="N", help="features of a head (8)")
    rope.add_argument("--base", type=float, default=10000.0, metavar="X", help="base of the frequencies (10000)")
    rope.add_argument("--scaling", choices=ROPE_SCALINGS, default="none", help="how angles shrink for longer texts (none)")
    rope.add_argument("--factor", type=float, default=4.0, metavar="X", help="how many times longer (4)")
    rope.add_argument("--original-context", type=int, default=2048, metavar="N", help="context before the scaling (2048)")

    sampling = picture("sampling", "temperature and the cut of top-p, on what a model says next", _sampling)
    model(sampling, "The ")
    sampling.add_argument("--temperature", type=float, action="append", default=None, metavar="X", help="may be repeated (0.5, 1, 2)")
    sampling.add_argument("--top-p", type=float, default=0.9, metavar="X", help="mass that stays (0.9)")

    loss = picture("loss", "a slice through the loss around a model's weights", _loss)
    model(loss)
    loss.add_argument("--data", required=True, metavar="FILE", help="a text; its first bytes are the batch")
    loss.add_argument("--span", type=float, default=1.0, metavar="X", help="how far, in lengths of the weights (1)")
    loss.add_argument("--steps", type=int, default=15, metavar="N", help="points a side (15)")

    curves = picture("curves", "the training curves of any number of runs", _curves)
    curves.add_argument("runs", nargs="+", metavar="RUN", help="run folders")

    router = picture("router", "how busy each expert was in runs of mixtures of experts", _router)
    router.add_argument("runs", nargs="+", metavar="RUN", help="run folders")

    ppo = picture("ppo", "PPO's surrogate and its clip", _ppo)
    ppo.add_argument("--clip-low", type=float, default=0.2, metavar="X", help="ratios below 1 - X win nothing more (0.2)")
    ppo.add_argument("--clip-high", type=float, default=0.2, metavar="X", help="ratios above 1 + X win nothing more (0.2)")

    grpo = picture("grpo", "what groups of rewards teach", _grpo)
    grpo.add_argument("group", nargs="+", metavar="REWARDS", help='rewards of one group, as "0 0 1 0.5"; groups are equally large')
    grpo.add_argument("--baseline", action="append", choices=("deviation", "mean", "rloo"), default=None, help="may be repeated (deviation, mean)")

    disk = picture("poincare", "a tree in the Poincare disk, or points of your own", _poincare)
    disk.add_argument("--children", type=int, default=3, metavar="N", help="of a node (3)")
    disk.add_argument("--levels", type=int, default=4, metavar="N", help="below the root (4)")
    disk.add_argument("--points", default=None, metavar="FILE.npz", help="draw these instead: an array called points, (N, 2)")

    tokens = picture("tokens", "where tokenizers cut a text", _tokens)
    tokens.add_argument("--text", required=True, metavar="TEXT", help="text to cut")
    tokens.add_argument("--tokenizer", action="append", default=[], metavar="DIR", help="what `tokenizer train` wrote; may be repeated")

    size = picture("model", "parameters and training memory of models", _model)
    size.add_argument("presets", nargs="+", choices=PRESETS, metavar="PRESET", help="one of " + ", ".join(PRESETS))


def saved(draw):
    """A command that draws and says where the picture is."""

    def run(options):
        target = Path(options.out)
        if target.suffix != ".png":
            raise UserError(f"--out {options.out} is no picture; give a name that ends in .png")
        target.parent.mkdir(parents=True, exist_ok=True)
        draw(options).save(target)
        print(f"wrote {target}", file=sys.stderr)

    return run


def _loaded(options):
    """(params, config, codec) of the checkpoint; the codec turns text into ids and ids into bytes."""
    from numpy_ref.__main__ import WING
    from numpy_ref.tokenizer_commands import speaking

    wing = speaking(WING, options.checkpoint)
    run = wing.load(options.checkpoint)
    return run.params, run.model_config, wing


def _labels(wing, ids):
    """A short text for each id."""
    texts = []
    for token in ids:
        decoder = wing.decoder()
        texts.append(decoder.push(token) + decoder.finish())
    return texts


def _attention(options):
    from lessons.draw.attention import attention

    params, config, wing = _loaded(options)
    ids = np.asarray(wing.encode(options.prompt)).astype(np.int64)
    if not 1 <= len(ids) <= config.context:
        raise UserError(f"the prompt has {len(ids)} tokens; give 1 to {config.context}, the model's context")
    for name, limit in (("layer", config.layers), ("head", config.heads)):
        value = getattr(options, name)
        if value is not None and not 0 <= value < limit:
            raise UserError(f"--{name} {value} is not there; the model has {limit}, counted from 0")
    return attention(ids, _labels(wing, ids), params, config, options.layer, options.head)


def _rope(options):
    from lessons.draw.rope import rope

    if options.width < 4 or options.width % 2:
        raise UserError(f"--width {options.width} is not allowed; features turn in pairs: give an even number of at least 4")
    if not options.base > 1 or not options.factor >= 1 or options.original_context < 1:
        raise UserError("--base must be above 1, --factor and --original-context at least 1")
    return rope(options.width, options.base, 9, options.scaling, options.factor, options.original_context)


def _sampling(options):
    from lessons.draw.sampling import sampling
    from numpy_ref.model.transformer import transformer

    params, config, wing = _loaded(options)
    ids = np.asarray(wing.encode(options.prompt)).astype(np.int64)[-config.context :]
    temperatures = options.temperature or (0.5, 1.0, 2.0)
    if not ids.size or min(temperatures) <= 0 or not 0 < options.top_p <= 1:
        raise UserError("give a prompt of at least one token, temperatures above 0, and --top-p above 0 and at most 1")
    logits = transformer(ids[None], params, config)[0][0, -1]
    signs = {" ": "·", "\n": "↵", "\t": "⇥"}
    labels = ["".join(signs.get(c, c) for c in label) for label in _labels(wing, range(config.vocab_size))]
    return sampling(logits, labels, temperatures, options.top_p)


def _loss(options):
    from lessons.draw.loss_surface import loss_surface
    from numpy_ref.model.transformer import transformer
    from numpy_ref.training.losses import cross_entropy

    params, config, wing = _loaded(options)
    if options.steps < 3 or not options.span > 0:
        raise UserError(f"--steps {options.steps} --span {options.span} is no slice; give at least 3 steps and a span above 0")
    text = Path(options.data).read_text(encoding="utf-8", errors="replace")[: 64 * config.context]
    ids = np.asarray(wing.encode(text)).astype(np.int64)
    rows = min(8, (len(ids) - 1) // config.context)
    if rows < 1:
        raise UserError(f"{options.data} has {len(ids)} tokens; more than {config.context}, the model's context, are needed")
    inputs, targets = (ids[shift : shift + rows * config.context].reshape(rows, -1) for shift in (0, 1))
    return loss_surface(lambda p: cross_entropy(transformer(inputs, p, config)[0], targets)[0], params, options.span, options.steps)


def _curves(options):
    from lessons.draw.curves import runs

    return runs(options.runs)


def _router(options):
    from lessons.draw.router import router
    from numpy_ref import log

    return router({str(folder): log.read_rows(Path(folder) / log.NAME) for folder in options.runs})


def _ppo(options):
    from lessons.draw.ppo import ppo

    if not 0 < options.clip_low <= 1 or not options.clip_high > 0:
        raise UserError("--clip-low must be above 0 and at most 1, --clip-high above 0")
    return ppo(options.clip_low, options.clip_high)


def _grpo(options):
    from lessons.draw.grpo import grpo

    try:
        groups = [[float(reward) for reward in group.replace(",", " ").split()] for group in options.group]
    except ValueError:
        raise UserError(f'rewards are numbers, got {options.group}; give each group as "0 0 1 0.5"') from None
    if len({len(group) for group in groups}) != 1 or len(groups[0]) < 2:
        raise UserError("groups must be equally large, with at least two rewards each")
    return grpo(np.array(groups), options.baseline or ("deviation", "mean"))


def _poincare(options):
    from lessons.draw.poincare import branching, poincare

    if options.points is None:
        if options.children < 1 or options.levels < 1 or options.children**options.levels > 5000:
            raise UserError("give at least 1 child and 1 level, and no more than 5,000 leaves")
        return poincare(*branching(options.children, options.levels), title=f"A tree with {options.children} children a node, all edges equally long")
    try:
        points = np.load(options.points)["points"]
    except (OSError, ValueError, KeyError, IndexError):
        raise UserError(f"{options.points} holds no points; give an .npz file with an array called points") from None
    if points.ndim != 2 or points.shape[1] != 2 or not np.all(np.sum(points**2, axis=1) < 1):
        raise UserError(f"points of shape {points.shape} are none of the disk; give (N, 2) with lengths below 1")
    return poincare(points, title="Points of the Poincare disk")


def _tokens(options):
    from lessons.draw.tokens import tokens
    from numpy_ref.tokenizers.tokenizer_file import read
    from numpy_ref.tokenizers.bpe import BPE

    cuts = {"bytes": [bytes([byte]) for byte in options.text.encode("utf-8", "replace")]}
    for folder in options.tokenizer:
        codec = BPE(read(folder))
        cuts[f"{folder}, {len(codec.vocabulary)} tokens"] = [codec.vocabulary.tokens[i] for i in codec.encode(options.text)]
    return tokens(options.text, cuts)


def _model(options):
    from lessons.draw.model_size import model_size

    return model_size({name: preset(name) for name in options.presets})
