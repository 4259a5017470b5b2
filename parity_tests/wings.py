"""One view of both wings for the tests that ask the same question of each: arrays in, arrays out.

    @pytest.mark.parametrize("wing", WINGS, ids=str)
    def test_something(wing):
        logits = wing.call("model.transformer", "transformer", tokens, params, config)
"""

import importlib

import numpy as np
import torch


class Wing:
    """``call`` runs a function of this wing on NumPy arrays and returns NumPy arrays (the value, not the vjp)."""

    def __init__(self, package):
        self.package = package
        self.float32 = torch.float32 if package == "torch_impl" else np.float32
        self.float64 = torch.float64 if package == "torch_impl" else np.float64

    def __str__(self):
        return self.package

    def module(self, path):
        return importlib.import_module(f"{self.package}.{path}")

    def array(self, value):
        """This wing's form of an array, or of a dict, list or tuple of them; anything else is left alone."""
        if isinstance(value, dict):
            return {name: self.array(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.array(item) for item in value)
        return torch.from_numpy(value.copy()) if self.package == "torch_impl" and isinstance(value, np.ndarray) else value

    def call(self, path, name, *args, **kwargs):
        result = getattr(self.module(path), name)(*self.array(args), **self.array(kwargs))
        if self.package == "numpy_ref" and isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
            result = result[0]
        return plain(result)


def plain(value):
    """Torch tensors anywhere inside a result become NumPy arrays."""
    if torch.is_tensor(value):
        return value.detach().cpu().numpy()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


WINGS = (Wing("numpy_ref"), Wing("torch_impl"))
