"""Update rules and clipping on a GPU: each formula one fused kernel, one pass over memory.

The twins of `common.rule_kernels`: same names, same arguments, same order of arithmetic, and
compiled without fused multiply-add, so that the bits are the host's, too. The bodies are plain C
over the elements named in their declarations: `p` and the slots are read and written, `g` is only
read. tests/worker/test_device_rules.py runs them through a C compiler against the host's kernels.
Hyperparameters and state are in `common.rules`, and what is averaged in its segments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from ..common.clipping import EPS, clip
from ..common.job import OptimizerSection
from ..common.types import Array, Float32

SAME_BITS = ("--fmad=false",)
"""For NVRTC: no multiply-add in one rounding, as the host's kernels have none."""
PREAMBLE = "#define NORMAL 1.17549435e-38f  /* the smallest that is not denormal */\n"


@dataclass(frozen=True)
class Kernel:
    """One pass over the elements: what it reads, what it writes, and the scalars between."""

    body: str
    slots: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


_STEP = "p = p - (shrink * p + rate * {});"
_MOMENTUM = """
float moved = keep * v + g;
moved = fabsf(moved) < NORMAL ? 0.0f : moved;
v = moved;
"""

RULES = {
    "sgd": Kernel(_STEP.format("g")),
    "momentum": Kernel(_MOMENTUM + _STEP.format("moved"), ("v",), ("keep",)),
    "nesterov": Kernel(_MOMENTUM + _STEP.format("(g + keep * moved)"), ("v",), ("keep",)),
    "adagrad": Kernel(
        "v = v + g * g;\n" + _STEP.format("(g / (sqrtf(v) + eps))"), ("v",), ("eps",)
    ),
    "rmsprop": Kernel(
        """
float square = keep * v + fresh * (g * g);
square = square < NORMAL ? 0.0f : square;
v = square;
"""
        + _STEP.format("(g / (sqrtf(correction * square) + eps))"),
        ("v",),
        ("keep", "fresh", "correction", "eps"),
    ),
    "adam": Kernel(
        """
float moved = keep * m + fresh * g;
moved = fabsf(moved) < NORMAL ? 0.0f : moved;
m = moved;
float square = keep2 * v + fresh2 * (g * g);
square = square < NORMAL ? 0.0f : square;
v = square;
"""
        + _STEP.format("(correction * moved / (sqrtf(correction2 * square) + eps))"),
        ("m", "v"),
        ("keep", "fresh", "correction", "keep2", "fresh2", "correction2", "eps"),
    ),
}
"""The loops of `common.rule_kernels` by their names; `rate` and `shrink` come before `numbers`."""

CLIP_VALUES = """
if (counts) {
  g = g > limit ? limit : g;
  g = g < -limit ? -limit : g;
}
"""
SCALE = "g = counts && !(factor >= 1.0) ? g * (float)factor : g;"
"""With a factor of float64; where nothing counts, averaged state stays."""


class DeviceKernels:
    """What `Rule.apply` takes for its kernels where the arrays are CuPy's. Any thread may call."""

    def __init__(self, xp: ModuleType) -> None:
        """Nothing is compiled yet: CuPy does that at the first call, and keeps it on disk."""
        for name, rule in RULES.items():
            setattr(self, name, _rule(xp, name, rule))

    @staticmethod
    def read_only(array: Float32) -> Float32:
        """CuPy has no read-only arrays: the kernels leave a gradient alone."""
        return array


def _rule(xp: ModuleType, name: str, rule: Kernel) -> Any:
    scalars = ("rate", "shrink", *rule.numbers)
    kernel = _elementwise(
        xp,
        ", ".join(["float32 g", *(f"float32 {scalar}" for scalar in scalars)]),
        ", ".join(f"float32 {array}" for array in ("p", *rule.slots)),
        rule.body,
        name,
    )

    def apply(parameters: Any, gradient: Any, *rest: Any) -> None:
        *slots, copy_to, absorb, numbers = rest
        assert copy_to is None, "a worker's parameters lie in one place"
        assert absorb is None
        kernel(gradient, *map(float, numbers), parameters, *slots)

    return apply


@cache
def kernels(xp: ModuleType) -> Any:
    """The kernels for arrays of `xp`: the host's own for NumPy."""
    if xp is np:
        from ..common import rule_kernels

        return rule_kernels
    return DeviceKernels(xp)


class Clipper:
    """Clips whole gradients on a device as `common.clipping.clip` does, without waiting for it.

    Arguments:
        counts: bool (n,) of the device, False at averaged state, which is neither counted in the
            norm nor changed; True where there is none.
    """

    def __init__(self, xp: ModuleType, value: float, norm: float, counts: Any) -> None:
        self._value, self._norm, self._counts = value, norm, counts
        self._limit = _elementwise(
            xp,
            "bool counts, float32 limit",
            "float32 g",
            CLIP_VALUES,
            "clip",
        )
        self._squares = xp.ReductionKernel(
            "float32 g, bool counts",
            "float64 y",
            "counts ? (double)g * (double)g : 0.0",
            "a + b",
            "y = a",
            "0",
            "dualshard_squares",
        )
        self._scale = _elementwise(xp, "bool counts, float64 factor", "float32 g", SCALE, "scale")
        self._xp = xp

    def __call__(self, gradient: Array) -> None:
        """Clip float32 (n,) in place, by value and then by norm, on the current stream."""
        if self._value:
            self._limit(self._counts, self._value, gradient)
        if self._norm:
            squares = self._squares(gradient, self._counts)
            self._scale(self._counts, self._norm / (self._xp.sqrt(squares) + EPS), gradient)


def clipping(
    xp: ModuleType, section: OptimizerSection, size: int, averaged: Sequence[slice]
) -> Callable[[Any], None]:
    """What clips a whole gradient of `xp`, float32 (size,), in place as `section` asks, but not
    where it is `averaged`."""
    if not (section.clip_value or section.clip):
        return lambda gradient: None
    if xp is np:
        return partial(clip, section=section, averaged=averaged)
    counts = np.ones(size, np.bool_)
    for span in averaged:
        counts[span] = False
    return Clipper(xp, section.clip_value, section.clip, xp.asarray(counts))


def _elementwise(xp: ModuleType, reads: str, writes: str, body: str, name: str) -> Any:
    options = {"preamble": PREAMBLE, "no_return": True, "options": SAME_BITS}
    return xp.ElementwiseKernel(reads, writes, body, f"dualshard_{name}", **options)
