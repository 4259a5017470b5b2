"""The PyTorch wing: the components of ``numpy_ref`` under the same names, written for speed.

Every component is a plain function on tensors and autograd does the backward. The same code runs in float64, float32,
bfloat16 and float16, on the CPU and on CUDA, eager and under ``torch.compile``. A step never waits for the device:
losses and norms stay tensors until somebody prints them.
"""
