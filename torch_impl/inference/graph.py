"""A decoding step recorded once as a CUDA graph: the GPU runs kernel after kernel, and nothing waits for Python."""

import torch

TORCH_ONLY_FILE = "how a GPU is told what to do; the result is that of the step"


class GraphDecoder:
    """A ``Decoder`` whose step is recorded for a cache, and replayed as long as the cache's buffers are the same.

    A recorded step reads its tokens and lengths from tensors of its own, which every call fills anew, and writes the
    buffers of the cache, as ever. When rows have left or joined, the buffers are others, and the step is recorded again.
    """

    def __init__(self, decoder):
        self.decoder, self.buffers, self.replay = decoder, None, None

    @torch.inference_mode()
    def __call__(self, tokens, cache, at=None):
        """As ``Decoder``. ``at`` would be a constant of the recording, so it is left alone."""
        if self.buffers is not cache["layers"]:
            self._record(tokens, cache)
        self.tokens.copy_(tokens)
        self.length.copy_(cache["length"])
        logits = self.replay()
        cache["length"] = cache["length"] + 1
        return logits.clone()

    def _record(self, tokens, cache):
        self.tokens, self.length, self.buffers = tokens.clone(), cache["length"].clone(), cache["layers"]
        # To run the step several times is to run it once: each time it writes the same keys to the same slots.
        self.replay = recorded(lambda: self.decoder(self.tokens, {"length": self.length, "layers": self.buffers}))


def recorded(step):
    """A function that does what ``step()`` did, on what its inputs hold by then; it returns the same tensor each time."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries make their choices and allocate before the recording
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay():
        graph.replay()
        return result

    return replay
