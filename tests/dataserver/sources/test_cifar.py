"""CIFAR in its binary version: what is read, and one sentence for each way it can be wrong."""

import gzip
import io
import tarfile

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
        "put cifar-10-binary.tar.gz there, dualshard data fetch cifar10 downloads it"
    )
    (tmp_path / "data_batch_1").write_bytes(b"pickle")
    assert sentence(tmp_path) == (
        f"the binary version of CIFAR, {tmp_path} holds pickles (data_batch_1); "
        "put cifar-10-binary.tar.gz there, dualshard data fetch cifar10 downloads it"
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


def tar(folder, files, name="cifar-10-binary.tar.gz", mode="w:gz"):
    """A tar like the published one: in a folder, not in order, with a text between."""
    path = folder / name
    with tarfile.open(path, mode) as archive:
        for file, data in {"batches.meta.txt": b"airplane\n", **files}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{file}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def ten_files():
    numbers = (1, 3, 2, 5, 4)
    files = {f"data_batch_{n}.bin": record([n], n)[0] + record([0], n + 10)[0] for n in numbers}
    return files | {"test_batch.bin": record([9], 6)[0]}


@pytest.mark.parametrize(
    ("name", "mode", "place"),
    [
        ("cifar-10-binary.tar.gz", "w:gz", "."),
        ("cifar-10-binary.tar.gz", "w:gz", "cifar-10-binary.tar.gz"),
        ("other.tgz", "w:gz", "other.tgz"),
        ("other.tar", "w", "other.tar"),
    ],
)
def test_a_tar_gives_what_its_unpacked_files_give(tmp_path, name, mode, place):
    files, unpacked = ten_files(), tmp_path / "unpacked"
    tar(tmp_path, files, name, mode)
    unpacked.mkdir()
    for file, data in files.items():
        (unpacked / file).write_bytes(data)
    for part in ("train", "test"):
        expected = read_cifar(ORIGIN, str(unpacked), part)
        found = read_cifar(ORIGIN, str(tmp_path / place), part)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.inputs, expected.inputs)
        assert found.inputs_name == expected.inputs_name


def test_cifar_100_in_a_tar(tmp_path):
    tar(tmp_path, {"train.bin": record([7, 99], 1)[0]}, "cifar-100-binary.tar.gz")
    np.testing.assert_array_equal(read_cifar(ORIGIN, str(tmp_path), "train").labels, [99])
    assert read_cifar(ORIGIN, str(tmp_path), "test") is None


def test_unpacked_files_come_before_the_tar_beside_them(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"no tar")
    ten(tmp_path)
    assert len(read_cifar(ORIGIN, str(tmp_path), "train")) == 5


def test_a_tar_that_ends_early_is_named_with_numbers(tmp_path):
    path = tar(tmp_path, ten_files())
    plain = gzip.decompress(path.read_bytes())
    whole = plain.index(bytes([3]) + record([3], 3)[0][1:]) + 2 * 3073
    path.write_bytes(gzip.compress(plain[: whole - 100]))
    assert sentence(tmp_path) == (
        "a whole tar cifar-10-binary.tar.gz (unpacked), it ends early: "
        f"cifar-10-batches-bin/data_batch_3.bin should end at byte {whole:,}, the file has "
        f"{whole - 100:,}; write or download that file again"
    )
    packed = gzip.compress(plain)
    path.write_bytes(packed[: len(packed) // 2])
    assert sentence(path).startswith(
        "a whole tar cifar-10-binary.tar.gz (unpacked), it ends early: cifar-10-batches-bin/"
    )
    path.write_bytes(packed[:-4])
    assert sentence(path) == (
        "cifar-10-binary.tar.gz to be a whole gzip file, it ends early, after "
        f"{len(packed) - 4:,} bytes; write or download that file again"
    )


def test_a_tar_that_is_damaged_pickled_or_not_there(tmp_path):
    path = tar(tmp_path, ten_files())
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    said = sentence(path)
    assert said.startswith("cifar-10-binary.tar.gz to be a whole gzip file, it is damaged (")
    other = tar(tmp_path, {"data_batch_1": b"pickle"}, "cifar-10-python.tar.gz")
    assert sentence(other) == (
        f"the binary version of CIFAR, {other} holds pickles (data_batch_1); "
        "put cifar-10-binary.tar.gz there, dualshard data fetch cifar10 downloads it"
    )
    path.unlink()
    assert "holds pickles (cifar-10-python.tar.gz); " in sentence(tmp_path)
    assert sentence(path) == f"a file {path}, it is not there; name one that is there"
    assert sentence(tmp_path / "no") == (
        f"data_batch_1.bin (CIFAR-10) or train.bin (CIFAR-100) in {tmp_path / 'no'}, there is no "
        f"folder {tmp_path / 'no'}; put cifar-10-binary.tar.gz there, dualshard data fetch "
        "cifar10 downloads it"
    )
