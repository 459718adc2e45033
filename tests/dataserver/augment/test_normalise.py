"""Normalisation in the list of augmentations: its place, its numbers, its channels."""

import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import Normalise, parse_augment, take_normalise


def test_it_is_taken_off_the_end() -> None:
    transforms = parse_augment(["shift:2", "normalise:0.49/0.48/0.45:0.25/0.24/0.26"])
    found = take_normalise(transforms)
    assert found == Normalise((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    assert len(transforms) == 1
    assert take_normalise(transforms) is None


def test_one_number_stands_for_all_channels() -> None:
    one = Normalise((0.5,), (0.25,))
    assert one.by_channel((32, 32, 3)) == ([0.5] * 3, [0.25] * 3)
    assert one.by_channel((28, 28)) == ([0.5], [0.25])


def test_other_channels_are_refused() -> None:
    with pytest.raises(UserError) as refused:
        Normalise((0.5, 0.4, 0.3), (0.25, 0.2, 0.1)).by_channel((28, 28))
    assert str(refused.value) == (
        "data.augment = normalise:0.5/0.4/0.3:0.25/0.2/0.1: expected one number or 1, for samples "
        "of shape (28, 28), and not 3; write one for each channel, with / between them"
    )


@pytest.mark.parametrize(
    "texts", [["normalise:0.5:0.2", "shift:2"], ["normalise:0.5:0.2", "normalise:0.5:0.2"]]
)
def test_it_stands_last_and_once(texts: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        take_normalise(parse_augment(texts))
    assert str(refused.value) == (
        "data.augment = normalise: expected to stand last, and once: the workers do it, after all "
        "else; move it to the end"
    )


@pytest.mark.parametrize(
    "text",
    ["normalise", "normalise:0.5", "normalise:0.5:0", "normalise:nan:1", "normalise:0.5/0.4:1"],
)
def test_wrong_numbers_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"data.augment = {text}: expected normalise:MEAN:STD, "):
        parse_augment([text])
