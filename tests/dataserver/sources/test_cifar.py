"""CIFAR in its binary version: what is read, and one sentence for each way it can be wrong."""

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.sources.cifar import read_cifar
from dualshard.dataserver.sources.samples import Origin

ORIGIN = Origin("data.source", "cifar:DIR")


def record(labels, seed):
    """A record, and its image: the planes are written one after the other."""
    image = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    planes = b"".join(image[:, :, channel].tobytes() for channel in range(3))
    return bytes(labels) + planes, image


def ten(folder):
    for n in range(1, 6):
        (folder / f"data_batch_{n}.bin").write_bytes(record([n], n)[0])


def sentence(folder):
    with pytest.raises(UserError) as caught:
        read_cifar(ORIGIN, str(folder), "train")
    return str(caught.value).removeprefix("data.source = cifar:DIR: expected ")


def test_cifar_10_in_the_order_of_its_files(tmp_path):
    ten(tmp_path)
    samples = read_cifar(ORIGIN, str(tmp_path), "train")
    np.testing.assert_array_equal(samples.labels, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(samples.inputs[2], record([3], 3)[1])
    assert read_cifar(ORIGIN, str(tmp_path), "test") is None


def test_cifar_100_has_fine_labels(tmp_path):
    (tmp_path / "train.bin").write_bytes(record([7, 99], 1)[0])
    (tmp_path / "test.bin").write_bytes(record([3, 42], 2)[0])
    np.testing.assert_array_equal(read_cifar(ORIGIN, str(tmp_path), "train").labels, [99])
    test = read_cifar(ORIGIN, str(tmp_path), "test")
    np.testing.assert_array_equal(test.labels, [42])
    np.testing.assert_array_equal(test.inputs[0], record([3, 42], 2)[1])


def test_bad_files_are_named_with_offset_and_numbers(tmp_path):
    assert sentence(tmp_path) == (
        f"data_batch_1.bin (CIFAR-10) or train.bin (CIFAR-100) in {tmp_path}, there is none; "
        "unpack the binary version, cifar-10-binary.tar.gz, there"
    )
    (tmp_path / "data_batch_1").write_bytes(b"pickle")
    assert sentence(tmp_path) == (
        f"the binary version of CIFAR, {tmp_path} holds pickles (data_batch_1); "
        "unpack the binary version, cifar-10-binary.tar.gz, there"
    )
    ten(tmp_path)
    good = record([1], 1)[0]
    (tmp_path / "data_batch_2.bin").write_bytes(good + good[:100])
    assert sentence(tmp_path) == (
        "data_batch_2.bin to hold records of 3,073 bytes, it holds 3,173 bytes: 1 records and "
        "100 bytes; download the file again"
    )
    (tmp_path / "data_batch_2.bin").write_bytes(good + b"\x0a" + good[1:])
    assert sentence(tmp_path) == (
        "labels from 0 to 9 in data_batch_2.bin, record 1 at offset 3,073 has 10; "
        "download the file again"
    )
    (tmp_path / "data_batch_2.bin").unlink()
    assert (
        sentence(tmp_path) == f"a file data_batch_2.bin in {tmp_path}, there is none; put it there"
    )
