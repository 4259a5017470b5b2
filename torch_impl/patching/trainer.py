"""A byte model in training on whatever device there is, for experiments: NumPy arrays in, numbers out."""

import torch

from torch_impl.device import choose_device, choose_dtype
from torch_impl.patching.initialise import initialise
from torch_impl.patching.model import byte_model
from torch_impl.patching.step import total_nats, train_step
from torch_impl.tokenizers.patches import next_byte_entropies
from torch_impl.training.optimizer import init_states


class Trainer:
    """Weights and optimiser of a PatchConfig. Weights are float32 (or float64); the model computes in the format that
    ``train_config.dtype`` asks for."""

    def __init__(self, config, train_config):
        self.config, self.train_config = config, train_config
        self.device = choose_device(train_config.device)
        master = torch.float64 if train_config.dtype == "float64" else torch.float32
        self.params = initialise(config, train_config.seed, master, self.device)
        self.states = init_states(self.params, train_config)
        dtype = choose_dtype(train_config.dtype, self.device, config)
        self.format = {} if dtype == master else {"dtype": dtype}

    def step(self, inputs, targets, lr, starts=None):
        """One optimiser step. Returns {"loss": nats per target, "auxiliary", "patches", "grad_norm"} as numbers."""
        inputs, targets, starts = self._here(inputs, targets, starts)
        metrics, self.params, self.states = train_step(
            self.params, self.states, inputs, targets, self.config, self.train_config, lr, starts, **self.format
        )
        return {name: float(value) for name, value in metrics.items()}

    def nats(self, inputs, targets, starts=None):
        """Surprise of all targets together, in nats."""
        inputs, targets, starts = self._here(inputs, targets, starts)
        return float(total_nats(self.params, inputs, targets, self.config, starts, **self.format))

    @torch.inference_mode()
    def entropies(self, inputs):
        """The entropy of each byte given those before it: (B, T + 1)."""
        (inputs,) = self._here(inputs)
        return next_byte_entropies(byte_model(inputs, self.params, self.config)[0]).cpu().numpy()

    @torch.inference_mode()
    def patches(self, inputs, starts=None):
        """Where patches begin: bool (B, T)."""
        inputs, starts = self._here(inputs, starts)
        return byte_model(inputs, self.params, self.config, starts)[2].cpu().numpy()

    def arrays(self):
        """Weights and optimiser as {name: array}."""
        arrays = {f"model/{name}": _array(value) for name, value in self.params.items()}
        for name, state in self.states.items():
            arrays |= {f"optimizer/{name}/{field}": _array(value) for field, value in state.items()}
        return arrays

    def restore(self, arrays):
        """Take over what ``arrays`` gave."""
        for name, param in self.params.items():
            param.copy_(torch.from_numpy(arrays[f"model/{name}"]))
            for field, value in self.states[name].items():
                found = arrays[f"optimizer/{name}/{field}"]
                if torch.is_tensor(value):
                    value.copy_(torch.from_numpy(found))
                else:
                    self.states[name][field] = found.item()

    def _here(self, *arrays):
        return tuple(None if array is None else torch.from_numpy(array).to(self.device) for array in arrays)


def _array(value):
    return torch.as_tensor(value).detach().cpu().numpy()
