"""Sources by their text: which readers they reach, which part is tested on, wrong spellings."""

import gzip
import struct

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.dataserver.source import open_source


def opened(source, test, seed, held_out):
    return open_source(DataSection(source, test, held_out=held_out), seed)


def everything(dataset):
    return dataset.read(np.arange(len(dataset)))


def write_idx(folder, prefix, images, labels):
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        packed = gzip.compress(header + array.tobytes())
        (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(packed)


def pixels(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 4, 5)).astype(np.uint8), (np.arange(n) % 3).astype(np.uint8)


def test_digits_are_split_by_class_and_by_seed():
    split = opened("digits", "", seed=1, held_out=0.2)
    assert (len(split.train), len(split.test)) == (1438, 359)
    assert (split.classes, split.sample_shape) == (10, (8, 8))
    inputs, labels = everything(split.train)
    assert (inputs.dtype, labels.dtype) == (np.float32, np.int64)
    assert (inputs.min(), inputs.max()) == (0.0, 1.0)
    assert set(np.bincount(everything(split.test)[1])) <= {34, 35, 36, 37}
    again = opened("digits", "", seed=1, held_out=0.2)
    np.testing.assert_array_equal(everything(again.test)[0], everything(split.test)[0])
    other = opened("digits", "", seed=2, held_out=0.2)
    assert (everything(other.test)[0] != everything(split.test)[0]).any()


def test_digits_are_those_of_scikit_learn():
    split = opened("digits", "", seed=1, held_out=0.2)
    inputs = np.concatenate([everything(split.train)[0], everything(split.test)[0]]) * 16
    original = load_digits().images
    order = [np.lexsort(images.reshape(1797, 64).T) for images in (inputs, original)]
    np.testing.assert_array_equal(inputs[order[0]], original[order[1]])


def test_idx_uses_its_own_test_files(tmp_path):
    write_idx(tmp_path, "train", *pixels(30))
    write_idx(tmp_path, "t10k", *pixels(6, seed=1))
    split = opened(f"idx:{tmp_path}", "", seed=0, held_out=0.5)
    assert (len(split.train), len(split.test)) == (30, 6)
    assert (split.classes, split.sample_shape) == (3, (4, 5))
    np.testing.assert_array_equal(everything(split.train)[0], pixels(30)[0])
    np.testing.assert_array_equal(everything(split.test)[0], pixels(6, seed=1)[0])


def test_idx_without_test_files_holds_some_out(tmp_path):
    write_idx(tmp_path, "train", *pixels(30))
    split = opened(f"idx:{tmp_path}", "", seed=0, held_out=0.2)
    assert (len(split.train), len(split.test)) == (24, 6)


def test_npz_uses_its_own_test_arrays(tmp_path):
    (x, y), (x_test, y_test) = pixels(9), pixels(4, seed=1)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    split = opened(f"npz:{tmp_path / 'a.npz'}", "", seed=0, held_out=0.2)
    np.testing.assert_array_equal(everything(split.test)[0], x_test)


def test_another_source_is_tested_on_its_test_part_or_all_of_it(tmp_path):
    write_idx(tmp_path, "train", *pixels(30))
    (x, y), (x_test, y_test) = pixels(9), pixels(4, seed=1)
    np.savez(tmp_path / "whole.npz", x=x, y=y)
    np.savez(tmp_path / "part.npz", x_test=x_test, y_test=y_test)
    source = f"idx:{tmp_path}"
    whole = opened(source, f"npz:{tmp_path / 'whole.npz'}", seed=0, held_out=0.2)
    np.testing.assert_array_equal(everything(whole.test)[0], x)
    part = opened(source, f"npz:{tmp_path / 'part.npz'}", seed=0, held_out=0.2)
    np.testing.assert_array_equal(everything(part.test)[0], x_test)
    assert len(part.train) == 30


def test_errors_of_the_test_source_name_its_setting():
    with pytest.raises(UserError) as caught:
        opened("digits", "npz:no.npz", seed=0, held_out=0.2)
    assert str(caught.value) == (
        "data.test = npz:no.npz: expected a file no.npz, it is not there; name one that is there"
    )


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("digit", "did you mean digits?"),
        ("digits:", "did you mean digits?"),
        ("digit:build", "did you mean digits?"),
        ("idxs:/data", "did you mean idx:/data?"),
        ("idx", "did you mean idx:DIR?"),
        ("npz:", "did you mean npz:FILE?"),
        ("mnist.npz", "did you mean npz:mnist.npz?"),
        ("imagenet", "did you mean images:DIR?"),
        ("cinema", "write one of these"),
    ],
)
def test_a_wrong_source_gets_the_nearest_right_one(text, advice):
    with pytest.raises(UserError) as caught:
        opened(text, "", seed=0, held_out=0.2)
    assert str(caught.value) == (
        f"data.source = {text}: expected digits, idx:DIR, cifar:DIR, npz:FILE, images:DIR, "
        f"webdataset:TARS, parquet:FILES, module:attribute or file.py:attribute; {advice}"
    )


def test_a_bare_folder_gets_its_scheme(tmp_path):
    with pytest.raises(UserError) as caught:
        opened(str(tmp_path), "", seed=0, held_out=0.2)
    assert str(caught.value).endswith(f"; did you mean idx:{tmp_path}?")
