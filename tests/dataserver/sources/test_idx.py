"""IDX files: what is read, and one sentence for each way a file can be wrong."""

import gzip
import struct

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from dualshard.common.errors import UserError
from dualshard.dataserver.sources.idx import read_idx
from dualshard.dataserver.sources.samples import Origin

ORIGIN = Origin("data.source", "idx:DIR")
IMAGES = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
LABELS = np.array([1, 0, 2, 1, 0], dtype=np.uint8)


def idx(array, code=8):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.tobytes()


def fill(folder, images=IMAGES, labels=LABELS, prefix="train"):
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))


def sentence(folder, part="train"):
    with pytest.raises(UserError) as caught:
        read_idx(ORIGIN, str(folder), part)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("data.source = idx:DIR: expected ")
    return text.removeprefix("data.source = idx:DIR: expected ")


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("part", "prefix"), [("train", "train"), ("test", "t10k")])
def test_reads_every_spelling(tmp_path, mark, packed, part, prefix):
    for kind, array in (("images{}idx3", IMAGES), ("labels{}idx1", LABELS)):
        name = f"{prefix}-{kind.format(mark)}-ubyte"
        data = gzip.compress(idx(array)) if packed else idx(array)
        (tmp_path / (f"{name}.gz" if packed else name)).write_bytes(data)
    samples = read_idx(ORIGIN, str(tmp_path), part)
    np.testing.assert_array_equal(samples.inputs, IMAGES)
    np.testing.assert_array_equal(samples.labels, LABELS)
    assert (samples.inputs.dtype, samples.labels.dtype) == (np.uint8, np.int64)


def test_compression_is_read_off_the_bytes(tmp_path):
    """Browsers unpack a download and keep its name, or the reverse."""
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(gzip.compress(idx(LABELS)))
    np.testing.assert_array_equal(read_idx(ORIGIN, str(tmp_path), "train").inputs, IMAGES)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path)
    assert len(read_idx(ORIGIN, "~", "train")) == 5


def test_a_test_part_may_be_missing_but_not_half_of_it(tmp_path):
    fill(tmp_path)
    assert read_idx(ORIGIN, str(tmp_path), "test") is None
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS))
    assert sentence(tmp_path, "test") == (
        "a file t10k-images-idx3-ubyte, t10k-images-idx3-ubyte.gz, t10k-images.idx3-ubyte or "
        f"t10k-images.idx3-ubyte.gz in {tmp_path}, there is none; "
        "put it there, or name the folder that has it"
    )


def test_a_missing_folder_names_the_files_it_should_have(tmp_path):
    assert sentence(tmp_path / "no") == (
        "a file train-images-idx3-ubyte, train-images-idx3-ubyte.gz, train-images.idx3-ubyte or "
        f"train-images.idx3-ubyte.gz in {tmp_path / 'no'}, there is no folder "
        f"{tmp_path / 'no'}; put it there, or name the folder that has it"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            idx(IMAGES)[:-7],
            "train-images-idx3-ubyte to hold 60 bytes after its header (5x3x4), it holds 53; "
            "download the file again",
        ),
        (
            idx(IMAGES) + b"more",
            "train-images-idx3-ubyte to hold 60 bytes after its header (5x3x4), it holds 64; "
            "download the file again",
        ),
        (
            struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
            "train-images-idx3-ubyte to hold 79,228,162,458,924,105,385,300,197,375 bytes after "
            "its header (4294967295x4294967295x4294967295), it holds 0; download the file again",
        ),
        (
            b"\0\0\x08\x03\0",
            "train-images-idx3-ubyte to begin with 16 bytes of IDX header, it has 5 bytes; "
            "download the file again",
        ),
        (
            b"",
            "train-images-idx3-ubyte to begin with 16 bytes of IDX header, it has 0 bytes; "
            "download the file again",
        ),
        (
            b"<!DOCTYPE html><html></html>",
            "train-images-idx3-ubyte to begin with the bytes 00 00 08 03 (IDX, uint8, 3 axes), it "
            "begins with 3c 21 44 4f; name a folder of MNIST-format files",
        ),
        (
            idx(IMAGES.astype(np.float32), code=0x0D),
            "train-images-idx3-ubyte to begin with the bytes 00 00 08 03 (IDX, uint8, 3 axes), it "
            "begins with 00 00 0d 03; name a folder of MNIST-format files",
        ),
        (
            idx(IMAGES[None]),
            "train-images-idx3-ubyte to begin with the bytes 00 00 08 03 (IDX, uint8, 3 axes), it "
            "begins with 00 00 08 04; name a folder of MNIST-format files",
        ),
        (
            idx(IMAGES[:0]),
            "as many labels as inputs, train-labels-idx1-ubyte holds 5 and "
            "train-images-idx3-ubyte 0; take both from the same data set",
        ),
        (
            idx(np.zeros((5, 0, 4), np.uint8)),
            "at least one sample, train-images-idx3-ubyte has the shape (5, 0, 4); "
            "name a data set that is not empty",
        ),
    ],
    ids=["short", "long", "huge", "header", "empty", "html", "float", "axes", "count", "flat"],
)
def test_damaged_images_are_refused(tmp_path, data, expected):
    fill(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(data)
    assert sentence(tmp_path) == expected


def test_an_empty_data_set_is_refused(tmp_path):
    fill(tmp_path, IMAGES[:0], LABELS[:0])
    assert sentence(tmp_path) == (
        "at least one sample, train-images-idx3-ubyte has the shape (0, 3, 4); "
        "name a data set that is not empty"
    )


@pytest.mark.parametrize("keep", [12, -1, -12])
def test_a_truncated_gzip_file_is_refused(tmp_path, keep):
    fill(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(gzip.compress(idx(IMAGES))[:keep])
    text = sentence(tmp_path)
    assert text.startswith("train-images-idx3-ubyte to be a whole gzip file, it is damaged (")
    assert text.endswith("; download the file again")


def test_no_flipped_byte_of_a_gzip_file_is_read_as_other_data(tmp_path):
    fill(tmp_path)
    whole = gzip.compress(idx(IMAGES), mtime=0)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        (tmp_path / "train-images-idx3-ubyte").write_bytes(damaged)
        try:
            samples = read_idx(ORIGIN, str(tmp_path), "train")
        except UserError:
            continue
        # The header's time and system mean nothing; whatever else is read must be right.
        np.testing.assert_array_equal(samples.inputs, IMAGES)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    fill(tmp_path)

    def refuse(files, path, **rest):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "cat_file", refuse)
    assert sentence(tmp_path) == (
        f"{tmp_path}/train-images-idx3-ubyte to be readable, it is not allowed "
        "(Permission denied); "
        "give this user or these credentials access to it"
    )


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    (tmp_path / "train-labels-idx1-ubyte").mkdir()
    assert sentence(tmp_path) == (
        f"{tmp_path}/train-labels-idx1-ubyte to be readable, it is a folder; name a file in it"
    )
