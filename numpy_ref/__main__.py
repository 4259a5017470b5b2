"""``python -m numpy_ref``: the command line of the reference."""

import sys

import numpy as np

from numpy_ref import cli
from numpy_ref.context.loop import train_senses
from numpy_ref.concepts import autoencoder, baselines, initialise, normaliser, residual_quantiser, speak, step
from numpy_ref.device import choose_device, choose_dtype, product_speed
from numpy_ref.dpo.loop import train_dpo
from numpy_ref.inference.attention_maps import attention_maps
from numpy_ref.inference.generate import generate
from numpy_ref.inference.speculative import speculative_generate
from numpy_ref.model.quantization import quantize_params
from numpy_ref.model.widen import widen_vocabulary
from numpy_ref.processes import alone
from numpy_ref.sft.evaluate import conversation_losses
from numpy_ref.sft.loop import fine_tune, model_weights
from numpy_ref.sft.lora import merge
from numpy_ref.reward.evaluation import accuracy_by, best_of_n, calibration, judge
from numpy_ref.reward.loop import train_reward
from numpy_ref.reward.model import ensemble
from numpy_ref.grpo.loop import train_grpo
from numpy_ref.ppo.loop import train_ppo
from numpy_ref.hyperbolic.trainer import Trainer as GraphTrainer
from numpy_ref.patching.trainer import Trainer
from numpy_ref.thoughts.evaluate import by_width, searched
from numpy_ref.thoughts.loop import train_units
from numpy_ref.tokenizers import boundless, bpe, unigram, wordpiece
from numpy_ref.tokenizers.byte import Decoder, encode
from numpy_ref.training.checkpoint import load, save
from numpy_ref.training.evaluate import evaluate
from numpy_ref.training.loop import train
from numpy_ref.training.optimizer import init_states

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
    "dtype": np.float32,
}
WING = cli.Wing(
    name="numpy_ref",
    train=train,
    processes=alone,
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
    to_numpy=np.asarray,
    from_numpy=np.asarray,
)


def main(argv=None):
    """Run a command; returns the exit status."""
    return cli.main(WING, argv)


if __name__ == "__main__":
    sys.exit(main())
