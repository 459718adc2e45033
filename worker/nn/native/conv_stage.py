"""A convolution with all that follows it at once: normalisation, addend, pool, activation."""

from math import prod

import numpy as np

from ....common.types import Float32
from ..convolution import Conv2D
from ..layer import Sample
from .conv_kernels import pack_reversed
from .geometry import bands, kernel_bands, patches
from .image_kernels import (
    Plan,
    Scratch,
    backward,
    backward_sums,
    finish_all,
    forward,
    forward_moments,
)
from .interpreter import LINEAR
from .norm_stage import Normaliser
from .plane_kernels import to_panels
from .stage import EMPTY, Buffer, Pass, Span, Stage
from .tiles import COLUMNS, ROWS


def can_convolve(layer: Conv2D) -> bool:
    """Whether `ConvStage` takes this convolution."""
    (down, across), (high, wide) = layer.stride, layer.kernel
    return down == across and layer.padding[0] < high and layer.padding[1] < wide


def make_plan(layer: Conv2D, image: Sample, kind: int, pool: int) -> Plan:
    """The tables for a layer `can_convolve` says yes to, on images (height, width, channels)."""
    (height, width, inputs), stride = image, layer.stride[0]
    (high, wide), (above, side) = layer.kernel, layer.padding
    rows, columns, outputs = layer.outputs(image)
    across = width + 2 * side
    back = high - 1 - above, (rows - 1) * stride + 1
    return Plan(
        *(height, width, inputs, high, wide, stride, side, outputs, rows, columns, kind, pool),
        panel=COLUMNS,
        places=patches(rows, columns, stride, above, across, inputs),
        bands=bands(rows, columns, stride, above, high, height),
        kernel_bands=kernel_bands(rows, stride, above, high, height, across * inputs),
        back_places=patches(height, width, 1, back[0], width + wide - 1, outputs),
        back_bands=bands(height, width, 1, back[0], high, back[1]),
        counting=np.arange(wide * inputs, dtype=np.int64),
    )


class ConvStage(Stage):
    """Conv2D, then what is there of BatchNorm, MaxPool and an activation, in the order of `finish`.

    The weight is packed at each pass, as it may change between any two.
    """

    def __init__(
        self, plan: Plan, weight: Span, bias: Span | None, norm: Normaliser | None
    ) -> None:
        self._plan, self._weight, self._bias, self._norm = plan, weight, bias, norm
        self.begin, self.adds = weight[0], plan.pool == 1
        self.linear = plan.kind == LINEAR
        outputs = plan.outputs
        self._products = plan.kernel_rows * plan.kernel_columns * plan.inputs
        self._panels = np.zeros(self._products * _full(outputs), np.float32)
        self._back = np.zeros(
            plan.kernel_rows * plan.kernel_columns * outputs * _full(plan.inputs), np.float32
        )
        self._scratch = _scratch(plan)
        self._zero, self._shift = np.zeros((2, outputs), np.float32)
        self._one = np.ones(outputs, np.float32)
        many, pooled = plan.rows * plan.columns * outputs, _pooled(plan)
        self._z, self._y = Buffer(many), Buffer(pooled)
        self._choice = Buffer(pooled if plan.pool > 1 else 0)

    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        plan, n, norm = self._plan, work.samples, self._norm
        to_panels(work.parameters[slice(*self._weight)], self._products, plan.outputs, self._panels)
        y, choice = self._y.take(n), self._choice.take(n)
        self._x = x
        if self._bias is not None:
            self._shift[:] = work.parameters[slice(*self._bias)]
        if norm is None:
            numbers = self._zero, self._one, self._shift
            forward(*(n, plan, self._scratch, x, self._panels, *numbers, addend, y, choice))
        elif work.rng is None:
            norm.recall(work, self._shift)
            numbers = norm.mean, norm.scale, norm.shift
            forward(*(n, plan, self._scratch, x, self._panels, *numbers, addend, y, choice))
        else:
            z = self._z.take(n)
            norm.begin(work)
            forward_moments(n, plan, self._scratch, x, self._panels, norm.pivot, z, norm.moments)
            norm.settle(work, n * plan.rows * plan.columns, self._shift)
            numbers = norm.mean, norm.scale, norm.shift
            finish_all(n, plan, z, *numbers, addend, y, choice)
        return y

    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool, keep: bool = False
    ) -> None:
        plan, n, norm = self._plan, work.samples, self._norm
        y, choice, z, numbers = self._y.take(n), self._choice.take(n), EMPTY, (EMPTY,) * 4
        if norm is not None:
            z = self._z.take(n)
            backward_sums(n, plan, self._scratch, z, y, choice, delta, norm.mean, norm.moments)
            norm.lead_back(work, n * plan.rows * plan.columns)
            numbers = norm.scale, norm.mean, norm.of_z, norm.constant
        if source.size:
            taps = plan.kernel_rows * plan.kernel_columns
            shape = taps, plan.inputs, plan.outputs
            pack_reversed(work.parameters, self._weight[0], *shape, self._back)
        weight, bias = work.gradients[slice(*self._weight)], self._bias_of(work.gradients)
        backward(
            *(n, plan, self._scratch, *numbers, self._x, z, y, choice, delta),
            *(keep, weight, bias, self._back, source, add),
        )

    def _bias_of(self, flat: Float32) -> Float32:
        return EMPTY if self._bias is None else flat[slice(*self._bias)]


def _full(columns: int) -> int:
    """`columns` rounded up to whole panels."""
    return -(-columns // COLUMNS) * COLUMNS


def _pooled(plan: Plan) -> int:
    return prod((plan.rows // plan.pool, plan.columns // plan.pool, plan.outputs))


def _scratch(plan: Plan) -> Scratch:
    """Zeros: the sides of images are never written."""
    pixels, outputs = plan.rows * plan.columns, plan.outputs
    wide = plan.height * (plan.width + 2 * plan.padding) * plan.inputs if plan.padding else 0
    spread = (plan.rows - 1) * plan.stride + 1
    back = spread * (plan.width + plan.kernel_columns - 1) * outputs
    sizes = (
        wide,
        pixels * outputs,
        pixels * _full(outputs),
        back,
        2 * outputs,
        ROWS * COLUMNS,
    )
    return Scratch(*(np.zeros(size, np.float32) for size in sizes))
