"""One training step on several processes: each computes a part of the batch, by DDP or by FSDP2 (``fully_shard``).

    ddp       every process holds the whole model; gradients are summed while the backward pass runs
    fsdp      every process holds a share of the rows of every parameter, its gradient and its optimiser state; each
              block is gathered when it computes and let go again (arXiv:2304.11277)
    experts   as ddp, but every process holds some of the experts alone, and tokens travel to them; what it computes is
              their gradient from the tokens of all processes, and is summed with nobody's (``parallel_experts``)

What is summed over the processes is never a mean of means: the loss of each token is divided by the number of targets
that count in the whole batch. So the step is that of a single process with this batch, but for the order of sums.
"""

import contextlib
import dataclasses
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from numpy_ref.config import parameter_shapes
from numpy_ref.errors import UserError
from torch_impl.data.batches import evaluation_windows
from torch_impl.model.expert_parallel import check_shares, parallel_experts
from torch_impl.model.transformer import dropout_masks
from torch_impl.training import clipping, muon
from torch_impl.training.learner import Layer, Learner
from torch_impl.training.routing import routing_settings
from torch_impl.training.step import loss_denominator, routed_tokens

TORCH_ONLY_FILE = "the reference trains in one process"


class Parallel:
    """A model on several processes: ``sharded`` by FSDP2, or by DDP, which may leave the experts ``spread``.

    ``whole(names)`` gives name -> parameter, whole, on the device: of one block at a time, so that no process has to
    hold more than its share and a block. ``params`` are this process's shares, name -> (rows, ...): they are what the
    optimiser moves, in place, and the tensors inside of the module.
    """

    def __init__(self, processes, model_config, train_config, whole, device, dtype):
        check(processes, model_config, train_config, device)
        self.processes, self.config, self.train_config, self.device = processes, model_config, train_config, device
        self.sharded, self.spread = train_config.parallel == "fsdp", train_config.parallel == "experts"
        self.shapes = parameter_shapes(model_config)
        self.mesh = init_device_mesh(device.type, (processes.world,))
        # Tokens travel in a group of their own: gradients are on their way at the same time, in an order of theirs.
        run_experts = partial(parallel_experts, group=dist.new_group()) if self.spread else None
        layers = []
        for number in range(model_config.layers):
            prefix = f"blocks.{number}."
            params = whole([name for name in self.shapes if name.startswith(prefix)])
            params = {name.removeprefix(prefix): self.share(name, value) if self.spread else value for name, value in params.items()}
            layer = Layer(model_config, params, number, dtype, train_config.recompute, run_experts)
            # Routers are never rounded: a block that has one is gathered as it is, and casts the rest by itself.
            layers.append(self._shard(layer, None if number in model_config.moe_layers else dtype))
        outer = whole([name for name in self.shapes if not name.startswith("blocks.")])
        learner = self._shard(Learner(model_config, train_config, outer, layers, dtype), dtype)
        if self.sharded:
            self.module = learner
        else:
            alone = [name for name in self.shapes if self.in_shares(name)]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(learner, alone)
            self.module = DistributedDataParallel(learner, gradient_as_bucket_view=True)
            self.module.register_comm_hook(None, _summed)
        named = dict(learner.named_parameters())
        self.parameters = {name: named[name] for name in self.shapes}
        self.params = {name: _own(param) for name, param in self.parameters.items()}

    def in_shares(self, name):
        """Whether every process holds some rows of the parameter of that name, and not all."""
        return self.sharded or self.spread and ".experts." in name

    def _shard(self, module, dtype):
        """The module sharded by rows: gathered in the format that computes, gradients summed in the weights'."""
        if self.sharded:
            wide = next(module.parameters()).dtype
            policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=wide, cast_forward_inputs=False)
            fully_shard(module, mesh=self.mesh, mp_policy=policy)
            module.set_gradient_divide_factor(1.0)  # FSDP would take the mean over the processes
            module.set_force_sum_reduction_for_comms(True)
        return module

    def loss_and_grads(self, inputs, targets, step, documents=None, scale=1.0, weights=None, record=None):
        """``step.loss_and_grads`` of the whole batch; inputs and targets (B / world, T) are this process's rows.

        The loss () is that of the whole batch, on every process; the gradients are name -> that of its share.
        ``record`` takes up the sums of all processes' routing. The processes talk once for all micro-batches
        (``accumulate``): after the last.
        """
        c = self.train_config
        denominator = loss_denominator(targets, weights, self.processes.sum)
        size, total, sums = len(inputs) // c.accumulate, torch.zeros((), device=inputs.device), {}
        tokens = self.processes.sum(torch.as_tensor(routed_tokens(inputs, documents), device=inputs.device))
        for first in range(0, len(inputs), size):
            rows, place = slice(first, first + size), self.processes.rank * len(inputs) + first
            keep = dropout_masks(self.config, size, inputs.shape[1], c.seed, step, place, inputs.device)
            own, shares = (None if tensor is None else tensor[rows] for tensor in (documents, weights))
            routing = routing_settings(self.config, c, size, inputs.shape[1], step, place, inputs.device)
            routed = routing and (routing, tokens)
            with self._talking(first + size == len(inputs)):
                loss, part = self.module(inputs[rows], targets[rows], own, keep, denominator, shares, routed)
                (loss * scale if scale != 1 else loss).backward()
            total = total + loss.detach()
            sums = {name: sums.get(name, 0) + value for name, value in part.items()}
        if record is not None:
            record.update({name: self.processes.sum(value) for name, value in sums.items()})
        grads = {
            name: torch.zeros_like(self.params[name]) if param.grad is None else _own(param.grad)
            for name, param in self.parameters.items()
        }
        for param in self.parameters.values():
            param.grad = None
        if scale != 1:
            torch._foreach_div_(list(grads.values()), scale)
        return self.processes.sum(total), grads

    @contextlib.contextmanager
    def _talking(self, last):
        """Gradients are summed over the processes within the last micro-batch only."""
        if self.sharded:
            self.module.set_requires_gradient_sync(last)
            yield
        else:
            with contextlib.nullcontext() if last else self.module.no_sync():
                yield

    def global_norm(self, grads):
        """The norm () of all gradients: of those that all processes have, and of each one's shares."""
        shares = {name: grad for name, grad in grads.items() if self.in_shares(name)}
        if not shares:
            return clipping.global_norm(grads)
        norm = clipping.global_norm(shares)
        norms = norm.new_zeros(self.processes.world)
        norms[self.processes.rank] = norm
        parts = {"shares": self.processes.sum(norms)}
        return clipping.global_norm(parts | {name: grad for name, grad in grads.items() if name not in shares})

    def orthogonal(self, updates, params, dtype=None):
        """``muon.orthogonalise_``. Under FSDP each matrix goes whole to the one process that owns it, which makes it
        orthogonal, and comes back in shares: one all-to-all each way, and no matrix is computed twice.
        """
        if not self.sharded:
            return muon.orthogonalise_(updates, params, dtype)
        owned, like = self._owned(updates), next(iter(updates.values())).new_empty(0)
        own = owned[self.processes.rank]
        whole = self._exchanged(
            [[updates[name] for name in names] for names in owned],
            [[self._shape(name, rank) for name in own] for rank in range(self.processes.world)],
            like,
        )
        matrices = {name: torch.cat(shares) for name, shares in zip(own, zip(*whole))}
        if matrices:
            muon.orthogonalise_(matrices, params, dtype)
        back = [[matrices[name].tensor_split(self._borders(name))[rank] for name in own] for rank in range(len(owned))]
        shares = self._exchanged(back, [[updates[name].shape for name in names] for names in owned], like)
        for names, parts in zip(owned, shares):
            for name, part in zip(names, parts):
                updates[name].copy_(part)

    def _owned(self, updates):
        """Which process makes which matrices orthogonal: those of one shape go round, so all do as much."""
        names = sorted(updates, key=lambda name: self.shapes[name])
        return [names[rank :: self.processes.world] for rank in range(self.processes.world)]

    def _exchanged(self, sent, shapes, like):
        """What each process sent to this one: sent[r] goes to process r, and from it come tensors of shapes[r]."""
        packed = [torch.cat([like, *(tensor.reshape(-1) for tensor in part)]) for part in sent]
        lengths = [sum(shape.numel() for shape in part) for part in shapes]
        received = like.new_empty(sum(lengths))
        dist.all_to_all_single(received, torch.cat(packed), lengths, [len(part) for part in packed])
        parts = [part.split([s.numel() for s in own]) for part, own in zip(received.split(lengths), shapes)]
        return [[x.view(shape) for x, shape in zip(part, own)] for part, own in zip(parts, shapes)]

    def _borders(self, name):
        """Where the rows of the second, third ... process begin: as in ``torch.chunk``, by which FSDP shards."""
        rows, world = self.shapes[name][0], self.processes.world
        return [min(rows, rank * -(-rows // world)) for rank in range(1, world)]

    def _shape(self, name, rank):
        """The shape of a process's share of a parameter."""
        borders = [0, *self._borders(name), self.shapes[name][0]]
        return torch.Size([borders[rank + 1] - borders[rank], *self.shapes[name][1:]])

    def share(self, name, whole):
        """This process's share of a whole tensor (of the parameter of that name, or of its state), on the device."""
        own = whole.tensor_split(self._borders(name))[self.processes.rank] if self.in_shares(name) else whole
        return own.to(self.device, copy=True)

    def joined(self, name, share):
        """A tensor that the processes hold in shares (a parameter, or its state) as one DTensor."""
        if not self.in_shares(name):
            return share
        shape = torch.Size(self.shapes[name])
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(share, self.mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)

    @torch.no_grad()
    def on_first(self, call, run):
        """``call(run)`` on the first process, with whole parameters: its device has to hold them."""
        params = {}
        for name, share in run.params.items():
            value = self.joined(name, share)
            value = value.full_tensor() if isinstance(value, DTensor) else value
            if self.processes.rank == 0:
                params[name] = value
        if self.processes.rank == 0:
            call(dataclasses.replace(run, params=params))
        self.processes.agree(0)  # who goes on would otherwise wait in the middle of a step, against a shorter clock

    @torch.no_grad()
    def held_out(self, tokens, batch_size, context, limit=None):
        """The mean loss on a token sequence, as ``evaluate`` has it; its batches go round the processes.

        Where parameters are in shares all have to compute equally often: who has no batch left takes the last again, and
        does not count it.
        """
        batches, world = list(evaluation_windows(tokens, context, batch_size, limit)), self.processes.world
        one, total = torch.ones((), device=self.device), 0.0
        self.module.eval()
        for number in range(self.processes.rank, -(-len(batches) // world) * world, world):
            inputs, targets = (x.to(self.device) for x in batches[min(number, len(batches) - 1)])
            loss = self.module(inputs, targets, None, None, one)[0].item()
            total += loss if number < len(batches) else 0.0
        self.module.train()
        if self.sharded:
            self.module.reshard()
        return float(self.processes.sum(torch.tensor(total, dtype=torch.float64))) / sum(y.numel() for _, y in batches)


def check(processes, model_config, train_config, device):
    """Raise UserError where these processes can't share such a batch on such a device."""
    batch, accumulate, world = train_config.batch, train_config.accumulate, processes.world
    if batch % (world * accumulate):
        parts = f"{world} processes" + (f" with accumulate={accumulate}" if accumulate > 1 else "")
        raise UserError(f"batch={batch} can't be shared by {parts}; take a multiple of {world * accumulate}")
    if train_config.parallel == "experts":
        if not model_config.experts:
            raise UserError("--parallel experts spreads experts, and this model has none; take --parallel ddp or fsdp")
        check_shares(model_config.experts, world)
    if train_config.float8:
        raise UserError("float8 trains in one process only; leave --float8 out, or start without torchrun")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"several processes can't train on {device.type}; take --device cpu or cuda")


def _own(tensor):
    """What of a parameter or gradient is on this process, in the memory where the module has it."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _summed(_, bucket):
    """DDP's hook that sums the gradients of a bucket, where its own would take the mean."""
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])
