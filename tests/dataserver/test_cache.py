"""Rows that are kept are read once; memory, then disk, then not at all; nothing is left behind."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.dataserver.cache import CachedDataset, cached
from dualshard.dataserver.sources.samples import ArrayDataset

ROW = 12


class Lazy:
    """20 samples of 2x2x3, whose pixels and labels tell their number; counts what is read."""

    def __init__(self, dtype=np.uint8):
        self.dtype, self.read_rows = dtype, []

    def __len__(self):
        return 20

    def read(self, indices):
        self.read_rows += indices.tolist()
        inputs = np.repeat(indices, ROW).reshape(-1, 2, 2, 3).astype(self.dtype)
        return inputs, indices % 7


def check(dataset, indices):
    inputs, labels = dataset.read(np.array(indices))
    assert inputs.shape == (len(indices), 2, 2, 3)
    assert (inputs == np.array(indices).reshape(-1, 1, 1, 1)).all()
    np.testing.assert_array_equal(labels, np.array(indices) % 7)


@pytest.mark.parametrize(
    ("memory", "disk", "kept"),
    [(20 * ROW, 0, 20), (5 * ROW, 0, 5), (0, 7 * ROW, 7), (5 * ROW, 7 * ROW, 12), (1, 0, 0)],
)
def test_what_fits_is_read_once(tmp_path, memory, disk, kept):
    lazy = Lazy()
    dataset = CachedDataset(lazy, memory, disk, str(tmp_path))
    lazy.read_rows.clear()
    order = np.random.default_rng(0).permutation(20).tolist()
    for epoch in range(3):
        check(dataset, order[:13])
        check(dataset, order[13:])
        expected = order if epoch == 0 else order[kept:]
        assert lazy.read_rows == expected
        lazy.read_rows.clear()
    assert dataset.counters["cache_hits"] == 2 * kept
    assert dataset.counters["cache_misses"] == 60 - 2 * kept
    assert dataset.counters["cache_bytes"] == kept * ROW
    assert list(tmp_path.iterdir()) == []


def test_floats_are_kept_as_they_are(tmp_path):
    dataset = CachedDataset(Lazy(np.float32), 4 * ROW * 4, 16 * ROW * 4, str(tmp_path))
    check(dataset, range(20))
    check(dataset, range(20))
    assert dataset.read(np.arange(2))[0].dtype == np.float32


def test_threads_read_the_right_rows(tmp_path):
    dataset = CachedDataset(Lazy(), 8 * ROW, 8 * ROW, str(tmp_path))
    orders = [np.random.default_rng(seed).permutation(20).tolist() for seed in range(200)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda order: check(dataset, order), orders))


def test_a_data_set_in_memory_needs_no_cache():
    arrays = ArrayDataset((np.zeros((2, 3), np.uint8), np.zeros(2, np.int64)))
    assert cached(arrays, DataSection()) is arrays
    lazy = Lazy()
    assert cached(lazy, DataSection(cache=0, disk_cache=0)) is lazy
    assert isinstance(cached(lazy, DataSection(cache=ROW, disk_cache=0)), CachedDataset)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"data\.cache_dir = .*no such file or directory") as raised:
        CachedDataset(Lazy(), 0, ROW, str(tmp_path / "none"))
    assert str(raised.value).endswith("name another one")


def test_a_disk_without_room_is_an_error(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 11})
    monkeypatch.setattr("dualshard.dataserver.cache.shutil.disk_usage", lambda place: usage)
    with pytest.raises(UserError, match=r"data\.disk_cache = 12: .* 11 bytes; write less"):
        CachedDataset(Lazy(), 0, ROW, str(tmp_path))


def test_a_disk_that_fills_up_ends_the_growth(tmp_path, monkeypatch):
    dataset = CachedDataset(Lazy(), 0, 20 * ROW, str(tmp_path))
    check(dataset, range(5))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dualshard.dataserver.cache.os.pwrite", full)
        check(dataset, range(20))
    check(dataset, range(20))
    assert dataset.counters["cache_full_disk"] == 1
    assert dataset.counters["cache_bytes"] == 5 * ROW
