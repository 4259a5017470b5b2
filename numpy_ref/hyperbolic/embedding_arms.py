"""What the experiment on hyperbolic space compares: a graph and a control, embedded in spaces of a few dimensions.

    graph       a tree, whose nodes multiply with every level as the room in hyperbolic space does with every radius
    control     a grid or a cycle, which have no such growth: hyperbolic space should not help here

Every embedding of one loss has the same number of steps, initial points of the same size, and its own learnt scale. That
begins large and falls slowly, so that points first find their order near the origin, where space is nearly flat: far out
a step of a given length turns them by little (in the ball by its length over sinh of the radius), and a tangled tree
stays tangled.
"""

from dataclasses import dataclass

from numpy_ref.config import option, require
from numpy_ref.errors import UserError

DEFINITION = "settings: no arrays"

GEOMETRIES = {"euclidean": "Euclidean", "lorentz": "hyperbolic, Lorentz", "poincare": "hyperbolic, Poincaré"}
LOSSES = {"distance": "distances", "ranking": "neighbours"}
DTYPES = ("auto", "float32", "float64")
# Peak learning rates of the points, each a good one of a few on the tree in two and ten dimensions.
RATES = {
    ("euclidean", "distance"): 0.1, ("lorentz", "distance"): 0.1, ("poincare", "distance"): 0.5,
    ("euclidean", "ranking"): 0.1, ("lorentz", "ranking"): 0.1, ("poincare", "ranking"): 0.3,
}  # fmt: skip


def chosen(text):
    """The different names of a list with commas."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiment; ``SIZES`` has three sets of them."""

    graph: str = option("tree-3-5", "what to embed: tree-3-5, a file of child, tab, parent, or WordNet's data.noun")
    control: str = option("grid-19-19", "the same for comparison: grid-19-19, cycle-364, none")
    below: str = option("", "only the subtree of this node of the graph")
    dims: str = option("2,3,5,10", "dimensions of the spaces")
    geometries: str = option("euclidean,lorentz,poincare", "spaces")
    losses: str = option("distance,ranking", "what is learnt: distances, or neighbours before all others")
    seeds: int = option(3, "runs of each, with different initial points")
    steps: int = option(800, "steps of Adam")
    lr: float = option(0.0, "peak learning rate (0: one that suits the space and the loss)")
    scale: float = option(4.0, "what distances are multiplied by at the start")
    scale_lr: float = option(0.0, "peak learning rate of that factor's logarithm (0: 8 / steps)")
    beta2: float = option(0.99, "decay of Adam's mean square")
    spread: float = option(1e-3, "size of the initial points")
    rows: int = option(0, "nodes whose distances from all others a step looks at (0: all)")
    eval_rows: int = option(2000, "nodes that are measured, at most")

    def __post_init__(self):
        for name in ("seeds", "steps", "eval_rows"):
            require(self, name, lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1")
        require(self, "rows", lambda v: isinstance(v, int) and v >= 0, "a whole number, or 0 for all")
        require(self, "lr", lambda v: 0 <= v < float("inf"), "a finite number, or 0 for one that suits")
        require(self, "scale", lambda v: 0 < v < float("inf"), "a finite number above 0")
        require(self, "scale_lr", lambda v: 0 <= v < float("inf"), "a finite number, or 0 for one that suits")
        require(self, "beta2", lambda v: 0 <= v < 1, "from 0 to below 1")
        require(self, "spread", lambda v: 0 < v < 1, "between 0 and 1")
        for name, known in (("geometries", GEOMETRIES), ("losses", LOSSES)):
            require(self, name, lambda v, k=known: chosen(v) and set(chosen(v)) <= set(k), f"some of {', '.join(known)}")
        require(self, "dims", lambda v: chosen(v) and all(n.isdecimal() and 1 <= int(n) <= 1000 for n in chosen(v)), "numbers with commas, as 2,3,5,10")


SIZES = {
    "tiny": Settings(graph="tree-2-3", control="cycle-9", dims="2,3", seeds=1, steps=20),
    "cpu": Settings(),
    "gpu": Settings(graph="tree-3-7", control="grid-57-57", dims="2,3,5,10,20", steps=4000),
}


@dataclass(frozen=True)
class Arm:
    """One embedding. part: "graph" or "control"."""

    part: str
    geometry: str
    loss: str
    dim: int
    seed: int

    @property
    def name(self):
        return f"{self.part}-{self.loss}-{self.geometry}-{self.dim}-{self.seed}"


def arms(settings):
    """Every Arm of an experiment, the seeds last: where it is stopped, each kind has been seen. The control is embedded
    in Euclidean space and in one model of hyperbolic space."""
    for seed in range(settings.seeds):
        for part in ("graph", "control"):
            geometries = chosen(settings.geometries)
            if part == "control":
                both = "euclidean" in geometries and "lorentz" in geometries
                geometries = [] if settings.control == "none" else ["euclidean", "lorentz"] if both else geometries
            for loss in chosen(settings.losses):
                for dim in chosen(settings.dims):
                    for geometry in geometries:
                        yield Arm(part, geometry, loss, int(dim), seed)


def rate(settings, arm):
    """The peak learning rate of an arm's points."""
    return settings.lr or RATES[arm.geometry, arm.loss]


def scale_rate(settings):
    """The peak learning rate of the scale's logarithm; 8 / steps can make the scale 50 times as small, or as large."""
    return settings.scale_lr or 8 / settings.steps


def check_size(settings, count, name):
    """Raise UserError where all pairs of ``count`` nodes are too many for one step."""
    if not settings.rows and count > 10_000:
        raise UserError(f"{name} has {count:,} nodes, too many for all pairs in a step; give --rows 64, or --below NODE")
