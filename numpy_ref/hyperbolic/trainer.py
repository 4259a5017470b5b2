"""An embedding in training, for experiments: a graph in, numbers out, whatever the wing computes with."""

import numpy as np

from numpy_ref.hyperbolic import poincare
from numpy_ref.hyperbolic.graph_embedding import embedding_loss, pair_distances
from numpy_ref.hyperbolic.graph_metrics import distortion, mean_average_precision, worst_distortion
from numpy_ref.hyperbolic.points import check_points
from numpy_ref.hyperbolic.riemannian_adam import init_state as riemannian_state
from numpy_ref.hyperbolic.riemannian_adam import riemannian_adam
from numpy_ref.rng import STREAM_INIT, normal
from numpy_ref.training.adamw import adamw, init_state


class Trainer:
    """Points and scale of an ``Arm`` of `embedding_arms.py`, and their optimisers: Adam, Riemannian Adam in the ball."""

    def __init__(self, graph, arm, settings, device="auto", dtype="auto"):
        self.graph, self.arm, self.settings = graph, arm, settings
        kind = np.float64 if dtype == "float64" else np.float32
        points = settings.spread * normal(arm.seed, STREAM_INIT, (len(graph), arm.dim)).astype(kind)
        if arm.geometry == "poincare":
            points, _ = poincare.exp_map_origin(0.5 * points, 1.0)
        self.params = {"points": points, "log_scale": np.asarray(np.log(settings.scale), kind)}
        begin = {"points": riemannian_state if arm.geometry == "poincare" else init_state, "log_scale": init_state}
        self.states = {name: begin[name](param) for name, param in self.params.items()}
        self.hops = None if settings.rows else graph.all_hops()

    def step(self, lr, scale_lr, rows=None):
        """One optimiser step on the distances of some nodes from all, or of all; returns the loss. lr: of the points."""
        hops = self.hops if rows is None else self.graph.hops(rows)
        points, log_scale = self.params["points"], self.params["log_scale"]
        loss, vjp = embedding_loss(points, log_scale, rows, hops, self.arm.geometry, self.arm.loss)
        grads = dict(zip(("points", "log_scale"), vjp(np.ones((), points.dtype))))
        for name, param in self.params.items():
            betas = {"beta1": 0.9, "beta2": self.settings.beta2}
            if name == "points" and self.arm.geometry == "poincare":
                param, state = riemannian_adam(param, grads[name], self.states[name], lr, 1.0, **betas)
            else:
                param, state = adamw(param, grads[name], self.states[name], {"points": lr, "log_scale": scale_lr}[name], **betas)
            self.params[name], self.states[name] = np.asarray(param), state
        return float(loss)

    def measure(self, rows):
        """{"map", "distortion", "worst", "scale"} by the distances of ``rows`` from all, as numbers."""
        hops = self.graph.hops(rows)
        distances, _ = pair_distances(self.params["points"][rows], self.params["points"], self.arm.geometry)
        found = {"map": mean_average_precision, "distortion": distortion, "worst": worst_distortion}
        return {name: float(metric(distances, hops)) for name, metric in found.items()} | {
            "scale": float(np.exp(self.params["log_scale"]))
        }

    def arrays(self):
        """Points, scale and optimisers as {name: array}."""
        arrays = {f"model/{name}": value for name, value in self.params.items()}
        for name, state in self.states.items():
            arrays |= {f"optimizer/{name}/{field}": np.asarray(value) for field, value in state.items()}
        return arrays

    def restore(self, arrays):
        """Take over what ``arrays`` gave. Raises UserError for points outside the ball."""
        self.params = {name: arrays[f"model/{name}"] for name in self.params}
        if self.arm.geometry == "poincare":
            check_points(self.params["points"], 1.0)
        for name, state in self.states.items():
            found = {field: arrays[f"optimizer/{name}/{field}"] for field in state}
            self.states[name] = found | {"step": int(found["step"])}
