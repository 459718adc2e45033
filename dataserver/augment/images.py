"""What every augmentation of images asks of its inputs. Pure."""

from collections.abc import Sequence

from ...common.errors import UserError
from ...common.types import Array, Arrays


def images_of(arrays: Arrays, names: Sequence[str]) -> Array:
    """The inputs, (n, height, width) or with channels last, for the augmentations `names`.

    Raises:
        UserError: they are no images.
    """
    images = arrays[0]
    if images.ndim not in (3, 4):
        raise UserError(
            "data.augment",
            ", ".join(names),
            "samples of shape (height, width) or (height, width, channels), "
            f"and they are {images.shape[1:]}",
            "leave data.augment empty",
        )
    return images
