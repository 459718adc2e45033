"""Class folders of images: conventions, decoding against OpenCV's own, damaged and odd files."""

import cv2
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.corrupt import Skipped, read_whole
from dualshard.dataserver.pipeline import Pipeline, Portions
from dualshard.dataserver.source import open_source
from dualshard.dataserver.sources.samples import ArrayDataset


def picture(seed, h=12, w=16, channels=3):
    shape = (h, w, channels) if channels else (h, w)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write(path, image, *options):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image, options)


def folder(place, names, **shape):
    """PNG images at these paths, each of another seed."""
    for seed, name in enumerate(names):
        write(place / name, picture(seed, **shape))


def opened(place, **settings):
    return open_source(DataSection(f"images:{place}", **settings), seed=0)


def everything(dataset):
    return dataset.read(np.arange(len(dataset)))


def sentence(place, **settings):
    with pytest.raises(UserError) as caught:
        everything(opened(place, **settings).train)
    return str(caught.value)


def start(place):
    return f"data.source = images:{place}: expected "


def test_train_and_test_folders_are_its_parts(tmp_path):
    names = ["train/b/2.png", "train/a/1.png", "train/a/0.PNG", "val/b/9.png", "train/a/.x.png"]
    folder(tmp_path, names)
    (tmp_path / "train/a/notes.txt").write_text("no image")
    split = opened(tmp_path)
    inputs, labels = everything(split.train)
    assert (split.classes, split.sample_shape, inputs.dtype) == (2, (12, 16, 3), np.uint8)
    assert labels.tolist() == split.labels.tolist() == [0, 0, 1]
    for row, seed in zip(inputs, (2, 1, 0), strict=True):
        np.testing.assert_array_equal(row, picture(seed)[..., ::-1])  # OpenCV writes BGR
    inputs, labels = everything(split.test)
    np.testing.assert_array_equal(inputs[0], picture(3)[..., ::-1])
    assert labels.tolist() == [1]


def test_bare_class_folders_hold_some_out(tmp_path):
    folder(tmp_path, [f"{name}/{n}.png" for name in "abc" for n in range(5)], channels=0)
    split = opened(tmp_path)
    assert (len(split.train), len(split.test), split.sample_shape) == (12, 3, (12, 16))
    rows = [everything(part) for part in (split.train, split.test)]
    inputs, labels = (np.concatenate(both) for both in zip(*rows, strict=True))
    for seed in range(15):
        (place,) = np.flatnonzero((inputs == picture(seed, channels=0)).all(axis=(1, 2)))
        assert labels[place] == seed // 5


def test_a_grey_image_among_coloured_ones_has_three_channels(tmp_path):
    write(tmp_path / "a/0.png", picture(0, channels=0))
    write(tmp_path / "a/1.png", picture(1))
    write(tmp_path / "a/2.png", picture(2))
    inputs, _ = everything(opened(tmp_path, held_out=0.4).train)
    assert inputs.shape == (2, 12, 16, 3)


def test_resize_scales_by_the_shorter_side_and_cuts_evenly(tmp_path):
    ramp = np.tile(np.arange(120, dtype=np.uint8), (60, 1))[..., None].repeat(3, axis=2)
    for n in range(2):
        write(tmp_path / f"a/{n}.png", ramp)
        write(tmp_path / f"a/up{n}.png", ramp.transpose(1, 0, 2))
    split = opened(tmp_path, resize="20x30")
    inputs, _ = everything(split.train)
    assert inputs.shape == (3, 20, 30, 3)
    # 60x120 covers 20x30 at a third: columns 15 to 105 are seen, three by three.
    wide = inputs[0]
    np.testing.assert_allclose(wide[5, :, 0], 16 + 3.0 * np.arange(30), atol=1)
    assert opened(tmp_path, resize="24").sample_shape == (24, 24, 3)


