"""Compiled steps of a convolutional stage over a batch, image by image. No layers.

An image goes through the convolution and all that follows while it is in the cache; only batch
normalisation needs the whole batch in between. So do errors on their way back.
"""

from typing import NamedTuple

import numpy as np

from ....common.compiled import compiled
from ....common.types import Array, Float32
from .conv_kernels import convolve, correlate
from .norm_kernels import add_moments, add_products, lead
from .plane_kernels import add_sums, finish, pad, unfinish, widen


class Plan(NamedTuple):
    """The shape of a stage, and the tables of `convolve` and `correlate`."""

    height: int
    width: int
    inputs: int
    kernel_rows: int
    kernel_columns: int
    stride: int
    padding: int
    outputs: int
    rows: int  # of the convolution's result
    columns: int
    kind: int  # of the activation
    pool: int  # size and stride, 1 for none
    panel: int  # channels of a panel, 16
    places: Array
    bands: Array
    kernel_bands: Array
    back_places: Array
    back_bands: Array
    counting: Array


class Scratch(NamedTuple):
    """What one image needs on its way; belongs to one stage of one thread."""

    wide: Float32  # the image with its sides, empty where the padding is 0
    plane: Float32  # the convolution's result
    panels: Float32  # d(loss) by that, in panels
    back: Float32  # the errors with their sides
    part: Float32  # (2 * outputs,)
    spare: Float32  # one tile


@compiled
def forward(
    n: int,
    plan: Plan,
    scratch: Scratch,
    x: Float32,
    panels: Float32,
    centre: Float32,
    scale: Float32,
    shift: Float32,
    addend: Float32,
    y: Float32,
    choice: Float32,
) -> None:
    """Convolution, scale and shift by channel, addend, activation and pool of n images."""
    many = plan.rows * plan.columns * plan.outputs
    out = many_out(plan)
    for s in range(n):
        _convolve(s, plan, scratch, x, panels, scratch.plane)
        extra = addend[s * many : (s + 1) * many] if addend.size else addend
        finish(
            *(scratch.plane, plan.rows, plan.columns, plan.outputs, centre, scale, shift, extra),
            *(plan.kind, plan.pool, y[s * out : (s + 1) * out], choice[s * out : (s + 1) * out]),
        )


@compiled
def forward_moments(
    n: int,
    plan: Plan,
    scratch: Scratch,
    x: Float32,
    panels: Float32,
    pivot: Float32,
    z: Float32,
    moments: Array,
) -> None:
    """The convolution of n images into z, and the moments of its channels around `pivot`."""
    many = plan.rows * plan.columns * plan.outputs
    moments[:] = 0.0
    for s in range(n):
        part = z[s * many : (s + 1) * many]
        _convolve(s, plan, scratch, x, panels, part)
        add_moments(part, plan.outputs, pivot, scratch.part, moments)


