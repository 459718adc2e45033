"""Pooling: one number in place of a window, channel by channel. No parameters.

Images (n, h, w, c) become (n, (h - size) // stride + 1, likewise, c); see `windows.py`.
"""

from abc import abstractmethod

import numpy as np

from ...common.types import Array
from .fused import fused
from .layer import Layer, Named, Sample
from .windows import Pair, counts, image_of, images_of, pair, places


class Pool(Layer):
    """What the kinds of pooling share: windows of `size` pixels that move by `stride`."""

    def __init__(self, size: int | Pair, stride: int | Pair | None = None) -> None:
        """`stride` is `size` where it is not given: windows side by side.

        Raises:
            UserError: a size is out of range.
        """
        name = type(self).__name__
        self.size = pair(f"{name}.size", size, 1)
        self.stride = self.size if stride is None else pair(f"{name}.stride", stride, 1)

    def outputs(self, sample: Sample) -> Sample:
        height, width, channels = image_of(type(self).__name__, sample)
        return (*self._fits(height, width), channels)

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        self._shape = inputs.shape
        images = images_of(inputs)
        self._windows = self._fits(*images.shape[1:3])
        return self.pooled(images)

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        source: Array = self.xp.zeros(self._shape, delta.dtype)
        self.spread(delta, images_of(source))
        return source

    @abstractmethod
    def pooled(self, images: Array) -> Array:
        """Outputs of images (n, h, w, c)."""

    @abstractmethod
    def spread(self, delta: Array, source: Array) -> None:
        """Add d(loss)/d(images) to `source`, zeros in the shape of the images."""

    def _fits(self, height: int, width: int) -> Pair:
        key = f"{type(self).__name__}.size"
        return counts(key, (height, width), self.size, self.stride)

    def _places(self) -> list[tuple[slice, slice]]:
        """The pixels at each place of a window, for all windows."""
        return [
            (down, across) for _, _, down, across in places(self.size, self.stride, self._windows)
        ]


class MaxPool(Pool):
    """The largest number of each window. The first of equals, row by row, gets all of the delta.

    A window that holds NaN gives NaN, and its delta goes to the last NaN, as in PyTorch.
    """

    noun = "maxpool"

    def pooled(self, images: Array) -> Array:
        xp = self.xp
        if xp is not np:
            found = fused(xp).largest(images, self.size, self.stride, self._windows)
            largest, self._chosen = found
            return largest
        (down, across), *others = self._places()
        largest = images[:, down, across].copy()
        self._chosen = xp.zeros(largest.shape, np.int32)
        for place, (down, across) in enumerate(others, 1):
            values = images[:, down, across]
            better = (values > largest) | (values != values)
            largest = xp.where(better, values, largest)
            self._chosen[better] = place
        return largest

    def spread(self, delta: Array, source: Array) -> None:
        if self.xp is not np:
            arrays = delta, self._chosen, source
            fused(self.xp).spread_largest(*arrays, self.size, self.stride, self._windows)
            return
        zero = delta.dtype.type(0)
        for place, (down, across) in enumerate(self._places()):
            source[:, down, across] += self.xp.where(self._chosen == place, delta, zero)


class AveragePool(Pool):
    """The mean of each window."""

    noun = "averagepool"

    def pooled(self, images: Array) -> Array:
        (down, across), *others = self._places()
        total: Array = images[:, down, across].copy()
        for down, across in others:
            total += images[:, down, across]
        return total / self._area()

    def spread(self, delta: Array, source: Array) -> None:
        share = delta / self._area()
        for down, across in self._places():
            source[:, down, across] += share

    def _area(self) -> int:
        return self.size[0] * self.size[1]


class GlobalAveragePool(Layer):
    """The mean of each channel over the whole image: (n, h, w, c) becomes (n, c).

    M. Lin, Q. Chen, S. Yan, "Network in network", ICLR 2014, section 3.2.
    """

    noun = "globalaveragepool"

    def outputs(self, sample: Sample) -> Sample:
        return (image_of("GlobalAveragePool", sample)[-1],)

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        self._shape = inputs.shape
        means: Array = images_of(inputs).mean(axis=(1, 2))
        return means

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        _, height, width, *_ = self._shape
        source: Array = self.xp.empty(self._shape, delta.dtype)
        images_of(source)[...] = (delta / (height * width))[:, None, None]
        return source
