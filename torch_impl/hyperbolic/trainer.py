"""An embedding in training on whatever device there is, for experiments: a graph in, numbers out."""

import torch

from torch_impl.device import choose_device
from torch_impl.hyperbolic import poincare
from torch_impl.hyperbolic.graph_embedding import embedding_loss, pair_distances
from torch_impl.hyperbolic.graph_metrics import distortion, mean_average_precision, worst_distortion
from torch_impl.hyperbolic.points import check_points
from torch_impl.hyperbolic.riemannian_adam import init_state as riemannian_state
from torch_impl.hyperbolic.riemannian_adam import riemannian_adam_
from torch_impl.rng import STREAM_INIT, normal
from torch_impl.training.adamw import adamw_, init_state


class Trainer:
    """Points, scale and optimisers of an ``Arm``; hops of all pairs are held on the device, as numbers of its format."""

    def __init__(self, graph, arm, settings, device="auto", dtype="auto"):
        self.graph, self.arm, self.settings, self.device = graph, arm, settings, choose_device(device)
        self.dtype = torch.float64 if dtype == "float64" else torch.float32
        points = settings.spread * normal(arm.seed, STREAM_INIT, (len(graph), arm.dim)).to(self.device, self.dtype)
        if arm.geometry == "poincare":
            points = poincare.exp_map_origin(points / 2, 1.0)
        self.params = {"points": points, "log_scale": torch.tensor(settings.scale, device=self.device, dtype=self.dtype).log()}
        self.states = {name: init_state(param) for name, param in self.params.items()}
        if arm.geometry == "poincare":
            self.states["points"] = riemannian_state(points)
        self.hops = None if settings.rows else self._here(graph.all_hops())

    def step(self, lr, scale_lr, rows=None):
        """One optimiser step on the distances of some nodes from all, or of all; returns the loss. lr: of the points."""
        hops = self.hops if rows is None else self._here(self.graph.hops(rows))
        rows = None if rows is None else torch.from_numpy(rows).to(self.device)
        leaves = {name: param.detach().requires_grad_() for name, param in self.params.items()}
        loss = embedding_loss(*leaves.values(), rows, hops, self.arm.geometry, self.arm.loss)
        grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
        points, scale = ({name: self.params[name]} for name in self.params)
        if self.arm.geometry == "poincare":
            riemannian_adam_(points, grads, self.states, lr, 1.0, 0.9, self.settings.beta2)
        else:
            adamw_(points, grads, self.states, lr, 0.9, self.settings.beta2)
        adamw_(scale, grads, self.states, scale_lr, 0.9, self.settings.beta2)
        return float(loss.detach())

    @torch.inference_mode()
    def measure(self, rows):
        """{"map", "distortion", "worst", "scale"} by the distances of ``rows`` from all, as numbers."""
        hops, points = self._here(self.graph.hops(rows)), self.params["points"]
        distances = pair_distances(points[torch.from_numpy(rows).to(self.device)], points, self.arm.geometry)
        found = {"map": mean_average_precision, "distortion": distortion, "worst": worst_distortion}
        return {name: float(metric(distances, hops)) for name, metric in found.items()} | {
            "scale": float(self.params["log_scale"].exp())
        }

    def arrays(self):
        """Points, scale and optimisers as {name: array}."""
        arrays = {f"model/{name}": _array(value) for name, value in self.params.items()}
        for name, state in self.states.items():
            arrays |= {f"optimizer/{name}/{field}": _array(value) for field, value in state.items()}
        return arrays

    def restore(self, arrays):
        """Take over what ``arrays`` gave. Raises UserError for points outside the ball."""
        for name, param in self.params.items():
            param.copy_(torch.from_numpy(arrays[f"model/{name}"]))
            for field in ("m", "v"):
                self.states[name][field].copy_(torch.from_numpy(arrays[f"optimizer/{name}/{field}"]))
            self.states[name]["step"] = int(arrays[f"optimizer/{name}/step"])
        if self.arm.geometry == "poincare":
            check_points(self.params["points"], 1.0)

    def _here(self, hops):
        return torch.from_numpy(hops).to(self.device, self.dtype)


def _array(value):
    return torch.as_tensor(value).detach().cpu().numpy()
