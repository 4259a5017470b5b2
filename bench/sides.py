"""One component on one side, ready to be called: forward, backward, both, and its results as plain arrays."""

import importlib

import numpy as np

from bench.work import DTYPE, draw


def flatten(value, name="y"):
    """Arrays inside nested tuples and dicts, by name, as NumPy arrays (float64 for floats); the rest is left out."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (tuple, list)):
        items = enumerate(value)
    else:
        if hasattr(value, "detach"):
            value = value.detach()
            value = (value.double() if value.is_floating_point() else value).cpu().numpy()
        if not isinstance(value, (np.ndarray, np.generic)):
            return {}
        return {name: np.array(value, np.float64) if value.dtype.kind == "f" else np.array(value)}
    return {key: array for label, item in items for key, array in flatten(item, f"{name}.{label}").items()}


def _map(value, convert):
    """``value`` with every array inside its dicts converted, and the stand-in for the number format replaced."""
    if isinstance(value, dict):
        return {key: _map(item, convert) for key, item in value.items()}
    return convert(value) if isinstance(value, np.ndarray) or value is DTYPE else value


class Side:
    """A component with its inputs. ``forward()`` keeps what ``backward()`` needs; ``both()`` is one after the other."""

    def __init__(self, case, name, dtype, package, convert):
        path, _, function = case.where.rpartition(".")
        module = importlib.import_module(f"{package}.{path}")
        self.function = getattr(module, function)
        self.case, self.draw = case, draw(name)
        self.arguments = _map(case.arguments(self.draw), convert)
        if case.prepare:
            self.arguments = case.prepare(module, self.arguments)

    def results(self):
        """Value and gradients of a fresh call, by name."""
        self.forward()
        found = flatten(self.value)
        if self.case.differentiable:
            self.cotangent()
            found |= flatten(self.backward(), "d")
        return found

    def traffic(self, mode):
        """Bytes that must move: arguments in, results out, each once; for ``both``, arguments are read once."""
        given, made = _bytes(self.arguments), _bytes(self.value)
        if mode == "forward":
            return 2 * made if self.case.gathers else given + made
        grads = sum(_bytes(self.arguments[name]) for name in self.case.differentiable)
        return given + made + grads + (made if mode == "both" else 0)

    def both(self):
        self.forward()
        self.backward()


def _bytes(value):
    if isinstance(value, (dict, tuple, list)):
        return sum(_bytes(item) for item in (value.values() if isinstance(value, dict) else value))
    return getattr(value, "nbytes", 0)


class NumpySide(Side):
    def __init__(self, case, name, dtype, device="cpu"):
        self.dtype = np.dtype(dtype)
        super().__init__(case, name, dtype, "numpy_ref", self._convert)

    def _convert(self, value):
        if value is DTYPE:
            return self.dtype
        return value.astype(self.dtype) if value.dtype.kind == "f" else value

    def cotangent(self):
        self.dy = np.asarray(self.draw(np.shape(self.value))).astype(self.dtype)

    def forward(self):
        result = self.function(**self.arguments)
        self.value, self.vjp = result if self.case.differentiable else (result, None)

    def backward(self):
        grads = self.vjp(self.dy)
        return dict(zip(self.case.differentiable, grads if isinstance(grads, tuple) else (grads,)))


class TorchSide(Side):
    def __init__(self, case, name, dtype, device="cpu"):
        import torch

        self.torch, self.device, self.dtype = torch, device, getattr(torch, dtype)
        super().__init__(case, name, dtype, "torch_impl", self._convert)
        if "device" in self.function.__code__.co_varnames[: self.function.__code__.co_argcount]:
            self.arguments["device"] = torch.device(device)
        self.leaves = {}
        for name in case.differentiable:
            value = self.arguments[name]
            self.leaves |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
        for leaf in self.leaves.values():
            leaf.requires_grad_()

    def _convert(self, value):
        if value is DTYPE:
            return self.dtype
        tensor = self.torch.from_numpy(value.copy()).to(self.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def cotangent(self):
        self.dy = self._convert(np.asarray(self.draw(tuple(self.value.shape)))).to(self.value.dtype)

    def forward(self):
        self.value = self.function(**self.arguments)

    def backward(self, keep=True):
        grads = self.torch.autograd.grad(self.value, tuple(self.leaves.values()), self.dy, retain_graph=keep)
        return dict(zip(self.leaves, grads))

    def both(self):
        self.forward()
        self.backward(keep=False)


SIDES = {"numpy": NumpySide, "torch": TorchSide}
