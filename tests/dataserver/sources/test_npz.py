"""NumPy archives: what is read, and one sentence for each way a file can be wrong."""

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.sources.npz import read_npz
from dualshard.dataserver.sources.samples import Origin

ORIGIN = Origin("data.source", "npz:FILE")
X = np.arange(4 * 6, dtype=np.float64).reshape(4, 2, 3) / 3
Y = np.array([0, 2, 1, 1])
SAVE = "write it with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data.npz"


def sentence(file, part="train"):
    with pytest.raises(UserError) as caught:
        read_npz(ORIGIN, str(file), part)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("data.source = npz:FILE: expected ")
    return text.removeprefix("data.source = npz:FILE: expected ")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f4"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_floats_become_float32(file, dtype, save):
    save(file, x=X.astype(dtype), y=Y.astype(np.uint16))
    samples = read_npz(ORIGIN, str(file), "train")
    assert samples.inputs.dtype == np.float32
    assert samples.inputs.dtype.isnative
    np.testing.assert_array_equal(samples.inputs, X.astype(dtype).astype(np.float32))
    assert samples.labels.dtype == np.int64
    np.testing.assert_array_equal(samples.labels, Y)
    assert read_npz(ORIGIN, str(file), "test") is None


def test_uint8_stays_and_parts_are_told_apart(file):
    pixels = (X * 10).astype(np.uint8)
    np.savez(file, x_train=pixels, y_train=Y, x_test=pixels[1:], y_test=Y[1:], more=Y)
    train, test = (read_npz(ORIGIN, str(file), part) for part in ("train", "test"))
    assert train.inputs.dtype == np.uint8
    np.testing.assert_array_equal(train.inputs, pixels)
    np.testing.assert_array_equal(test.inputs, pixels[1:])
    np.testing.assert_array_equal(test.labels, Y[1:])


def bad(position, value):
    x = X.copy()
    x[position] = value
    return x


FINITE = "x holds a NaN or infinity (1 samples do); remove or repair these samples"


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({}, f"an array x, the file has neither x nor x_train; {SAVE}"),
        ({"x": X}, f"an array y, the file has only x; {SAVE}"),
        ({"y_train": Y}, f"an array x_train, the file has only y_train; {SAVE}"),
        ({"x": bad((2, 1, 0), np.nan), "y": Y}, f"finite float32 inputs, sample 2 of {FINITE}"),
        ({"x": bad((0, 0, 0), -np.inf), "y": Y}, f"finite float32 inputs, sample 0 of {FINITE}"),
        ({"x": bad((3, 0, 0), 1e300), "y": Y}, f"finite float32 inputs, sample 3 of {FINITE}"),
        (
            {"x": X.astype(np.int64), "y": Y},
            "x of uint8 or a float dtype, it is int64; save x.astype('float32')",
        ),
        (
            {"x": X.astype(complex), "y": Y},
            "x of uint8 or a float dtype, it is complex128; save x.astype('float32')",
        ),
        (
            {"x": Y.astype(float), "y": Y},
            "x of shape (samples, ...), it has (4,); save x.reshape(samples, -1)",
        ),
        (
            {"x": X, "y": Y.astype(float)},
            "y of an integer dtype, it is float64; save y.astype('int64')",
        ),
        (
            {"x": X, "y": np.eye(4, dtype=int)},
            "y of shape (samples,), it has (4, 4); "
            "save y.ravel(), or y.argmax(1) where rows are one-hot",
        ),
        (
            {"x": X, "y": Y[:3]},
            "as many labels as inputs, y holds 3 and x 4; take both from the same data set",
        ),
        (
            {"x": X[:0], "y": Y[:0]},
            "at least one sample, x has the shape (0, 2, 3); name a data set that is not empty",
        ),
        (
            {"x": X, "y": np.array([0, 1, -1, -5])},
            "labels from 0 in y, label 3 is -5; number the classes 0, 1, 2, ...",
        ),
        (
            {"x": X, "y": np.array([0, "a", None, {}], dtype=object)},
            "arrays of numbers, y holds Python objects, which are never loaded; "
            "save y with a numeric dtype",
        ),
    ],
)
def test_bad_arrays_are_refused(file, arrays, expected):
    np.savez(file, **arrays)
    assert sentence(file) == expected


def test_a_missing_file_is_named(file):
    assert sentence(file) == f"a file {file}, it is not there; name one that is there"


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert sentence(tmp_path / "x.npy") == f"an .npz archive, the file holds one array; {SAVE}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "data.npz to be an .npz archive, a zip file, it is empty"),
        (b"hello", "data.npz to be an .npz archive, a zip file, it begins with 68 65 6c 6c"),
        (
            b"PK\x03\x04" + bytes(100),
            "a whole .npz archive, reading it failed (File is not a zip file)",
        ),
    ],
)
def test_other_files_are_refused(file, data, expected):
    file.write_bytes(data)
    assert sentence(file) == f"{expected}; {SAVE}"


def test_a_folder_is_refused(tmp_path):
    assert sentence(tmp_path) == f"{tmp_path} to be readable, it is a folder; name a file in it"


def test_damage_anywhere_is_refused_or_harmless(file):
    np.savez(file, x=X, y=Y)
    whole = file.read_bytes()
    refused = 0
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            samples = read_npz(ORIGIN, str(file), "train")
        except UserError:
            refused += 1
        else:
            np.testing.assert_array_equal(samples.inputs, X.astype(np.float32))
            np.testing.assert_array_equal(samples.labels, Y)
    assert refused > len(whole) // 10