@compiled
def many_out(plan: Plan) -> int:
    """Numbers of one image's result."""
    return (plan.rows // plan.pool) * (plan.columns // plan.pool) * plan.outputs


@compiled
def _convolve(
    s: int,
    plan: Plan,
    scratch: Scratch,
    x: Float32,
    panels: Float32,
    target: Float32,
) -> None:
    image = _widened(s, plan, scratch, x)
    length = plan.kernel_columns * plan.inputs
    across = (plan.width + 2 * plan.padding) * plan.inputs
    convolve(
        *(image, plan.places, plan.bands, across, length, panels),
        *(plan.kernel_rows * length, plan.outputs, target, False, scratch.spare),
    )


@compiled
def _widened(s: int, plan: Plan, scratch: Scratch, x: Float32) -> Float32:
    """Image s with its sides."""
    many = plan.height * plan.width * plan.inputs
    image = x[s * many : (s + 1) * many]
    if plan.padding == 0:
        return image
    pad(image, plan.height, plan.width * plan.inputs, plan.padding * plan.inputs, scratch.wide)
    return scratch.wide


@compiled
def finish_all(
    n: int,
    plan: Plan,
    z: Float32,
    centre: Float32,
    scale: Float32,
    shift: Float32,
    addend: Float32,
    y: Float32,
    choice: Float32,
) -> None:
    """`finish` of n images."""
    many, out = plan.rows * plan.columns * plan.outputs, many_out(plan)
    for s in range(n):
        part = slice(s * many, (s + 1) * many)
        extra = addend[part] if addend.size else addend
        finish(
            *(z[part], plan.rows, plan.columns, plan.outputs, centre, scale, shift, extra),
            *(plan.kind, plan.pool, y[s * out : (s + 1) * out], choice[s * out : (s + 1) * out]),
        )


@compiled
def backward_sums(
    n: int,
    plan: Plan,
    scratch: Scratch,
    z: Float32,
    y: Float32,
    choice: Float32,
    delta: Float32,
    mean: Float32,
    sums: Array,
) -> None:
    """Sums over the batch that the derivative of batch normalisation needs."""
    many = plan.rows * plan.columns * plan.outputs
    sums[:] = 0.0
    for s in range(n):
        _unfinish(s, plan, y, choice, delta, scratch.panels, plan.panel)
        part = z[s * many : (s + 1) * many]
        add_products(scratch.panels, plan.panel, part, plan.outputs, mean, scratch.part, sums)


@compiled
def _unfinish(
    s: int,
    plan: Plan,
    y: Float32,
    choice: Float32,
    delta: Float32,
    target: Float32,
    panel: int,
) -> None:
    out = many_out(plan)
    begin, end = s * out, (s + 1) * out
    unfinish(
        *(delta[begin:end], y[begin:end], choice[begin:end], plan.rows, plan.columns),
        plan.outputs,
        plan.kind,
        plan.pool,
        target,
        panel,
    )


@compiled
def backward(
    n: int,
    plan: Plan,
    scratch: Scratch,
    of_delta: Float32,
    centre: Float32,
    of_z: Float32,
    constant: Float32,
    x: Float32,
    z: Float32,
    y: Float32,
    choice: Float32,
    delta: Float32,
    keep: bool,
    weight: Float32,
    bias: Float32,
    back_panels: Float32,
    source: Float32,
    add: bool,
) -> None:
    """From d(loss)/dy to the gradients of weight and bias, and d(loss)/dx into `source`.

    Arguments:
        of_delta, centre, of_z, constant: where z is not empty, they lead through a batch
            normalisation: see `lead`.
        keep: write what comes before the activation over `delta`, for the addend.
        bias: empty where there is none.
        source: empty where nobody wants it. add: to what it holds.
    """
    many, out = plan.rows * plan.columns * plan.outputs, many_out(plan)
    weight[:] = np.float32(0)
    bias[:] = np.float32(0)
    for s in range(n):
        _unfinish(s, plan, y, choice, delta, scratch.panels, plan.panel)
        if keep:
            kept = delta[s * out : (s + 1) * out]
            _unfinish(s, plan, y, choice, delta, kept, plan.outputs)
        if z.size:
            part, numbers = z[s * many : (s + 1) * many], (of_delta, centre, of_z, constant)
            panels = scratch.panels
            lead(panels, plan.panel, part, plan.outputs, *numbers, panels, False)
        if bias.size:
            add_sums(scratch.panels, plan.rows * plan.columns, plan.outputs, plan.panel, bias)
        _to_weight(s, plan, scratch, x, weight)
        if source.size:
            _to_source(s, plan, scratch, back_panels, source, add)


@compiled
def _to_weight(s: int, plan: Plan, scratch: Scratch, x: Float32, weight: Float32) -> None:
    image = _widened(s, plan, scratch, x)
    across = (plan.width + 2 * plan.padding) * plan.inputs
    correlate(
        *(image, plan.counting, plan.kernel_bands, plan.stride * across),
        *(plan.stride * plan.inputs, plan.kernel_columns * plan.inputs, plan.columns),
        scratch.panels,
        plan.rows * plan.columns,
        plan.outputs,
        weight,
        scratch.spare,
    )


@compiled
def _to_source(
    s: int, plan: Plan, scratch: Scratch, panels: Float32, source: Float32, add: bool
) -> None:
    many = plan.height * plan.width * plan.inputs
    side = plan.kernel_columns - 1 - plan.padding
    shape = plan.rows, plan.columns, plan.outputs
    widen(scratch.panels, *shape, side, plan.stride, scratch.back)
    length = plan.kernel_columns * plan.outputs
    across = (plan.width + plan.kernel_columns - 1) * plan.outputs
    convolve(
        *(scratch.back, plan.back_places, plan.back_bands, across, length, panels),
        *(plan.kernel_rows * length, plan.inputs, source[s * many : (s + 1) * many], add),
        scratch.spare,
    )
