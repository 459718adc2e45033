"""Tar shards and parquet files, written with tarfile and pyarrow: parts, order, damaged ones."""

import numpy as np
import pytest
from shards import encoded, picture, write_parquet, write_tar

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.dataserver.corrupt import CorruptSamples
from dualshard.dataserver.source import open_source


def opened(text, **settings):
    return open_source(DataSection(text, **settings), seed=0)


def check(dataset, seeds):
    """That a data set holds these images in this order, whichever way it is asked."""
    order = np.random.default_rng(1).permutation(len(seeds))
    inputs, labels = dataset.read(order)
    assert len(dataset) == len(seeds)
    for row, label, seed in zip(inputs, labels, np.array(seeds)[order], strict=True):
        np.testing.assert_array_equal(row, picture(seed))
        assert label == seed % 3


def sentence(text, **settings):
    with pytest.raises(UserError) as caught:
        opened(text, **settings)
    return str(caught.value).partition(": expected ")[2]


def test_tars_of_a_folder_are_its_parts(tmp_path):
    write_tar(tmp_path / "train-1.tar", range(4, 9))
    write_tar(tmp_path / "train-0.tar", range(4))
    write_tar(tmp_path / "test-0.tar", range(20, 23))
    split = opened(f"webdataset:{tmp_path}")
    check(split.train, list(range(9)))
    check(split.test, [20, 21, 22])
    assert (split.classes, split.sample_shape) == (3, (6, 5, 3))


@pytest.mark.parametrize("pattern", ["a-{08..10}.tar", "a-*.tar", "a-{08,09,10}.tar"])
def test_tars_are_named_by_a_pattern(tmp_path, pattern):
    for number in range(8, 11):
        write_tar(tmp_path / f"a-{number:02}.tar", range(number, number + 3))
    write_tar(tmp_path / "other.tar", [0])
    split = opened(f"webdataset:{tmp_path}/{pattern}", held_out=0.4)
    assert (len(split.train), len(split.test)) == (5, 4)


def test_a_tar_that_ends_early_is_named(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, range(4))
    whole = path.read_bytes()
    path.write_bytes(whole[:600])
    assert sentence(f"webdataset:{path}") == (
        "a whole tar a.tar, it ends early: d/000.png should end at byte "
        f"{512 + len(encoded(0))}, the file has 600; write or download that file again"
    )
    path.write_bytes(whole[: 4 * 512])
    assert sentence(f"webdataset:{path}") == (
        "a whole tar a.tar, it ends early, at byte 2,048 without two blocks of zeros; write or "
        "download that file again"
    )


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            {"d/001.cls": None},
            "a class for every image, a.tar has d/001.png (at byte 2,560) and no d/001.cls; write "
            "the class as digits to that member",
        ),
        (
            {"d/001.cls": b"cat"},
            "d/001.cls of a.tar to hold a class number, it holds 'cat'; write digits",
        ),
        (
            {"d/000.png": b"no image"},
            "whole images, d/000.png of a.tar (at byte 512) is damaged: it cannot be decoded, 8 "
            "bytes; replace or remove it, or set data.corrupt = skip",
        ),
        (
            {"d/001.jpg": b"another"},
            "one image a key, a.tar has two of d/001; write or download that file again",
        ),
    ],
)
def test_wrong_members_are_named(tmp_path, members, expected):
    write_tar(tmp_path / "a.tar", range(3), members=members)
    assert sentence(f"webdataset:{tmp_path / 'a.tar'}") == expected


def test_missing_tars_are_named(tmp_path):
    assert sentence(f"webdataset:{tmp_path}") == (
        f".tar files, {tmp_path} has none; name a folder or a pattern that has some"
    )
    assert sentence(f"webdataset:{tmp_path}/a-{{0..1}}.tar") == (
        f"a file {tmp_path}/a-0.tar, it is not there; name one that is there"
    )


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_rows_are_read_in_any_order(tmp_path, struct):
    write_parquet(tmp_path / "train-0.parquet", range(5), struct)
    write_parquet(tmp_path / "train-1.parquet", range(5, 9), struct)
    write_parquet(tmp_path / "test.parquet", [30, 31, 32], struct)
    split = opened(f"parquet:{tmp_path}")
    check(split.train, list(range(9)))
    check(split.test, [30, 31, 32])


def test_parquet_columns_are_named_and_checked(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, range(6), image="img", label="fine")
    check(
        opened(f"parquet:{path}", test=f"parquet:{path}", columns=("img", "fine")).train,
        list(range(6)),
    )
    assert sentence(f"parquet:{path}") == (
        "a column image in a.parquet, it has img, fine; name the columns of images and labels in "
        "data.columns"
    )
    assert sentence(f"parquet:{path}", columns=("fine", "fine")) == (
        "encoded images (binary, or a struct with bytes) in the column fine of a.parquet, it holds "
        "int64; name another column in data.columns"
    )
    assert sentence(f"parquet:{path}", columns=("img", "img")) == (
        "integers in the column img of a.parquet, it holds binary; name another column in "
        "data.columns"
    )


def test_bad_parquet_labels_and_files_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, range(3), labels=[0, -1, 2])
    assert sentence(f"parquet:{path}") == (
        "labels from 0, row 1 of a.parquet has -1; number the classes 0, 1, 2, ..."
    )
    write_parquet(path, range(3), labels=[0, 1, None])
    assert sentence(f"parquet:{path}") == (
        "a label in every row, row 2 of a.parquet has none; remove or repair that row"
    )
    path.write_bytes(path.read_bytes()[:200])
    assert sentence(f"parquet:{path}").startswith(
        "a whole parquet file a.parquet, reading it failed ("
    )


def test_a_damaged_row_group_is_named_and_its_images_skipped(tmp_path):
    """The footer and the labels are whole: what is damaged is found when an image is read."""
    path = tmp_path / "a.parquet"
    write_parquet(path, range(6))
    from pyarrow.parquet import read_metadata

    begin = read_metadata(path).row_group(1).column(0).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[begin : begin + 10] = b"\xff" * 10
    path.write_bytes(data)
    text, test = f"parquet:{path}", f"parquet:{tmp_path / 'b.parquet'}"
    write_parquet(tmp_path / "b.parquet", range(3))
    said = sentence(text, test=test)
    assert said.startswith("whole images, row 2 of a.parquet is damaged: row group 1 cannot be ")
    assert said.endswith("; replace or remove it, or set data.corrupt = skip")
    train = opened(text, test=test, corrupt="skip").train
    with pytest.raises(CorruptSamples) as caught:
        train.read(np.arange(6))
    assert sorted(caught.value.reasons) == [2, 3]
    np.testing.assert_array_equal(train.read(np.array([4]))[0][0], picture(4))
