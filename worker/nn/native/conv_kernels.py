"""Compiled convolutions of one image, forward and backward. No layers, no buffers of its own.

Images are (height, width, channels), weights (kernel height, kernel width, inputs, outputs): see
`tiles` for why nothing has to be rearranged. What is packed is the right matrix of each product,
into panels of 16 columns, so that a tile reads it in one go; the last panel is filled with zeros.

Borders: an image is widened by zeros on its left and right alone. Rows above and below are left
out of the sums instead (the table of bands), which saves their products.

Every array is flat and every size a number of elements. Nothing is checked here.
"""

import numpy as np

from ....common.compiled import compiled
from ....common.types import Array, Float32
from .tiles import COLUMNS, ROWS, alone, tile
from .vectors import LANES

# The columns of a table of bands: the output pixels [FIRST, FIRST + COUNT) see the rows
# [KERNEL_ROW, KERNEL_ROW + RUNS) of the kernel inside of the image, and no other.
FIRST, COUNT, KERNEL_ROW, RUNS = range(4)

_ZERO = np.float32(0)


@compiled
def multiply(
    rows: int,
    columns: int,
    a: Float32,
    places: Array,
    first: int,
    shift: int,
    runs: int,
    run_step: int,
    length: int,
    step: int,
    b: Float32,
    b_begin: int,
    b_step: int,
    c: Float32,
    c_begin: int,
    c_step: int,
    add: bool,
    spare: Float32,
) -> None:
    """C = A B or C += A B for any number of rows and 1 to 16 columns; the rest as in `tile`.

    `spare` (ROWS * COLUMNS,) takes tiles whose columns do not fill vectors. B must be readable for
    full vectors all the same.
    """
    alone()
    direct = columns % LANES == 0
    target = c if direct else spare
    target_step = c_step if direct else COLUMNS
    vectors, old_too = (columns + LANES - 1) // LANES, add and direct
    for i in range(0, rows, ROWS):
        m = min(ROWS, rows - i)
        goal = c_begin + i * c_step
        begin = goal if direct else 0
        tile(
            *(m, vectors, a, places, first + i, shift, runs, run_step, length, step),
            *(b, b_begin, b_step, target, begin, target_step, old_too),
        )
        if not direct:
            for row in range(m):
                for j in range(columns):
                    old = c[goal + row * c_step + j] if add else _ZERO
                    c[goal + row * c_step + j] = old + spare[row * COLUMNS + j]


@compiled
def convolve(
    image: Float32,
    places: Array,
    bands: Array,
    run_step: int,
    length: int,
    panels: Float32,
    products: int,
    outputs: int,
    target: Float32,
    add: bool,
    spare: Float32,
) -> None:
    """One image through a kernel: target (pixels, outputs).

    Arguments:
        image: with its sides.
        places: of each output pixel, where its patch begins, row 0 of the kernel included.
        bands: (bands, 4), every output pixel in one of them.
        run_step, length: from one row of the image to the next; kernel width times channels.
        panels: the weights, `products` rows each (see `pack`).
        add: to what the target holds, instead of over it.
    """
    alone()
    for j in range(0, outputs, COLUMNS):
        columns = min(COLUMNS, outputs - j)
        for band in bands:
            first, count, row, runs = band[FIRST], band[COUNT], band[KERNEL_ROW], band[RUNS]
            goal = first * outputs + j
            if runs > 0:
                multiply(
                    *(count, columns, image, places, first, row * run_step),
                    *(runs, run_step, length, 1),
                    *(panels, j * products + row * length * COLUMNS, COLUMNS),
                    target,
                    goal,
                    outputs,
                    add,
                    spare,
                )
            elif not add:
                for pixel in range(count):
                    for k in range(columns):
                        target[goal + pixel * outputs + k] = _ZERO


@compiled
def correlate(
    image: Float32,
    counting: Array,
    bands: Array,
    run_step: int,
    step: int,
    length: int,
    width: int,
    delta: Float32,
    pixels: int,
    outputs: int,
    gradient: Float32,
    spare: Float32,
) -> None:
    """Add one image's part to the gradient of a kernel, (kernel rows * length, outputs).

    Arguments:
        image: as in `convolve`.
        counting: 0, 1, 2 and so on, `length` of them or more.
        bands: of each row of the kernel, (first output row, output rows that meet the image there,
            where in the image the first of them reads).
        run_step, step: in the image, between the patches of two output rows, and of two pixels.
        width: pixels of an output row.
        delta: d(loss)/d(outputs) in panels of `pixels` rows.
    """
    alone()
    for j in range(0, outputs, COLUMNS):
        columns = min(COLUMNS, outputs - j)
        for row in range(len(bands)):
            first, count, top = bands[row, 0], bands[row, 1], bands[row, 2]
            goal = row * length * outputs + j
            if count > 0:
                multiply(
                    *(length, columns, image, counting, 0, top),
                    *(count, run_step, width, step),
                    *(delta, (j // COLUMNS) * pixels * COLUMNS + first * width * COLUMNS, COLUMNS),
                    gradient,
                    goal,
                    outputs,
                    True,
                    spare,
                )


@compiled
def pack_reversed(
    weight: Float32, begin: int, taps: int, inputs: int, outputs: int, panels: Float32
) -> None:
    """The kernel that leads errors back: taps in reverse order, inputs and outputs exchanged; as
    panels of 16 inputs with (taps * outputs) rows."""
    for j in range(0, inputs, COLUMNS):
        count = min(COLUMNS, inputs - j)
        for tap in range(taps):
            source = begin + ((taps - 1 - tap) * inputs + j) * outputs
            target = (j * taps + tap * COLUMNS) * outputs
            for o in range(outputs):
                for k in range(count):
                    panels[target + o * COLUMNS + k] = weight[source + k * outputs + o]
                for k in range(count, COLUMNS):
                    panels[target + o * COLUMNS + k] = _ZERO
