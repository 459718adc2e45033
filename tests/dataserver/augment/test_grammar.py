"""Augmentations: their text, their geometry, one interpolation, the same pixels in any batch."""

import subprocess
import sys

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.augment.affine import Rotate, Shift, Warp
from dualshard.dataserver.augment.warp import warp
from dualshard.dataserver.randomness import Stream

FORMS = "shift:PIXELS, rotate:DEGREES, module:attribute or file.py:attribute"


def streams(n, epoch=0):
    return Stream.of(5, epoch, np.arange(n))


def digits_like(n):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 12, 12)).astype(np.uint8), np.arange(n)


def test_nothing_to_do_is_no_transform():
    assert parse_augment([]) == []


def test_a_list_of_affine_changes_is_one_warp():
    (only,) = parse_augment(["shift:2", "rotate:15", "shift:0.5"])
    assert isinstance(only, Warp)
    assert only.parts == (Shift(2.0), Rotate(15.0), Shift(0.5))


def test_what_stands_between_affine_changes_parts_them(tmp_path):
    (tmp_path / "mine.py").write_text("def same(arrays, random):\n    return arrays\n")
    same = f"{tmp_path}/mine.py:same"
    first, second, third = parse_augment(["shift:2", "rotate:15", same, "rotate:5"])
    assert first.parts == (Shift(2.0), Rotate(15.0))
    assert second.reference == same
    assert third.parts == (Rotate(5.0),)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("shfit:2", "FORMS; did you mean shift:2?"),
        ("rotat", "FORMS; did you mean rotate:DEGREES?"),
        ("shfit:far", "FORMS; did you mean shift:far?"),
        ("blur:3", "FORMS; write one of these"),
        ("", "FORMS; write one of these"),
        ("shift:-3", "shift:PIXELS, PIXELS a number from 0 to 4096; write for example shift:2"),
        ("shift:1e9", "shift:PIXELS, PIXELS a number from 0 to 4096; write for example shift:2"),
        (
            "rotate:abc",
            "rotate:DEGREES, DEGREES a number from 0 to 180; write for example rotate:15",
        ),
        (
            "rotate:nan",
            "rotate:DEGREES, DEGREES a number from 0 to 180; write for example rotate:15",
        ),
        (
            "rotate:181",
            "rotate:DEGREES, DEGREES a number from 0 to 180; write for example rotate:15",
        ),
        ("rotate:", "rotate:DEGREES, DEGREES a number from 0 to 180; write for example rotate:15"),
        (
            "rotate:1:2",
            "rotate:DEGREES, DEGREES a number from 0 to 180; write for example rotate:15",
        ),
    ],
)
def test_bad_text_is_refused_with_the_right_one(text, rest):
    with pytest.raises(UserError) as caught:
        parse_augment(["shift:1", text])
    shown = text or "''"
    assert str(caught.value) == f"data.augment = {shown}: expected {rest.replace('FORMS', FORMS)}"


def test_inputs_that_are_no_images_are_refused():
    with pytest.raises(UserError) as caught:
        Warp([Shift(2.0), Rotate(1.0)])((np.zeros((3, 784), np.float32),), streams(3))
    assert str(caught.value) == (
        "data.augment = shift, rotate: expected samples of shape (height, width) or "
        "(height, width, channels), and they are (784,); leave data.augment empty"
    )


def test_shift_spreads_over_both_directions_and_both_axes():
    moved = Shift(3.0).maps(streams(4000))
    np.testing.assert_array_equal(moved[:, :2, :2], np.broadcast_to(np.eye(2), (4000, 2, 2)))
    for axis in (0, 1):
        assert -3.0 <= moved[:, axis, 2].min() < -2.9
        assert 2.9 < moved[:, axis, 2].max() < 3.0
    assert abs(np.corrcoef(moved[:, 0, 2], moved[:, 1, 2])[0, 1]) < 0.07


def test_rotate_turns_within_its_angle_and_keeps_lengths():
    maps = Rotate(30.0).maps(streams(4000))
    assert maps.dtype == np.float32
    angles = np.degrees(np.arctan2(maps[:, 0, 1], maps[:, 0, 0]))
    assert -30.0 <= angles.min() < -29.5
    assert 29.5 < angles.max() < 30.0
    products = maps[:, :2, :2] @ maps[:, :2, :2].transpose(0, 2, 1)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(2), products.shape), atol=1e-6)


def test_first_change_comes_first():
    """Shift then turn: the composed map of a place is the shift's of the turn's."""
    random = streams(8)
    chain = Warp([Shift(3.0), Rotate(90.0)])
    shift, turn = Shift(3.0).maps(random.child(0)), Rotate(90.0).maps(random.child(1))
    place = np.array([2.0, -1.0, 1.0])
    for i in range(8):
        expected = shift[i].astype(np.float64) @ (turn[i].astype(np.float64) @ place)
        np.testing.assert_allclose(chain.composed(random)[i] @ place, expected, atol=1e-5)


def test_a_chain_interpolates_once():
    images, labels = digits_like(6)
    random = streams(6)
    chain = Warp([Shift(1.5), Rotate(20.0)])
    changed, same_labels = chain((images, labels), random)
    np.testing.assert_array_equal(changed, warp(images, chain.composed(random)[:, :2]))
    assert same_labels is labels
    assert changed.dtype == np.uint8


def test_a_sample_has_the_same_pixels_in_any_batch_and_others_in_the_next_epoch():
    images, labels = digits_like(20)
    (transform,) = parse_augment(["shift:2", "rotate:15"])

    def changed(indices, epoch=0):
        return transform((images[indices], labels[indices]), Stream.of(5, epoch, indices))[0]

    whole = changed(np.arange(20))
    mixed = np.array([13, 2, 19, 7])
    np.testing.assert_array_equal(changed(mixed), whole[mixed])
    for index in range(20):
        np.testing.assert_array_equal(changed(np.array([index]))[0], whole[index])
    assert (changed(mixed, epoch=1) != whole[mixed]).any(axis=(1, 2)).all()


def test_two_equal_parts_of_a_chain_draw_apart():
    chain = Warp([Shift(2.0), Shift(2.0)])
    random = streams(50)
    assert (
        chain.composed(random)[:, :2, 2] != 2 * Shift(2.0).maps(random.child(0))[:, :2, 2]
    ).all()


def test_reading_the_text_does_not_import_numba():
    code = (
        "import sys; from dualshard.dataserver import augment, pipeline, source;"
        "augment.parse_augment(['shift:2']);"
        "print('numba' in sys.modules, 'sklearn' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False False"
