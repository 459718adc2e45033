"""The convolution of images. Nothing else."""

from collections.abc import Iterator

import numpy as np

from ...common.errors import UserError
from ...common.types import Array
from ..model import Shapes
from .fused import LINEAR, fused
from .initialisers import Initialiser, he_normal
from .layer import Layer, Named, Sample
from .windows import Pair, bordered, counts, image_of, images_of, inner, pair, places

_COLUMNS = 2**20
"""Elements of the columns of one chunk (4 MiB): a few images, so that they stay in the cache."""

_DEVICE_COLUMNS = 2**28
"""The same on a GPU (1 GiB), where one large product is faster than several small ones."""


class Conv2D(Layer):
    """Each output is a weighted sum of a window of all input channels, the same at every place.

    y[n, r, s, f] = bias[f] + sum over i, j, c of x[n, r stride + i - padding, s stride + j -
    padding, c] weight[i, j, c, f], and x is zero beyond its border (a cross-correlation, as
    everywhere in the field; V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep
    learning", 2016, relationship 6, for the sizes).

    weight (kernel height, kernel width, inputs, outputs), bias (outputs,), zero at the start.
    Images (n, h, w, inputs) become (n, (h + 2 padding - kernel) // stride + 1, likewise, outputs).
    Windows are copied into rows, a few images at a time, and multiplied as one matrix ("im2col":
    K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for document
    processing", 2006); `backward` copies them again instead of keeping them.
    """

    noun = "conv2d"

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        bias: bool = True,
        initialiser: Initialiser = he_normal,
    ) -> None:
        """`inputs` and `outputs` count channels. Sizes are whole, or (height, width).

        Raises:
            UserError: a size is out of range.
        """
        self.inputs, self.filters = inputs, outputs
        self.kernel = pair("Conv2D.kernel", kernel, 1)
        self.stride = pair("Conv2D.stride", stride, 1)
        self.padding = pair("Conv2D.padding", padding, 0)
        self.bias, self.initialiser = bias, initialiser

    def shapes(self) -> Shapes:
        weight = (*self.kernel, self.inputs, self.filters)
        return {"weight": weight, "bias": (self.filters,)} if self.bias else {"weight": weight}

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        parameters["weight"][...] = self.initialiser(self.shapes()["weight"], rng)
        if self.bias:
            parameters["bias"][...] = 0

    def outputs(self, sample: Sample) -> Sample:
        height, width, channels = image_of("Conv2D", sample)
        if channels != self.inputs:
            raise UserError(
                "Conv2D.inputs",
                self.inputs,
                f"{channels}, the channels of a sample of shape {sample}",
                f"write Conv2D({channels}, {self.filters}, ...)",
            )
        return (*self._fits(height, width), self.filters)

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        self._shape = inputs.shape
        images = images_of(inputs)
        count, height, width, _ = images.shape
        self._images, self._windows = (
            bordered(self.xp, images, self.padding),
            self._fits(height, width),
        )
        outputs: Array = self.xp.empty((count, *self._windows, self.filters), inputs.dtype)
        weight = parameters["weight"].reshape(-1, self.filters)
        for part in self._chunks(count):
            rows = outputs[part].reshape(-1, self.filters)
            self.xp.matmul(self._columns(part), weight, out=rows)
        if self.bias and self.xp is not np:
            fused(self.xp).activate(self.behind or LINEAR, outputs, parameters["bias"])
        elif self.bias:
            outputs += parameters["bias"]
        return outputs

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        weight = parameters["weight"].reshape(-1, self.filters)
        gradient, source = self.xp.zeros_like(weight), self.xp.zeros_like(self._images)
        for part in self._chunks(len(delta)):
            rows = delta[part].reshape(-1, self.filters)
            gradient += self._columns(part).T @ rows
            if not self.unwanted:
                self._spread(rows @ weight.T, source[part])
        gradients["weight"][...] = gradient.reshape(parameters["weight"].shape)
        if self.bias:
            total = self.xp.sum(delta, axis=(0, 1, 2), dtype=np.float64)  # many terms: see norm.py
            gradients["bias"][...] = total
        return inner(source, self.padding).reshape(self._shape)

    def _fits(self, height: int, width: int) -> Pair:
        """The size of the output of an image."""
        image = (height + 2 * self.padding[0], width + 2 * self.padding[1])
        return counts("Conv2D.kernel", image, self.kernel, self.stride)

    def _chunks(self, count: int) -> Iterator[slice]:
        """Slices of `count` images whose columns are at most `_COLUMNS` elements."""
        (down, across), (high, wide) = self._windows, self.kernel
        most = _COLUMNS if self.xp is np else _DEVICE_COLUMNS
        step = max(1, most // (down * across * high * wide * self.inputs))
        return (slice(begin, begin + step) for begin in range(0, count, step))

    def _columns(self, part: slice) -> Array:
        """The windows of some images, one a row: (images * windows, kernel * channels)."""
        images = self._images[part]
        if self.xp is not np:
            rows = fused(self.xp).columns(images, self.kernel, self.stride, self._windows)
            return rows.reshape(-1, self.kernel[0] * self.kernel[1] * self.inputs)
        shape = (len(images), *self._windows, *self.kernel, self.inputs)
        columns: Array = self.xp.empty(shape, images.dtype)
        for i, j, down, across in places(self.kernel, self.stride, self._windows):
            columns[:, :, :, i, j] = images[:, down, across]
        return columns.reshape(-1, self.kernel[0] * self.kernel[1] * self.inputs)

    def _spread(self, columns: Array, images: Array) -> None:
        """Add each row of `columns` to the window that it came from: `_columns` backwards."""
        if self.xp is not np:
            fused(self.xp).spread(columns, images, self.kernel, self.stride, self._windows)
            return
        windows = columns.reshape(len(images), *self._windows, *self.kernel, self.inputs)
        for i, j, down, across in places(self.kernel, self.stride, self._windows):
            images[:, down, across] += windows[:, :, :, i, j]
