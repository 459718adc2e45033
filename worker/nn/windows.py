"""Windows that slide over images: sizes and places. What is done in a window is not known here.

Images are (n, height, width, channels). A window of (a, b) pixels moves by `stride`; it lies within
the image, so that a last part narrower than the stride is met by none (as in PyTorch).
"""

from collections.abc import Iterator
from types import ModuleType

from ...common.errors import UserError
from ...common.types import Array
from .layer import Sample

Pair = tuple[int, int]
"""Height and width: of a window, a stride, a border."""


def pair(key: str, value: int | Pair, least: int) -> Pair:
    """`value` for height and width; one number means both.

    Raises:
        UserError: naming `key`, where it is no whole number of at least `least`, nor two of them.
    """
    both = (value, value) if isinstance(value, int) else value
    fine = isinstance(both, tuple | list) and len(both) == 2
    if not fine or not all(type(side) is int and side >= least for side in both):
        fix = f"write {max(least, 1)}, or ({max(least, 1)}, {max(least, 1)}) for height and width"
        raise UserError(key, value, f"a whole number of {least} or more, or two", fix)
    return both[0], both[1]


def image_of(key: str, sample: Sample) -> tuple[int, int, int]:
    """Height, width and channels of a sample; `key` names the layer in the error.

    Raises:
        UserError: it has neither two axes (one channel) nor three.
    """
    if len(sample) not in (2, 3):
        fix = "put it before Flatten and Dense, and give the net sample_shape=(height, width, 1)"
        raise UserError(key, f"a sample of shape {sample}", "(height, width, channels)", fix)
    height, width, *channels = sample
    return height, width, channels[0] if channels else 1


def images_of(inputs: Array) -> Array:
    """Inputs as (n, height, width, channels): a missing axis of channels is added."""
    return inputs[..., None] if inputs.ndim == 3 else inputs


def counts(key: str, image: Pair, window: Pair, stride: Pair) -> Pair:
    """How many windows fit into an image, downwards and across.

    Raises:
        UserError: naming `key`, where the window is larger than the image.
    """
    if window[0] > image[0] or window[1] > image[1]:
        fix = "use larger images, a smaller window, or fewer layers that shrink before it"
        expected = f"at most the image of {image[0]}x{image[1]} that reaches it, border included"
        raise UserError(key, f"{window[0]}x{window[1]}", expected, fix)
    down, across = ((image[k] - window[k]) // stride[k] + 1 for k in (0, 1))
    return down, across


def places(window: Pair, stride: Pair, fits: Pair) -> Iterator[tuple[int, int, slice, slice]]:
    """For each place (i, j) in a window, row by row, the rows and columns it meets in all windows.

    `fits` is what `counts` gave.
    """
    for i in range(window[0]):
        for j in range(window[1]):
            down = slice(i, i + stride[0] * (fits[0] - 1) + 1, stride[0])
            across = slice(j, j + stride[1] * (fits[1] - 1) + 1, stride[1])
            yield i, j, down, across


def bordered(xp: ModuleType, images: Array, border: Pair) -> Array:
    """Images with `border` rows and columns of zeros on each side; the same array without any."""
    if border == (0, 0):
        return images
    padded: Array = xp.pad(images, ((0, 0), (border[0],) * 2, (border[1],) * 2, (0, 0)))
    return padded


def inner(images: Array, border: Pair) -> Array:
    """Bordered images without their border: a view."""
    (top, left), (_, height, width, _) = border, images.shape
    return images[:, top : height - top, left : width - left]
