"""What the recipes of the zoo check in their arguments; every error is one line with a key."""

from collections.abc import Sequence
from math import inf

from ..common.errors import UserError
from .nn.layer import Sample


def count(key: str, value: object, least: int, fix: str) -> None:
    """Refuse what is no whole number of at least `least`."""
    if not _is_count(value, least):
        raise UserError(f"model.args.{key}", value, f"a whole number, {least} or more", fix)


def classes(value: object) -> None:
    """Refuse what is no number of classes."""
    count("classes", value, 2, "give the number of different labels")


def widths(value: Sequence[int]) -> None:
    """Refuse what is no list of the widths of hidden layers."""
    if not isinstance(value, list | tuple):
        raise UserError("model.args.hidden", value, "a list of widths", "write [256, 128]")
    if not all(_is_count(width, 1) for width in value):
        fix = "leave out a layer instead of giving it no units"
        raise UserError("model.args.hidden", list(value), "whole numbers, 1 or more", fix)


def number(key: str, value: object, expected: str, fix: str, below: float = inf) -> None:
    """Refuse what is no number from 0 to below `below`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < below:
        raise UserError(f"model.args.{key}", value, expected, fix)


def flag(key: str, value: object) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise UserError(f"model.args.{key}", value, "true or false", f"write {key} = true")


def image(net: str, shape: Sequence[int], least: int) -> Sample:
    """(height, width, channels) of images of at least `least` pixels each way, for a net by name.

    Raises:
        UserError: the samples are no images, or too small.
    """
    key, fix = "model.args.sample_shape", "use a perceptron (--model mlp) for this data"
    fine = isinstance(shape, list | tuple) and len(shape) in (2, 3)
    if not fine or not all(_is_count(side, 1) for side in shape):
        raise UserError(key, shape, f"(height, width, channels) of images for {net}", fix)
    if min(shape[:2]) < least:
        expected = f"images of at least {least}x{least} for {net}"
        raise UserError(key, tuple(shape), expected, fix)
    return (*shape[:2], shape[2] if len(shape) == 3 else 1)


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
