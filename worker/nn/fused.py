"""What a GPU does in one pass and layers over NumPy do in steps: windows, activations, masks.

On a GPU each step of array code is a kernel of its own, which costs more to start than a small net
costs to compute, and a pass over memory; here such a chain is one kernel. The layers over NumPy are
the plain reference. The bodies are C++ over the elements that their declarations name (T is the
arrays' own dtype, `i` counts the elements of what is written), so that
tests/worker/test_nn_fused.py can run them through a C++ compiler.

Images are (n, height, width, channels), windows as in `windows.py`.
"""

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from ...common.types import Array
from .windows import Pair

MOST = 2**31 - 1
"""Elements of an array: the kernels count in 32 bits, for dividing 64 is slow on a GPU."""

LINEAR, RELU, SIGMOID, TANH = "linear", "relu", "sigmoid", "tanh"

FORWARD = {
    LINEAR: "z = z + bias;",
    RELU: "T sum = z + bias; z = sum < 0 ? T(0) : sum;",
    SIGMOID: "z = (T(1) + tanh((z + bias) / T(2))) / T(2);",
    TANH: "z = tanh(z + bias);",
}
"""y = f(z + bias), written over z. NaN stays NaN."""

BACKWARD = {
    RELU: "out = y <= 0 ? T(0) : delta;",
    SIGMOID: "out = delta * (y * (T(1) - y));",
    TANH: "out = delta * (T(1) - y * y);",
}
"""delta f'(z) in terms of y = f(z)."""

_WINDOW = "int32 high, int32 wide, int32 stride_down, int32 stride_across, int32 down, int32 across"
_IMAGE = "int32 height, int32 width, int32 channels"
_PLACE = "int rest = (int)i; int c = rest % channels; rest /= channels;"
_OUTPUT = (
    _PLACE + "int s = rest % across; rest /= across; int r = rest % down; int n = rest / down;"
)
_PIXEL = (
    _PLACE + "int x = rest % width; rest /= width; int y = rest % height; int n = rest / height;"
)

_SOURCES = """
T total = 0;
for (int a = 0; a < high; ++a) {{
  int r = y - a;
  if (r < 0 || r % stride_down != 0 || (r /= stride_down) >= down) continue;
  for (int b = 0; b < wide; ++b) {{
    int s = x - b;
    if (s < 0 || s % stride_across != 0 || (s /= stride_across) >= across) continue;
    int window = (n * down + r) * across + s;
    {}
  }}
}}
image = image + total;
"""
"""For a pixel the windows that it lies in: each pixel is written once, and nothing is atomic."""

COLUMNS = """
int rest = (int)i;
int c = rest % channels; rest /= channels;
int b = rest % wide; rest /= wide;
int a = rest % high; rest /= high;
int s = rest % across; rest /= across;
int r = rest % down; int n = rest / down;
int y = r * stride_down + a, x = s * stride_across + b;
column = images[((n * height + y) * width + x) * channels + c];
"""
SPREAD = _PIXEL + _SOURCES.format(
    "total += columns[((window * high + a) * wide + b) * channels + c];"
)
LARGEST = (
    _OUTPUT
    + """
int corner = ((n * height + r * stride_down) * width + s * stride_across) * channels + c;
T best = images[corner];
int place = 0;
for (int a = 0; a < high; ++a) {
  for (int b = 0; b < wide; ++b) {
    T value = images[corner + (a * width + b) * channels];
    if (a + b > 0 && (value > best || value != value)) {
      best = value;
      place = a * wide + b;
    }
  }
}
largest = best;
chosen = place;
"""
)
SPREAD_LARGEST = _PIXEL + _SOURCES.format(
    "if (chosen[window * channels + c] == a * wide + b) total += delta[window * channels + c];"
)
DROP = """
unsigned long long z = seed + (unsigned long long)(i + 1) * 0x9E3779B97F4A7C15ull;
z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
z = z ^ (z >> 31);
mask = (z >> 40) < threshold ? scale : T(0);
y = x * mask;
"""
"""`dropout.splitmix64`, its highest 24 bits against the threshold."""


