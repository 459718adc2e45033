"""Normalisation: named with the augmentations, done by the workers.

So images travel as bytes, a quarter of what float32 takes, and the same scale holds for training,
testing and `dualshard evaluate`.
"""

from dataclasses import dataclass

from ...common.cluster import channels_of
from ...common.errors import UserError
from ...common.types import Arrays
from ..dataset import Transform
from ..randomness import Stream


@dataclass(frozen=True, slots=True)
class Normalise:
    """(x - mean) / std by channel, of inputs scaled to [0, 1]; one number stands for all channels.

    Raises:
        ValueError: other numbers of means and of deviations.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError("as many MEAN as STD")

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """Nothing: the workers do it."""
        return arrays

    def by_channel(self, shape: tuple[int, ...]) -> tuple[list[float], list[float]]:
        """Mean and deviation of each channel of samples of `shape`.

        Raises:
            UserError: the samples have another number of channels.
        """
        channels = channels_of(shape)
        if len(self.mean) not in (1, channels):
            raise UserError(
                "data.augment",
                f"normalise:{'/'.join(f'{mean:g}' for mean in self.mean)}:"
                f"{'/'.join(f'{std:g}' for std in self.std)}",
                f"one number or {channels}, for samples of shape {shape}, and not {len(self.mean)}",
                "write one for each channel, with / between them",
            )
        return list(self.mean * channels)[:channels], list(self.std * channels)[:channels]


def take_normalise(transforms: list[Transform]) -> Normalise | None:
    """The normalisation at the end of a list, taken off it; None if there is none.

    Raises:
        UserError: it stands before others.
    """
    last = transforms[-1] if transforms else None
    if not isinstance(last, Normalise):
        last = None
    else:
        transforms.pop()
    if any(isinstance(transform, Normalise) for transform in transforms):
        raise UserError(
            "data.augment",
            "normalise",
            "to stand last, and once: the workers do it, after all else",
            "move it to the end",
        )
    return last
