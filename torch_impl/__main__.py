"""``python -m torch_impl``: the command line of the fast side."""

import torch

from numpy_ref import cli
from torch_impl.context.loop import train_senses
from torch_impl.concepts import autoencoder, baselines, initialise, normaliser, residual_quantiser, speak, step
from torch_impl.device import choose_device, choose_dtype, product_speed
from torch_impl.dpo.loop import train_dpo
from torch_impl.inference.attention_maps import attention_maps
from torch_impl.inference.generate import generate
from torch_impl.inference.speculative import speculative_generate
from torch_impl.model.quantization import quantize_params
from torch_impl.model.widen import widen_vocabulary
from torch_impl.sft.evaluate import conversation_losses
from torch_impl.sft.loop import fine_tune, model_weights
from torch_impl.sft.lora import merge
from torch_impl.reward.evaluation import accuracy_by, best_of_n, calibration, judge
from torch_impl.reward.loop import train_reward
from torch_impl.reward.model import ensemble
from torch_impl.grpo.loop import train_grpo
from torch_impl.ppo.loop import train_ppo
from torch_impl.hyperbolic.trainer import Trainer as GraphTrainer
from torch_impl.patching.trainer import Trainer
from torch_impl.thoughts.evaluate import by_width, searched
from torch_impl.thoughts.loop import train_units
from torch_impl.tokenizers import boundless, bpe, unigram, wordpiece
from torch_impl.tokenizers.byte import Decoder, encode
from torch_impl.training.checkpoint import load, save
from torch_impl.training.distributed import leave, several
from torch_impl.training.evaluate import evaluate
from torch_impl.training.loop import train
from torch_impl.training.optimizer import init_states

# The functions of concepts/ by name: what the commands ``concepts`` and ``story`` are made of.
CONCEPTS = {
    "encode_sentences": autoencoder.encode_sentences,
    "contrastive_accuracy": baselines.contrastive_accuracy,
    "fit_ridge": baselines.fit_ridge,
    "story_features": baselines.story_features,
    "initialise": initialise.initialise,
    "denormalise": normaliser.denormalise,
    "fit_normaliser": normaliser.fit_normaliser,
    "normalise": normaliser.normalise,
    "fit_codebooks": residual_quantiser.fit_codebooks,
    "decode_sentences": speak.decode_sentences,
    "next_concept": speak.next_concept,
    "autoencoder_loss_and_grads": step.autoencoder_loss_and_grads,
    "descend": step.descend,
    "loss_and_grads": step.loss_and_grads,
    "placed": step.placed,
    "init_states": init_states,
    "dtype": torch.float32,
}
WING = cli.Wing(
    name="torch_impl",
    train=train,
    processes=several,
    choose_device=choose_device,
    choose_dtype=choose_dtype,
    product_speed=product_speed,
    load=load,
    save=save,
    evaluate=evaluate,
    generate=generate,
    speculate=speculative_generate,
    attention_maps=attention_maps,
    quantize_params=quantize_params,
    encode=encode,
    decoder=Decoder,
    tokenizers={
        "bpe": bpe.BPE, "unigram": unigram.Unigram, "wordpiece": wordpiece.WordPiece, "boundless": boundless.BoundlessBPE,
    },
    train_tokenizer={
        "bpe": bpe.train, "unigram": unigram.train, "wordpiece": wordpiece.train, "boundless": boundless.train,
    },
    byte_trainer=Trainer,
    graph_trainer=GraphTrainer,
    fine_tune=fine_tune,
    model_weights=model_weights,
    conversation_losses=conversation_losses,
    merge=merge,
    widen_vocabulary=widen_vocabulary,
    train_reward=train_reward,
    train_ppo=train_ppo,
    train_grpo=train_grpo,
    train_dpo=train_dpo,
    judge_texts=judge,
    calibration=calibration,
    accuracy_by=accuracy_by,
    best_of_n=best_of_n,
    ensemble=ensemble,
    train_units=train_units,
    search_units=searched,
    search_widths=by_width,
    train_senses=train_senses,
    concepts=CONCEPTS,
    to_numpy=lambda value: value.detach().cpu().numpy(),
    from_numpy=torch.from_numpy,
)


def main(argv=None):
    """Run a command; returns the exit status."""
    return cli.main(WING, argv)


if __name__ == "__main__":
    leave(main)