class Fused:
    """One kernel for each. Arrays of `xp`, of one dtype, on the current stream; any thread."""

    def __init__(self, xp: ModuleType) -> None:
        """Nothing is compiled yet: CuPy does that at the first call, and keeps it on disk."""
        self._xp = xp
        self._forward = {
            kind: self._kernel("T bias", "T z", body, f"{kind}_forward")
            for kind, body in FORWARD.items()
        }
        self._backward = {
            kind: self._kernel("T y, T delta", "T out", body, f"{kind}_backward")
            for kind, body in BACKWARD.items()
        }
        sizes = f"{_IMAGE}, {_WINDOW}"
        self._columns = self._kernel(f"raw T images, {sizes}", "T column", COLUMNS, "columns")
        self._spread = self._kernel(f"raw T columns, {sizes}", "T image", SPREAD, "spread")
        self._largest = self._kernel(
            f"raw T images, {sizes}", "T largest, int32 chosen", LARGEST, "largest"
        )
        self._spread_largest = self._kernel(
            f"raw T delta, raw int32 chosen, {sizes}", "T image", SPREAD_LARGEST, "spread_largest"
        )
        reads = "T x, uint64 seed, uint64 threshold, T scale"
        self._drop = self._kernel(reads, "T y, T mask", DROP, "drop")

    def _kernel(self, reads: str, writes: str, body: str, name: str) -> Any:
        return self._xp.ElementwiseKernel(
            reads, writes, body, f"dualshard_{name}", no_return=True, reduce_dims=True
        )

    def activate(self, kind: str, z: Array, bias: Array) -> None:
        """z = f(z + bias) in place, bias along the last axis; `kind` is a key of `FORWARD`."""
        self._forward[kind](bias, z)

    def slope(self, kind: str, y: Array, delta: Array) -> Array:
        """delta f'(z), given y = f(z); `kind` is a key of `BACKWARD`."""
        out: Array = self._xp.empty_like(y)
        self._backward[kind](y, delta, out)
        return out

    def columns(self, images: Array, window: Pair, stride: Pair, fits: Pair) -> Array:
        """Every window as a row: (n, *fits, *window, channels)."""
        n, *_, channels = images.shape
        columns: Array = self._xp.empty((n, *fits, *window, channels), images.dtype)
        assert max(columns.size, images.size) <= MOST
        sizes = (*images.shape[1:], *window, *stride, *fits)
        self._columns(self._xp.ascontiguousarray(images), *sizes, columns)
        return columns

    def spread(self, columns: Array, images: Array, window: Pair, stride: Pair, fits: Pair) -> None:
        """Add each row of `columns` to the window of `images` that it came from."""
        assert max(columns.size, images.size) <= MOST
        sizes = (*images.shape[1:], *window, *stride, *fits)
        self._spread(self._xp.ascontiguousarray(columns), *sizes, images)

    def largest(self, images: Array, window: Pair, stride: Pair, fits: Pair) -> tuple[Array, Array]:
        """The largest number of each window, and its place in the window, as `MaxPool` has it."""
        n, *_, channels = images.shape
        largest: Array = self._xp.empty((n, *fits, channels), images.dtype)
        chosen: Array = self._xp.empty(largest.shape, np.int32)
        assert images.size <= MOST
        sizes = (*images.shape[1:], *window, *stride, *fits)
        self._largest(self._xp.ascontiguousarray(images), *sizes, largest, chosen)
        return largest, chosen

    def spread_largest(
        self,
        delta: Array,
        chosen: Array,
        images: Array,
        window: Pair,
        stride: Pair,
        fits: Pair,
    ) -> None:
        """Add each element of `delta` to the pixel that was `chosen` in its window."""
        assert images.size <= MOST
        sizes = (*images.shape[1:], *window, *stride, *fits)
        self._spread_largest(self._xp.ascontiguousarray(delta), chosen, *sizes, images)

    def drop(self, x: Array, seed: int, threshold: int, scale: float) -> tuple[Array, Array]:
        """x times the mask of `Dropout` (0 or `scale`), and the mask."""
        y, mask = self._xp.empty_like(x), self._xp.empty_like(x)
        # NumPy's scalars: CuPy takes a Python integer for an int64.
        self._drop(x, np.uint64(seed), np.uint64(threshold), scale, y, mask)
        return y, mask


@cache
def fused(xp: ModuleType) -> Fused:
    """The kernels for arrays of `xp`, which is not numpy."""
    return Fused(xp)
