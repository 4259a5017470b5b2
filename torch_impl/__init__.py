"""The PyTorch wing: the components of ``numpy_ref`` under the same names, written for speed.

Every component is a plain function on tensors and autograd does the backward. The same code runs in float64, float32,
bfloat16 and float16, on the CPU and on CUDA, eager and under ``torch.compile``. A step never waits for the device:
losses and norms stay tensors until somebody prints them.
"""

import os

# OpenMP's threads wait for each other after every operation in a busy loop, by default of 300,000 turns. Where another
# program wants the cores too, that loop starves the very thread it waits for. A showcase step on two cores, turns: idle /
# beside two other programs: 300,000: 127 / 506 ms, 10,000: 119 / 352 ms, 0: 162 / 238 ms. PyTorch must not be loaded yet.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
