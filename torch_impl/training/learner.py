"""The model and its loss as modules, which DDP and FSDP can wrap; the computation is that of ``block`` and ``loss_share``."""

import dataclasses
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from numpy_ref.config import is_router
from torch_impl.model.block import block
from torch_impl.model.transformer import Transformer, transformer
from torch_impl.training.step import loss_share

TORCH_ONLY_FILE = "the reference trains in one process"


class Layer(Transformer):
    """The parameters of a block, and ``block`` itself: what ``fully_shard`` gathers and lets go at a time.

    ``run_experts``: as in ``moe``, where the experts are on other processes too.
    """

    def __init__(self, config, params, layer, dtype, recompute, run_experts=None):
        super().__init__(config, params)
        self.layer, self.dtype, self.recompute, self.run_experts = layer, dtype, recompute, run_experts

    def forward(self, x, mask, keep, phases, documents, routing):
        weights = {
            name: param if is_router(name) else param.to(self.dtype) for name, param in self.named_parameters()
        }
        run = partial(block, run_experts=self.run_experts)
        if self.recompute and self.training:
            run = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
        return run(x, weights, self.config, mask, True, keep, self.layer, phases, documents, routing)


class Learner(Transformer):
    """The model and its loss as one module: what DDP and FSDP wrap. Parameters have the names of a ``state_dict``.

    ``outer``: the parameters outside of the blocks; ``layers``: the blocks. Weights are cast to ``dtype`` where they
    are used, so that gradients arrive in their own format.
    """

    def __init__(self, model_config, train_config, outer, layers, dtype):
        super().__init__(model_config, outer)
        self.outer, self.dtype = set(outer), dtype
        self.blocks = torch.nn.ModuleList(layers)
        self.settings = {True: train_config, False: dataclasses.replace(train_config, label_smoothing=0.0, z_loss=0.0)}

    def forward(self, inputs, targets, documents, keep, denominator, shares=None, routed=None):
        """The share of these rows in the loss (): the sum over their targets / denominator; plain when not training.
        And the record of their routing, as ``loss_share`` has it."""
        weights = {name: param.to(self.dtype) for name, param in self.named_parameters() if name in self.outer}
        settings = self.settings[self.training]
        return loss_share(
            inputs, targets, weights, self.config, settings, keep, documents, denominator, self._transformer, shares,
            routed,
        )  # fmt: skip

    def _transformer(self, tokens, weights, config, keep, documents, recompute, logits, routing=None):
        def run_block(x, _, config, mask, causal, keep, layer, phases, documents, routing):
            return self.blocks[layer](x, mask, keep, phases, documents, routing)

        return transformer(
            tokens, weights, config, None, keep, documents, logits=logits, routing=routing, run_block=run_block
        )