def test_jpeg_is_decoded_as_opencv_does(tmp_path):
    smooth = cv2.resize(picture(0, 6, 8), (80, 60), interpolation=cv2.INTER_CUBIC)
    for n in range(3):
        write(tmp_path / f"a/{n}.jpg", smooth, cv2.IMWRITE_JPEG_QUALITY, 90)
    inputs, _ = everything(opened(tmp_path).train)
    expected = cv2.imdecode(np.fromfile(tmp_path / "a/0.jpg", np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(inputs[0], expected[..., ::-1])


def test_mixed_sizes_need_a_resize(tmp_path):
    write(tmp_path / "a/0.png", picture(0))
    write(tmp_path / "a/1.png", picture(1, 10, 10))
    write(tmp_path / "a/2.png", picture(2))
    assert sentence(tmp_path, held_out=0.34) == start(tmp_path) + (
        "images of one size, a/1.png is 10x10 and the first is 12x16; set data.resize, for example "
        "to 224"
    )
    assert everything(opened(tmp_path, resize="8", held_out=0.34).train)[0].shape == (2, 8, 8, 3)


def test_an_empty_class_folder_is_named(tmp_path):
    folder(tmp_path, ["train/a/0.png", "test/a/1.png"])
    (tmp_path / "train/b").mkdir()
    assert sentence(tmp_path) == start(tmp_path) + (
        "images in every class folder, train/b has none; remove that folder, or put .jpg, .jpeg, "
        ".png, .bmp, .webp files there"
    )


def test_a_class_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    """What walks through the folders passes over those that it may not read."""
    folder(tmp_path, ["a/0.png", "b/1.png"])
    walk, ls = LocalFileSystem.find, LocalFileSystem.ls

    def find(files, path, **rest):
        return {k: v for k, v in walk(files, path, **rest).items() if "/b/" not in k}

    def listed(files, path, **rest):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return ls(files, path, **rest)

    monkeypatch.setattr(LocalFileSystem, "find", find)
    monkeypatch.setattr(LocalFileSystem, "ls", listed)
    assert sentence(tmp_path) == start(tmp_path) + (
        f"{tmp_path}/b to be readable, it is not allowed (Permission denied); give this user or "
        "these credentials access to it"
    )


def test_names_of_folders_may_hold_spaces_and_any_letters(tmp_path):
    place = tmp_path / "meine Bilder, été"
    folder(place, [f"{name}/{n} [1]*.png" for name in ("chat noir", "ñandú") for n in range(3)])
    split = opened(place)
    assert (len(split.train), len(split.test), split.classes) == (5, 1, 2)
    assert everything(split.train)[0].shape == (5, 12, 16, 3)


def test_no_folder_no_images_and_an_unknown_class_are_refused(tmp_path):
    assert sentence(tmp_path / "no") == start(tmp_path / "no") + (
        f"a folder {tmp_path / 'no'}, it is not there; name one that is there"
    )
    assert sentence(tmp_path) == start(tmp_path) + (
        f"images in class folders in {tmp_path}, there are none; put images in one folder a class, "
        "DIR/CLASS/*.jpg"
    )
    folder(tmp_path, ["train/a/0.png", "test/c/1.png"])
    assert sentence(tmp_path) == start(tmp_path) + (
        "test images of classes that are trained on, test/c/1.png is of c; take both parts from "
        "the same data set"
    )


def test_a_damaged_image_is_named(tmp_path):
    folder(tmp_path, ["a/0.png", "a/1.png", "a/3.png"])
    (tmp_path / "a/2.jpg").write_bytes(b"no image at all")
    assert sentence(tmp_path) == start(tmp_path) + (
        "whole images, a/2.jpg is damaged: it cannot be decoded, 15 bytes; replace or remove it, "
        "or set data.corrupt = skip"
    )


def test_jpegs_and_pngs_that_end_early_are_found(tmp_path):
    """OpenCV alone gives an image whose end is grey."""
    folder(tmp_path, [f"a/{n}.png" for n in range(3)])
    write(tmp_path / "a/3.jpg", picture(9, 64, 64))
    whole = (tmp_path / "a/3.jpg").read_bytes()
    for size in (len(whole) // 2, len(whole) - 2):
        (tmp_path / "a/3.jpg").write_bytes(whole[:size])
        assert sentence(tmp_path) == start(tmp_path) + (
            f"whole images, a/3.jpg is damaged: the JPEG ends early, after {size:,} bytes; replace "
            "or remove it, or set data.corrupt = skip"
        )


def test_damaged_images_are_skipped_named_once_and_harm_no_other(tmp_path):
    folder(tmp_path, [f"train/a/{n}.png" for n in range(6)] + ["test/a/t.png"])
    whole = ArrayDataset(everything(opened(tmp_path).train))
    for n in (0, 4):
        (tmp_path / f"train/a/{n}.png").write_bytes(b"no image")
    split = opened(tmp_path, corrupt="skip")
    transforms = parse_augment(["shift:2"])
    damaged = Pipeline(split.train, transforms, 7, Portions(6, 1))
    clean = Pipeline(whole, transforms, 7, Portions(6, 1))
    seen = []
    for portion in [*range(6), *range(6)]:
        indices, arrays = damaged.portion(1, portion)
        assert len(indices) == len(arrays[0]) == len(arrays[1])
        if len(indices):
            np.testing.assert_array_equal(arrays[0], clean.portion(1, portion)[1][0])
        seen += indices.tolist()
    assert sorted(seen) == [1, 1, 2, 2, 3, 3, 5, 5]
    assert sorted(damaged.skipped.take()) == [
        f"train/a/{n}.png: it cannot be decoded, 8 bytes" for n in (0, 4)
    ]
    assert damaged.skipped.take() == []


def test_a_batch_of_damaged_images_alone_is_empty(tmp_path):
    folder(tmp_path, ["train/a/0.png", "train/a/1.png", "test/a/2.png"])
    (tmp_path / "train/a/0.png").write_bytes(b"")
    train = opened(tmp_path, corrupt="skip").train
    inputs, labels = read_whole(train, np.array([0]), Skipped())
    assert (inputs.shape, labels.shape) == ((0, 12, 16, 3), (0,))
