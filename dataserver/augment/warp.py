"""The affine warp of a batch of images, compiled. Only the kernel and its call may live here.

Each output pixel looks up one place of its input image and interpolates there (bilinear); outside
of the image there are zeros.
"""

import numpy as np

from ...common.compiled import compiled
from ...common.types import Array, Float32


def warp(images: Array, maps: Float32) -> Array:
    """New images, of the shape and dtype of `images`. Any thread may call it; releases the GIL.

    Arguments:
        images: (n, height, width) or (n, height, width, channels); uint8 (the result is rounded to
            the nearest) or float32.
        maps: (n, 2, 3) float32; from a place (x, y, 1) of the output image to the place (x, y) of
            the input image, both in pixels from the centre, x to the right and y downwards.
    """
    assert images.dtype in (np.uint8, np.float32)
    assert maps.dtype == np.float32
    assert maps.shape == (len(images), 2, 3)
    images, maps = np.ascontiguousarray(images), np.ascontiguousarray(maps)
    warped = np.empty_like(images)
    channels = images.shape[3] if images.ndim == 4 else 1
    shape = (*images.shape[:3], channels)
    rounding = np.float32(0.5 if images.dtype == np.uint8 else 0.0)
    _warp(images.reshape(shape), maps, warped.reshape(shape), rounding)
    return warped


@compiled
def _warp(images: Array, maps: Float32, warped: Array, rounding: np.float32) -> None:
    """Write `images`, looked up through `maps`, to `warped`; storing to uint8 truncates.

    A plane is copied between zeros, one pixel before and two behind, and places are clamped to
    that border: so the inner loop needs no branch, and the compiler makes vectors of it.
    """
    n, height, width, channels = images.shape
    plane = np.zeros((height + 3, width + 3), np.float32)
    row = np.empty(width, np.float32)
    zero, right, bottom = np.float32(0), np.float32(width + 1), np.float32(height + 1)
    centre_x, centre_y = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    for i in range(n):
        xx, xy, x_shift = maps[i, 0]
        yx, yy, y_shift = maps[i, 1]
        for channel in range(channels):
            for y in range(height):
                for x in range(width):
                    plane[y + 1, x + 1] = images[i, y, x, channel]
            for y in range(height):
                from_centre_y = np.float32(y) - centre_y
                row_x = xy * from_centre_y + (x_shift + centre_x + np.float32(1))
                row_y = yy * from_centre_y + (y_shift + centre_y + np.float32(1))
                for x in range(width):
                    from_centre_x = np.float32(x) - centre_x
                    place_x = min(max(xx * from_centre_x + row_x, zero), right)
                    place_y = min(max(yx * from_centre_x + row_y, zero), bottom)
                    left, top = np.int32(place_x), np.int32(place_y)
                    part_x, part_y = place_x - np.float32(left), place_y - np.float32(top)
                    above, below = plane[top, left], plane[top + 1, left]
                    above += part_x * (plane[top, left + 1] - above)
                    below += part_x * (plane[top + 1, left + 1] - below)
                    row[x] = above + part_y * (below - above) + rounding
                for x in range(width):
                    warped[i, y, x, channel] = row[x]
