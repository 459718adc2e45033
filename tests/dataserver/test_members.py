"""Which samples make a portion, and their labels, held against the portions themselves."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dualshard.common.job import Job
from dualshard.common.types import Array, Arrays
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.dataset import Transform
from dualshard.dataserver.events import LookUp, Prepare
from dualshard.dataserver.pipeline import Pipeline, Portions
from dualshard.dataserver.process import Store
from dualshard.dataserver.randomness import Stream

SAMPLES, SIZE = 50, 12
"""Portions of 12 of 50 samples: the last holds two."""


def numbered(folder: Path) -> str:
    """Images whose first pixel is the number of the sample, of three uneven classes."""
    images = np.zeros((SAMPLES, 6, 6), np.uint8)
    images[:, 0, 0] = np.arange(SAMPLES)
    labels = np.where(np.arange(SAMPLES) % 10 == 7, 2, np.arange(SAMPLES) % 2)
    path = folder / "numbered.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:8], y_test=labels[:8])
    return f"npz:{path}"


def files(folder: Path, damaged: tuple[int, ...] = ()) -> str:
    """The same as files of two classes, the class of even numbers first, some of them broken."""
    for number in range(SAMPLES):
        path = folder / f"pictures/train/{number % 2}/{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((6, 6), number, np.uint8))
        if number in damaged:
            path.write_bytes(b"no image")
    tests = folder / "pictures/test/0/t.png"
    tests.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(tests), np.zeros((6, 6), np.uint8))
    return f"images:{folder}/pictures"


def store(source: str, **data: Any) -> Store:
    """Portions of three minibatches of four samples."""
    admm = {"macro_batch": SIZE}
    settings = {"source": source, "batch_size": 4, **data}
    return Store(Job.from_dict({"data": settings, "train": {"mode": "admm"}, "admm": admm}))


def portions_of(opened: Store, epoch: int, first: int) -> list[tuple[int, Arrays]]:
    """Where each portion of a leg from position `first` on begins, and its arrays."""
    assert opened.facts.portion_size == SIZE
    count = -(-(SAMPLES - first) // SIZE)
    found = [opened.prepare(Prepare(False, 0, number, epoch, first)) for number in range(count)]
    return [(event.begin, event.arrays) for event in found]


ORDERS: dict[str, dict[str, Any]] = {
    "once": {},
    "balanced": {"sampling": "balanced"},
    "weighted": {"sampling": "weighted", "weights": ["2:3", "0:0.5"]},
}
CHANGES: dict[str, list[str]] = {
    "none": [],
    "shifted": ["shift:1", "cutout:2"],
    "mixed": ["shift:1", "mixup:0.4"],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("first", [0, 7])
def test_samples_are_those_of_the_portion_in_its_order(
    tmp_path: Path, order: str, change: str, first: int
) -> None:
    opened = store(numbered(tmp_path), augment=CHANGES[change], **ORDERS[order])
    other = store(numbered(tmp_path), augment=CHANGES[change], **ORDERS[order])
    plain = store(numbered(tmp_path), **ORDERS[order])
    for epoch in (0, 3):
        numbers = [arrays[0][:, 0, 0] for _, arrays in portions_of(plain, epoch, first)]
        for (begin, (_, labels)), expected in zip(
            portions_of(opened, epoch, first), numbers, strict=True
        ):
            told = other.look_up(LookUp(epoch, begin, True))
            assert told.indices.dtype == np.int64
            np.testing.assert_array_equal(told.indices, expected)
            assert told.labels.dtype == labels.dtype
            np.testing.assert_array_equal(told.labels, labels)
            alone = other.look_up(LookUp(epoch, begin, False))
            np.testing.assert_array_equal(alone.indices, expected)
            assert alone.labels.shape == (0,)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("cache", ["0B", "1MiB"])
def test_damaged_samples_are_missing_whoever_meets_them_first(
    tmp_path: Path, change: str, cache: str
) -> None:
    damaged = (3, 4, 21, 22, 23, 40)
    source = files(tmp_path, damaged)
    settings = {"corrupt": "skip", "cache": cache}
    opened = store(source, augment=CHANGES[change], **settings)
    asked = store(source, augment=CHANGES[change], **settings)
    plain = store(source, **settings)
    labels_alone = store(source, **settings)
    skipped: list[str] = []
    for (begin, (_, labels)), (_, (inputs, _)) in zip(
        portions_of(opened, 1, 0), portions_of(plain, 1, 0), strict=True
    ):
        told = asked.look_up(LookUp(1, begin, True))
        skipped += told.skipped
        # The sample of file n is n / 2 among the even ones, and behind them all if n is odd.
        files_of = np.where(told.indices < 25, 2 * told.indices, 2 * (told.indices - 25) + 1)
        np.testing.assert_array_equal(files_of, inputs[:, 0, 0].reshape(len(inputs), -1)[:, 0])
        np.testing.assert_array_equal(told.labels, labels)
        alone = labels_alone.look_up(LookUp(1, begin, False))
        np.testing.assert_array_equal(alone.indices, told.indices)
        assert alone.labels.shape == (0,)
    assert len(skipped) == len(damaged)


def test_a_label_that_a_users_transform_makes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def turned(arrays, random):\n    return arrays[0], 9 - arrays[1]\n")
    opened = store(numbered(tmp_path), augment=["mine.py:turned"])
    for begin, (_, labels) in portions_of(opened, 0, 0):
        assert labels.min() >= 7
        np.testing.assert_array_equal(opened.look_up(LookUp(0, begin, True)).labels, labels)


class Sealed:
    """A data set that counts what is read of it, one sample of each class in turn."""

    def __init__(self) -> None:
        self.read_of: list[int] = []
        self.labels = np.arange(SAMPLES, dtype=np.int64) % 3

    def __len__(self) -> int:
        return SAMPLES

    def read(self, indices: Array) -> Arrays:
        self.read_of += indices.tolist()
        return np.zeros((len(indices), 2, 2), np.uint8), self.labels[indices]


class Counting:
    """A transform that counts its calls and changes nothing."""

    calls = 0

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        self.calls += 1
        return arrays


def sealed(transforms: list[Transform], **settings: Any) -> tuple[Sealed, Pipeline]:
    data = Sealed()
    pipeline = Pipeline(data, transforms, 5, Portions(SAMPLES, SIZE), classes=3, **settings)
    data.read_of.clear()
    return data, pipeline


@pytest.mark.parametrize("labels", [True, False])
def test_known_labels_are_told_without_reading_a_sample(labels: bool) -> None:
    data, pipeline = sealed(parse_augment(["shift:1"]), labels=Sealed().labels, skips=False)
    indices, told = pipeline.members(2, 24, labels=labels)
    assert data.read_of == []
    np.testing.assert_array_equal(indices, pipeline.drawn(2)[24:36])
    np.testing.assert_array_equal(told, indices % 3 if labels else [])


def test_unknown_labels_are_read_and_their_inputs_left_as_they_are() -> None:
    spy = Counting()
    data, pipeline = sealed([spy], skips=False)
    spy.calls = 0
    indices, told = pipeline.members(0, 48, labels=True)
    assert data.read_of == indices.tolist()
    assert len(indices) == 2, "the end of the epoch"
    np.testing.assert_array_equal(told, indices % 3)
    assert spy.calls == 0


@pytest.mark.parametrize(
    ("augment", "settings"), [(["mixup:1"], {"skips": False}), ([], {"skips": True})]
)
def test_where_labels_or_numbers_depend_on_inputs_those_are_read(
    augment: list[str], settings: dict[str, bool]
) -> None:
    data, pipeline = sealed(parse_augment(augment), labels=Sealed().labels, **settings)
    indices, _ = pipeline.members(0, 0, labels=True)
    assert set(data.read_of) >= set(indices.tolist())


@pytest.mark.parametrize(
    ("coupling", "macro", "workers", "size"),
    [
        ("activations", 12, 2, 12),
        ("weights", 13, 2, 12),  # three whole minibatches
        ("activations", 3, 2, 4),  # one at least
        ("activations", 1024, 2, 12),  # 13 minibatches, four portions for the one replica
        ("activations", 1024, 4, 4),  # and for each of two
        ("backprop", 12, 2, 8),
        ("replicas", 12, 2, 4),  # 13 minibatches, four portions for each of two workers
        ("replicas", 12, 1, 8),
    ],
)
def test_a_portion_of_a_cut_net_is_a_macro_batch(
    tmp_path: Path, coupling: str, macro: int, workers: int, size: int
) -> None:
    job = Job.from_dict(
        {
            "data": {"source": numbered(tmp_path), "batch_size": 4},
            "train": {"mode": "admm"},
            "partition": {"coupling": coupling},
            "admm": {"macro_batch": macro},
            "dataserver": {"portion": 2},
            "worker": {"count": workers},
        }
    )
    assert Store(job).facts.portion_size == size
