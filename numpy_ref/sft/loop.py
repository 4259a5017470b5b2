"""Fine-tuning: conversations in the order of a curriculum, as rows of a batch, one step after another."""

import numpy as np

from numpy_ref import checkpoint_file
from numpy_ref.data.packing import conversation_batch, row_width
from numpy_ref.device import choose_device, choose_dtype
from numpy_ref.drive import drive
from numpy_ref.errors import UserError
from numpy_ref.model.widen import widen_vocabulary
from numpy_ref.sft import adapters
from numpy_ref.sft.curriculum import competence, conversations
from numpy_ref.sft.evaluate import conversation_losses
from numpy_ref.sft.lora import initial_adapters, merge
from numpy_ref.sft.order_file import OrderFile
from numpy_ref.training import checkpoint
from numpy_ref.training.optimizer import init_states
from numpy_ref.training.step import train_step

ROUNDED = 6  # decimals of a measured loss, so that both wings rank equal conversations alike


def fine_tune(
    model_config, train_config, sft_config, data, held_out, base, out, resume=False, stop_after=None, report=None,
    seconds=None, sample=None,
):  # fmt: skip
    """Fine-tune in the run folder ``out``; returns the Run.

    data, held_out: ``Conversations`` to learn from and to be judged by. base: name -> array, the model to begin with,
    whose vocabulary is widened to that of model_config; None where a run is resumed. A step is taken on ``batch``
    conversations. The other arguments and errors are those of ``training.loop.train``.
    """
    c = train_config
    run = _resumed(model_config, c, out) if resume else _begin(model_config, c, sft_config, base)
    checkpoint_file.describe(out, model_config, c, "cpu")

    def step():
        difficulty = _difficulty(run, sft_config, data, notes)
        share = _share(run.step, c, sft_config)
        chosen = conversations(
            sft_config.curriculum,
            run.position,
            c.batch,
            data.sources,
            difficulty,
            share,
            sft_config.mix_temperature,
            c.seed,
        )
        notes.taken(run.step + 1, chosen.tolist())
        inputs, targets, weights, documents = _rows(data, chosen, model_config, c, sft_config)
        metrics, run.params, run.states = train_step(
            run.params, run.states, inputs, targets, model_config, c, run.step, documents, weights, run.frozen
        )
        tokens = int(np.sum(data.lengths[chosen]))
        run.advance(c.batch, tokens)
        return metrics | {"filled": tokens / inputs.size, "ready": share}

    def judged():
        losses, share = conversation_losses(
            model_weights(run), model_config, held_out.ids, held_out.weights, held_out.borders, c.batch
        )
        return np.sum(losses) / np.sum(share)

    with OrderFile(out, run.step) as notes:
        return drive(run, out, step, judged, checkpoint.snapshot, stop_after, report, seconds, sample)


def model_weights(run):
    """The weights of a Run's model, adapters added: name -> array."""
    if run.frozen is None:
        return run.params
    weights, lora = run.frozen
    return merge(weights, run.params, run.model_config, lora)


def _begin(model_config, train_config, sft_config, base):
    """The Run before its first step."""
    if train_config.float8 and sft_config.lora_rank:
        raise UserError("float8 does not go with LoRA, whose weights are frozen; leave one of them out")
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), model_config)
    weights = {name: value.astype(dtype) for name, value in base.items()}
    weights = widen_vocabulary(weights, model_config.vocab_size, train_config.seed)
    lora, params, frozen = adapters.of(sft_config), weights, None
    if lora:
        params, frozen = initial_adapters(weights, model_config, lora, train_config.seed), (weights, lora)
    return checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config), frozen=frozen)


def _resumed(model_config, train_config, out):
    """The Run saved in ``out``, to go on under ``train_config``. Raises UserError where it can't."""
    dtype = choose_dtype(train_config.dtype, choose_device(train_config.device), model_config)
    run = checkpoint.load(out, dtype.name, merged=False)
    checkpoint_file.check_resumable(run, model_config, train_config, out)
    run.train_config = train_config
    return run


def _share(step, c, sft_config):
    """The share of the conversations that the run is ready for."""
    if sft_config.curriculum not in ("competence", "self-paced"):
        return 1.0
    root = 2.0 if sft_config.curriculum == "competence" else 1.0
    return competence(step, max(1, round(sft_config.curriculum_share * c.steps)), sft_config.curriculum_start, root)


def _difficulty(run, sft_config, data, notes):
    """How hard each conversation is: as the data say, or as the model found it at the last measurement."""
    if sft_config.curriculum != "self-paced":
        return data.difficulty

    def measure():
        losses, share = conversation_losses(
            model_weights(run), run.model_config, data.ids, data.weights, data.borders, run.train_config.batch
        )
        return np.round(losses / share, ROUNDED).tolist()

    return np.array(notes.difficulty(run.step - run.step % sft_config.measure_every, measure))


def _rows(data, chosen, model_config, c, sft_config):
    """Inputs, targets, weights and documents of the chosen conversations."""
    lengths = data.lengths[chosen]
    width = row_width(lengths, model_config.context, model_config.width) if sft_config.pack else int(lengths.max())
    return conversation_batch(
        data.ids, data.weights, data.borders, chosen, width, sft_config.pack, multiple=c.accumulate
    )
