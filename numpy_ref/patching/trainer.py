"""A byte model in training, for experiments: NumPy arrays in, numbers out, whatever the wing computes with."""

import numpy as np

from numpy_ref.patching.initialise import initialise
from numpy_ref.patching.model import byte_model
from numpy_ref.patching.step import total_nats, train_step
from numpy_ref.tokenizers.patches import next_byte_entropies
from numpy_ref.training.optimizer import init_states


class Trainer:
    """Weights and optimiser of a PatchConfig. Arguments and results are NumPy arrays; ``starts`` as in ``byte_model``."""

    def __init__(self, config, train_config):
        self.config, self.train_config = config, train_config
        self.params = initialise(config, train_config.seed, np.float64 if train_config.dtype == "float64" else np.float32)
        self.states = init_states(self.params, train_config)

    def step(self, inputs, targets, lr, starts=None):
        """One optimiser step. Returns {"loss": nats per target, "auxiliary", "patches", "grad_norm"} as numbers."""
        metrics, self.params, self.states = train_step(
            self.params, self.states, inputs, targets, self.config, self.train_config, lr, starts
        )
        return {name: float(value) for name, value in metrics.items()}

    def nats(self, inputs, targets, starts=None):
        """Surprise of all targets together, in nats."""
        return float(total_nats(self.params, inputs, targets, self.config, starts))

    def entropies(self, inputs):
        """The entropy of each byte given those before it, (B, T + 1): what entropy patching cuts by."""
        (logits, *_), _ = byte_model(inputs, self.params, self.config)
        return next_byte_entropies(logits)

    def patches(self, inputs, starts=None):
        """Where patches begin: bool (B, T)."""
        return byte_model(inputs, self.params, self.config, starts)[0][2]

    def arrays(self):
        """Weights and optimiser as {name: array}."""
        arrays = {f"model/{name}": np.asarray(value) for name, value in self.params.items()}
        for name, state in self.states.items():
            arrays |= {f"optimizer/{name}/{field}": np.asarray(value) for field, value in state.items()}
        return arrays

    def restore(self, arrays):
        """Take over what ``arrays`` gave."""
        self.params = {name: arrays[f"model/{name}"] for name in self.params}
        for name, state in self.states.items():
            found = {field: arrays[f"optimizer/{name}/{field}"] for field in state}
            self.states[name] = {field: value if value.ndim else value.item() for field, value in found.items()}
