"""What each process of test_expert_parallel.py runs: experts on several processes against all of them on one.

    RANK=0 WORLD_SIZE=2 ... python -m parity_tests.expert_processes
"""

import sys
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist

from parity_tests.components.moe import expert_parameters
from torch_impl.model import expert_parallel
from torch_impl.model.moe import experts
from torch_impl.training import distributed

# tokens of each process, which experts they like, share of empty slots, format
CASES = [
    ((9, 9), 0.0, 0.0, torch.float64),
    ((5, 12), 0.0, 0.3, torch.float64),
    ((0, 7), 0.0, 0.0, torch.float64),  # a process without tokens
    ((6, 3), 9.0, 0.0, torch.float64),  # all tokens to one expert, and a process without work
    ((4, 4), 0.0, 1.0, torch.float64),  # no slot filled anywhere
    ((16, 16), 0.0, 0.1, torch.float32),
]


def arrays(number, sizes, favour, empty, dtype):
    """The whole problem, the same on every process: x, indices, weights, dy for each of them, and all experts."""
    rng = np.random.default_rng(number)
    params = expert_parameters(rng, 4, 8, 12, "swiglu")
    parts = []
    for size in sizes:
        scores = rng.random((size, 4))
        scores[:, 3] += favour
        indices = np.argsort(-scores, axis=-1)[:, : 1 if favour else 2]
        indices[rng.random(indices.shape) < empty] = -1
        x, dy = rng.standard_normal((2, size, 8))
        parts.append([torch.from_numpy(a) for a in (x, indices, rng.random(indices.shape), dy)])
    params = {name: torch.from_numpy(value).to(dtype) for name, value in params.items()}
    return [[a.to(dtype) if a.is_floating_point() else a for a in part] for part in parts], params


def gradients(function, x, indices, weights, dy, params):
    leaves = [x.clone().requires_grad_(), weights.clone().requires_grad_()]
    params = {name: value.clone().requires_grad_() for name, value in params.items()}
    y = function(leaves[0], indices, leaves[1], params, "swiglu")
    return [y.detach(), *torch.autograd.grad(y, [*leaves, *params.values()], dy)]


def distance(rank, world, case, number):
    """The largest difference between what this process has and its part of the whole, over all processes."""
    parts, params = arrays(number, *case)
    mine = expert_parallel.own_experts(params, rank, world)
    found = gradients(expert_parallel.parallel_experts, *parts[rank], mine)
    whole = gradients(experts, *(torch.cat(own) for own in zip(*parts)), params)
    start = sum(case[0][:rank])
    wanted = [value[start : start + case[0][rank]] for value in whole[:3]]
    wanted += list(expert_parallel.own_experts(dict(zip(params, whole[3:])), rank, world).values())
    apart = max((one - other).abs().max().item() if one.numel() else 0.0 for one, other in zip(found, wanted))
    apart = torch.tensor(apart, dtype=torch.float64)
    dist.all_reduce(apart, dist.ReduceOp.MAX)
    return float(apart)


def there_alone(ctx, dy):
    """A planted bug: gradients stay where the rows went."""
    return torch.zeros(sum(ctx.lengths[0]), dy.shape[1], dtype=dy.dtype), None, None, None


def main():
    torch.set_num_threads(1)
    with distributed.several("cpu") as processes:
        for number, case in enumerate(CASES):
            apart = distance(processes.rank, processes.world, case, number)
            print(f"case {number}: {apart:.2g}", flush=True)
            assert apart < (1e-12 if case[3] == torch.float64 else 1e-4), f"case {number}: {apart}"
        with mock.patch.object(expert_parallel._Exchange, "backward", staticmethod(there_alone)):
            assert distance(processes.rank, processes.world, CASES[0], 0) > 1e-3, "a planted bug was not noticed"


if __name__ == "__main__":
    sys.exit(main())
