"""Augmentations: their text, their geometry, one interpolation, the same pixels in any batch."""

import subprocess
import sys

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.augment.affine import Warp, rotate, shift
from dualshard.dataserver.augment.grammar import NAMES, form
from dualshard.dataserver.augment.warp import warp
from dualshard.dataserver.randomness import Stream

FORMS = ", ".join(form(name) for name in NAMES) + ", module:attribute or file.py:attribute"


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
    assert only.parts == (shift(2.0), rotate(15.0), shift(0.5))


def test_what_stands_between_affine_changes_parts_them(tmp_path):
    (tmp_path / "mine.py").write_text("def same(arrays, random):\n    return arrays\n")
    same = f"{tmp_path}/mine.py:same"
    first, second, third = parse_augment(["shift:2", "rotate:15", same, "rotate:5"])
    assert first.parts == (shift(2.0), rotate(15.0))
    assert second.reference == same
    assert third.parts == (rotate(5.0),)


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
        (
            "scale:1.1:0.9",
            "scale:LOW:HIGH, LOW a number from 0.01 to 100, HIGH a number from 0.01 to 100, "
            "LOW at most HIGH; write for example scale:0.9:1.1",
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
        Warp([shift(2.0), rotate(1.0)])((np.zeros((3, 784), np.float32),), streams(3))
    assert str(caught.value) == (
        "data.augment = shift, rotate: expected samples of shape (height, width) or "
        "(height, width, channels), and they are (784,); leave data.augment empty"
    )


def test_a_chain_interpolates_once():
    images, labels = digits_like(6)
    random = streams(6)
    chain = Warp([shift(1.5), rotate(20.0)])
    changed, same_labels = chain((images, labels), random)
    np.testing.assert_array_equal(changed, warp(images, chain.maps(random)))
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


def test_reading_the_text_does_not_import_numba():
    code = (
        "import sys; from dualshard.dataserver import augment, pipeline, source;"
        "augment.parse_augment(['shift:2']);"
        "print('numba' in sys.modules, 'sklearn' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False False"
