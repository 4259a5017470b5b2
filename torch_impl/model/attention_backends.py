"""Which kernel computes an attention, by what the hardware and the arguments allow."""

import functools

import torch

from torch_impl.model.masks import document_positions

TORCH_ONLY_FILE = "which kernel computes attention is a question of the hardware; the result is the same"

_LONGEST_EXPLICIT = 1024  # keys; longer rows of scores would fill the memory
_FUSED = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn"}  # torch.nn.attention.SDPBackend


def choose_backend(query, key, value, mask=None, causal=False, softcap=0.0, bias=None, window=0):
    """The name of the kernel that ``scaled_dot_product_attention`` takes for these arguments.

    scores     softcap or bias: scores are written out in float32, since no fused kernel takes them
    explicit   CPU, 16 bits, up to 1024 keys: three batched products, whose backward is 3 to 7 times as fast as the
               fused kernel's
    flex       CUDA with a window: FlexAttention (arXiv:2412.05496), which skips blocks that nobody sees
    flash, cudnn, efficient, math: F.scaled_dot_product_attention, and which of its kernels it takes itself: flash
               (arXiv:2307.08691) has no mask but its causal flag, efficient (arXiv:2112.05682) takes any mask, cudnn is
               NVIDIA's own, math writes the scores out

    Arguments as there; window as in ``sliding_window_attention``. Nothing is computed.
    """
    if window and query.is_cuda and query.itemsize <= 4:
        return "flex"
    if softcap or bias is not None:
        return "scores"
    if query.device.type == "cpu" and query.itemsize == 2 and key.shape[-2] <= _LONGEST_EXPLICIT:
        return "explicit"
    flag = causal and mask is None and query.shape[-2] == key.shape[-2]
    if mask is None and causal and not flag:
        mask = torch.ones((), dtype=torch.bool, device=query.device).expand(query.shape[-2], key.shape[-2])
    return fused_backend(query, key, value, mask, flag)


def fused_backend(query, key, value, mask=None, causal=False):
    """The kernel that PyTorch's own dispatcher takes: "flash", "cudnn", "efficient" or "math"."""
    if torch.compiler.is_compiling():  # asking the dispatcher would break the graph; the call asks it again anyway
        return "fused"
    if key.ndim >= 3 and key.shape[-3] != query.shape[-3]:
        shape = (*key.shape[:-3], query.shape[-3], key.shape[-2])
        key, value = (x[..., :1, :, :].expand(*shape, x.shape[-1]) for x in (key, value))
    return _FUSED[torch._fused_sdp_choice(query, key, value, mask, 0.0, causal)]


def flex(query, key, value, window, sinks=0, scale=None, softcap=0.0, slopes=None, documents=None):
    """``sliding_window_attention`` by FlexAttention on CUDA: mask and scores are compiled into one kernel.

    Shapes as there. Heads may share keys; blocks of 128 x 128 that the mask hides are never computed.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    length, batch = query.shape[-2], query.shape[0] if documents is not None else None
    place = None if documents is None else document_positions(documents)

    def visible(b, h, q, k):
        if documents is None:
            return (k <= q) & ((q - k < window) | (k < sinks))
        same = (documents[b, q] == documents[b, k]) & (place[b, q] >= 0)
        return (k <= q) & same & ((q - k < window) | (place[b, k] < sinks))

    def score(s, b, h, q, k):
        if softcap:
            s = softcap * torch.tanh(s / softcap)
        return s if slopes is None else s - slopes[h] * (q - k)

    if slopes is not None:
        slopes = slopes.to(query.device, torch.float32)
    blocks = create_block_mask(visible, batch, None, length, length, device=query.device)
    score = score if softcap or slopes is not None else None
    shared = key.shape[-3] != query.shape[-3]
    return _compiled_flex()(query, key, value, score, blocks, scale, enable_gqa=shared)


@functools.cache
def _compiled_flex():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)
