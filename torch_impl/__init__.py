"""The PyTorch wing: the components of ``numpy_ref`` under the same names, written for speed.

Every component is a plain function on tensors and autograd does the backward. The same code runs in float64, float32,
bfloat16 and float16, on the CPU and on CUDA, eager and under ``torch.compile``. A step never waits for the device:
losses and norms stay tensors until somebody prints them.
"""

import os

# OpenMP's threads wait for each other after every operation, by default in a busy loop. Where another program wants
# the cores too, that loop starves the very thread it waits for: measured with two other programs on two cores, a
# training step was 16 times slower. It must be said before PyTorch loads OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
