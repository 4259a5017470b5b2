"""What the harness has to be told about a component; everything it asserts follows from this.

A component is a pair of functions with the same arguments. The NumPy one returns ``(value, vjp)`` when
``differentiable`` names arguments, else its result alone; the Torch one returns the value and leaves the rest to
autograd.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DTYPES = ("float64", "float32", "bfloat16", "float16")


class _RunDtype:
    def __repr__(self):
        return "DTYPE"


DTYPE = _RunDtype()  # a static argument with this value becomes the number format of the run, on either side


@dataclass(frozen=True)
class Case:
    """One call. Floating arrays are float64 here; every run rounds them to its own format first."""

    arrays: dict  # argument -> array, None, or a dict, list or tuple of those
    static: dict = field(default_factory=dict)  # argument -> anything that is passed on as it is
    events: frozenset = frozenset()  # what is special about this case
    layouts: dict = field(default_factory=dict)  # argument -> how it lies in memory (strategies.LAYOUTS)
    seed: int = 0  # of the cotangent and of the roundings
    cotangent: str = "one"  # its magnitude (strategies.MAGNITUDES)
    cotangent_layout: str = "contiguous"


@dataclass(frozen=True)
class Bug:
    """A planted bug: ``old`` becomes ``new`` in the source of a function, and the suite must notice.

    NumPy-side bugs run in float32 in the role of the fast side. ``function`` names another function of the same module.
    """

    name: str
    side: str  # "numpy" or "torch"
    old: str
    new: str
    function: str | None = None
    dtype: str = "float32"
    count: int = 1  # how often ``old`` must occur: any other number means that the bug no longer fits the source
    needs: tuple = ()  # events without which it can't show: it is judged on cases that have them, and few others do


@dataclass(frozen=True)
class Allowance:
    """A kernel of PyTorch that is less precise than its format allows: which result, by how much, and why.

    ``terms(arguments, dy)`` is added to the budget of the Torch side, times the unit roundoff of ``unit``.
    """

    result: str
    why: str
    terms: Callable
    dtypes: tuple = ("bfloat16", "float16")
    unit: str | None = None  # format whose roundoff counts; None: the one of the run


@dataclass(frozen=True, eq=False)
class Component:
    """One declaration; see the fields."""

    name: str
    numpy: Callable
    torch: Callable
    draw: Callable  # strategies.Source -> Case
    differentiable: tuple = ()  # arguments in the order in which the vjp returns their gradients
    events: tuple = ()  # must occur among the draws
    bugs: tuple = ()
    dtypes: tuple = DTYPES
    exact: bool = False  # results are integers, masks, text, or floats that must be equal to the last bit
    elementwise: tuple | bool = ()  # result paths where every element, not every row, has its own budget; True: all
    inside: str | None = None  # format that runs in smaller ones compute in, where that is promised: "float32"
    outputs: dict = field(default_factory=dict)  # result path -> format, or {format of the run: format}, if another
    fixed: tuple = ()  # arguments that keep their format in every run
    cancellation: Callable | None = None  # (arguments, dy, u) -> {result path: S}: terms only the fast side cancels
    allowances: tuple = ()
    kernels: tuple = ()  # components inside this one whose Torch kernels have cancellations or allowances
    call: Callable | None = None  # (function, arguments) -> result, where a plain call won't do
    weight: int = 1  # expensive components get 1/weight of the examples
    shapes: dict = field(default_factory=dict)  # name -> (rng -> Case): fixed cases for torch.compile and the bench
    compiles: bool = True
    flops: Callable | None = None  # Case -> floating point operations of the forward pass
    bytes: Callable | None = None  # (Case, bytes a number) -> bytes the forward pass must move

    def __str__(self):
        return self.name

    @property
    def module(self):
        """Path of the file under the wing, e.g. ``model.norms``."""
        return self.numpy.__module__.partition(".")[2]

    def invoke(self, function, arguments: dict) -> Any:
        return self.call(function, arguments) if self.call else function(**arguments)
