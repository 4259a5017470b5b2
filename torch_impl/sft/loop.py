"""The loop of fine-tuning. What comes next is worked out on the host while the device is busy with the step before."""

import torch

from numpy_ref import checkpoint_file
from numpy_ref.drive import drive
from numpy_ref.errors import UserError
from numpy_ref.processes import ALONE
from numpy_ref.sft import adapters
from numpy_ref.sft.order_file import OrderFile
from torch_impl.data.packing import conversation_batch, row_width
from torch_impl.device import choose_device
from torch_impl.model.widen import widen_vocabulary
from torch_impl.sft.curriculum import competence, conversations
from torch_impl.sft.evaluate import conversation_losses
from torch_impl.sft.lora import initial_adapters, merge
from torch_impl.training import checkpoint, distributed
from torch_impl.training.optimizer import init_states
from torch_impl.training.step import train_step

ROUNDED = 6


def fine_tune(
    model_config, train_config, sft_config, data, held_out, base, out, resume=False, stop_after=None, report=None,
    seconds=None, sample=None,
):  # fmt: skip
    """Fine-tune ``base``, a dict of parameters, on ``Conversations`` in the run folder ``out``; returns the Run.

    ``base`` gets rows for the tokens that model_config has on top (None when resuming); it is not changed. A batch counts
    conversations. ``held_out`` conversations judge it. The rest as for ``training.loop.train``.
    """
    c, device = train_config, choose_device(train_config.device)
    if distributed.current() is not ALONE:
        raise UserError("fine-tuning runs in one process; start it without torchrun")
    run = _resumed(model_config, c, out, device) if resume else _begin(model_config, c, sft_config, base, device)
    checkpoint_file.describe(out, model_config, c, str(device))
    wide = _master(c)

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
        lengths = torch.as_tensor(data.lengths)[chosen]
        width = row_width(lengths, model_config.context, model_config.width) if sft_config.pack else int(lengths.max())
        inputs, targets, weights, documents = conversation_batch(
            data.ids, data.weights, data.borders, chosen, width, sft_config.pack, multiple=c.accumulate
        )
        metrics, run.params, run.states = train_step(
            run.params, run.states, inputs.to(device), targets.to(device), model_config, c, run.step,
            None if documents is None else documents.to(device), weights=weights.to(wide).to(device), frozen=run.frozen,
        )  # fmt: skip
        tokens = int(lengths.sum())
        run.advance(c.batch, tokens)
        return metrics | {"filled": tokens / inputs.numel(), "ready": share}

    def judged():
        losses, share = conversation_losses(
            model_weights(run), model_config, held_out.ids, held_out.weights, held_out.borders, c.batch
        )
        return float(losses.sum() / share.sum())

    with OrderFile(out, run.step) as notes:
        return drive(run, out, step, judged, checkpoint.snapshot, stop_after, report, seconds, sample)


def model_weights(run):
    """The parameters of a Run's model as ``transformer`` takes them, adapters merged."""
    return merge(run.frozen[0], run.params, run.model_config, run.frozen[1]) if run.frozen else run.params


def _begin(model_config, train_config, sft_config, base, device):
    """The Run before its first step."""
    if train_config.float8 and sft_config.lora_rank:
        raise UserError("float8 trains whole matrices, LoRA none; leave one of them out")
    wide = _master(train_config)
    params = {name: value.to(device, wide, copy=True) for name, value in base.items()}
    params, lora, frozen = (
        widen_vocabulary(params, model_config.vocab_size, train_config.seed),
        adapters.of(sft_config),
        None,
    )
    if lora:
        frozen = params, lora
        params = initial_adapters(params, model_config, lora, train_config.seed)
    return checkpoint_file.Run(model_config, train_config, params, init_states(params, train_config), frozen=frozen)


def _resumed(model_config, train_config, out, device):
    """The Run saved in ``out``, to go on under ``train_config``. Raises UserError where it can't."""
    run = checkpoint.load(out, str(_master(train_config)).removeprefix("torch."), device, merged=False)
    checkpoint_file.check_resumable(run, model_config, train_config, out)
    run.train_config = train_config
    return run


def _master(train_config):
    """The number format of the weights: 16-bit formats only compute."""
    return torch.float64 if train_config.dtype == "float64" else torch.float32


def _share(step, c, sft_config):
    """How much of the data the curriculum lets in; all of it where it only orders."""
    roots = {"competence": 2.0, "self-paced": 1.0}
    if sft_config.curriculum not in roots:
        return 1.0
    steps = max(1, round(sft_config.curriculum_share * c.steps))
    return competence(step, steps, sft_config.curriculum_start, roots[sft_config.curriculum])


def _difficulty(run, sft_config, data, notes):
    """The data's own measure, or the loss of each conversation at the last step that is a multiple of measure_every."""
    if sft_config.curriculum != "self-paced":
        return data.difficulty

    def measure():
        config, size = run.model_config, run.train_config.batch
        losses, share = conversation_losses(model_weights(run), config, data.ids, data.weights, data.borders, size)
        return [round(loss, ROUNDED) for loss in (losses / share).tolist()]

    return torch.tensor(notes.difficulty(run.step - run.step % sft_config.measure_every, measure), dtype=torch.float64)
