"""The maps of affine changes, drawn and multiplied in one compiled pass. Kernel and call only.

All of it is inside the kernel, so that threads of a data server do not wait for the GIL.
"""

from collections.abc import Sequence
from math import cos, exp, log, sin, tan

import numpy as np
from numpy.typing import NDArray

from ...common.compiled import compiled_exactly
from ...common.types import Float32
from ..randomness import Keys
from .affine import Affine, Kind
from .draws import bits, child_key, uniform

_SHIFT, _ROTATE, _SCALE, _SHEAR = (int(kind) for kind in list(Kind)[:4])


def compose(keys: Keys, parts: Sequence[Affine], first: int = 0) -> Float32:
    """(n, 2, 3) float32: of each of `keys` (n,), the product of its maps for all `parts`.

    A map leads from a place (x, y, 1) after the change to the place before it, in pixels from the
    centre, x to the right and y downwards. Maps lead backwards, so that the first change is the
    last to be looked up: it stands leftmost. Part i draws from child `first` + i of a key.
    """
    kinds = np.array([part.kind for part in parts], np.int64)
    amounts = np.array([[part.low, part.high] for part in parts], np.float32).reshape(-1, 2)
    maps = np.empty((len(keys), 2, 3), np.float32)
    _compose(keys, kinds, amounts, first, maps)
    return maps


@compiled_exactly
def _compose(
    keys: Keys, kinds: NDArray[np.int64], amounts: Float32, first: int, maps: Float32
) -> None:
    for i in range(len(keys)):
        # Row by row: x' = a x + b y + c, y' = d x + e y + f.
        a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
        for part in range(len(kinds)):
            key, kind = child_key(keys[i], first + part), kinds[part]
            low, high = amounts[part]
            pa, pb, pc, pd, pe, pf = _map(key, kind, low, high)
            c, f = a * pc + b * pf + c, d * pc + e * pf + f
            a, b, d, e = a * pa + b * pd, a * pb + b * pe, d * pa + e * pd, d * pb + e * pe
        maps[i, 0, 0], maps[i, 0, 1], maps[i, 0, 2] = a, b, c
        maps[i, 1, 0], maps[i, 1, 1], maps[i, 1, 2] = d, e, f


@compiled_exactly
def _map(
    key: np.uint64, kind: int, low: np.float32, high: np.float32
) -> tuple[float, float, float, float, float, float]:
    """The six numbers of one part's map, float64, row by row."""
    if kind == _SHIFT:
        x, y = float(uniform(key, 0, low, high)), float(uniform(key, 1, low, high))
        return 1.0, 0.0, x, 0.0, 1.0, y
    if kind == _ROTATE:
        angle = float(uniform(key, 0, low, high))
        c, s = cos(angle), sin(angle)
        return c, s, 0.0, -s, c, 0.0
    if kind == _SCALE:
        factor = float(uniform(key, 0, np.float32(log(low)), np.float32(log(high))))
        back = exp(-factor)
        return back, 0.0, 0.0, 0.0, back, 0.0
    if kind == _SHEAR:
        # After it, x is x + s y, then y is y + t x; a map leads back.
        s, t = tan(float(uniform(key, 0, low, high))), tan(float(uniform(key, 1, low, high)))
        return 1.0 + s * t, -s, 0.0, -t, 1.0, 0.0
    x = -1.0 if low != 0 and bits(key, 0) >> np.uint64(63) else 1.0
    y = -1.0 if high != 0 and bits(key, 1) >> np.uint64(63) else 1.0
    return x, 0.0, 0.0, 0.0, y, 0.0
