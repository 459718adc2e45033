"""Users' own data sets: read when they are needed, blamed when they break their contract."""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import numpy as np
import pytest

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.common.references import load
from dualshard.dataserver.cache import CachedDataset, cached
from dualshard.dataserver.sampling import make_sampling
from dualshard.dataserver.source import open_source
from dualshard.dataserver.sources.attached import BATCH

DATASET = """
import numpy as np

class Squares:
    size, more, wrong = 10, 0, None

    def __init__(self):
        self.seen = []

    def __len__(self):
        return self.size

    def read(self, indices):
        self.seen += indices.tolist()
        if self.wrong in indices.tolist():
            return self.spoilt(indices)
        n = len(indices)
        inputs = np.zeros((n, 3, 3), np.float32) + indices[:, None, None].astype(np.float32)
        return inputs, indices % 2 + self.more

    def spoilt(self, indices):
        raise RuntimeError(f"torn page {indices[0]}")

class Labelled(Squares):
    @property
    def labels(self):
        return np.arange(self.size) % 2

class Counted(Squares):
    classes = 2

squares = Squares()
labelled = Labelled()
counted = Counted()
number = 7

def fails():
    raise OSError("no disk")

class Short:
    def __len__(self):
        return 10

    def read(self, indices):
        inputs, labels = Squares().read(indices)
        return RESULT

class Bad(Squares):
    ATTRIBUTE = VALUE
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Makes `mine.py` in a working directory of its own."""
    monkeypatch.chdir(tmp_path)

    def make(result="inputs, labels", attribute="more", value="0"):
        text = DATASET.replace("RESULT", result).replace("VALUE", value)
        (tmp_path / "mine.py").write_text(text.replace("ATTRIBUTE", attribute))

    return make


def opened(name, test="", say=lambda text: None, **settings):
    return open_source(DataSection(f"mine.py:{name}", test, **settings), 1, say)


def sentence(name, **settings):
    with pytest.raises(UserError) as caught:
        opened(name, **settings)
    return str(caught.value)


@pytest.mark.parametrize("name", ["Squares", "squares", "Labelled", "Counted"])
def test_a_dataset_is_split_like_any_other(write, name):
    write()
    split = opened(name)
    assert (len(split.train), len(split.test)) == (8, 2)
    assert (split.classes, split.sample_shape) == (2, (3, 3))
    both = [part.read(np.arange(len(part))) for part in (split.train, split.test)]
    for inputs, labels in both:
        np.testing.assert_array_equal(inputs[:, 0, 0] % 2, labels)
    seen = np.concatenate([inputs[:, 0, 0] for inputs, _ in both])
    assert sorted(seen.tolist()) == list(range(10))
    if name != "Counted":
        assert sorted(both[1][1].tolist()) == [0, 1], "one of each class is held out"


def test_a_dataset_may_be_the_test_set(write):
    write()
    for one in ("Squares", "Labelled", "Counted"):
        for other in ("Squares", "Labelled", "Counted"):
            split = opened(one, f"mine.py:{other}")
            assert (len(split.train), len(split.test)) == (10, 10)


def test_labels_that_it_tells_spare_reading_it(write):
    write()
    said = []
    for name in ("labelled", "counted"):
        split = opened(name, say=said.append)
        assert load(f"mine.py:{name}", "").seen == [0]
        assert (split.labels is None) == (name == "counted")
        assert make_sampling(DataSection(), 8, split.labels).order(0, 0).indices.shape == (8,)
        split.train.read(np.array([2, 3]))
        assert len(load(f"mine.py:{name}", "").seen) == 3
    assert said == []


@pytest.mark.parametrize(
    ("name", "settings"), [("squares", {}), ("counted", {"sampling": "balanced"})]
)
def test_without_labels_it_is_read_once_by_batches_and_the_log_tells(write, name, settings):
    write()
    said = []
    user = load(f"mine.py:{name}", "")
    user.size = 2 * BATCH + 3
    split = opened(name, say=said.append, **settings)
    assert user.seen == [0, *range(2 * BATCH + 3)]
    assert split.labels.shape == (round(0.8 * user.size),)
    assert said == [
        f"mine.py:{name} has no attribute labels: all 515 samples are read once for theirs; "
        "give it labels, (n,) integers, to have it opened at once"
    ]


def test_views_on_the_users_memory_are_made_fit_for_a_message(write):
    write(result="inputs.transpose(0, 2, 1)[:, ::-1], np.repeat(labels, 2)[::2]")
    for array in opened("Short").train.read(np.arange(8)):
        assert array.flags.c_contiguous


def test_the_cache_stands_before_it(write):
    write()
    split = opened("labelled")
    user = load("mine.py:labelled", "")
    stored = cached(split.train, DataSection())
    assert isinstance(stored, CachedDataset)
    user.seen.clear()
    first, again = (stored.read(np.arange(8)) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert len(user.seen) == 8


@pytest.mark.parametrize("safe", [False, True])
def test_one_thread_at_a_time_reads_unless_it_says_that_it_is_safe(write, safe):
    write()
    split = opened("labelled")
    user, inside, most, lock = load("mine.py:labelled", ""), [0], [0], Lock()
    plain, together = user.read, Barrier(2 if safe else 1)

    def read(indices):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        together.wait(20)  # two who may be inside at once meet there
        found = plain(indices)
        with lock:
            inside[0] -= 1
        return found

    user.read, user.thread_safe = read, safe
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda n: split.train.read(np.array([n, 7 - n])), range(8)))
    assert most[0] == 1 + safe
    for number, (inputs, labels) in enumerate(parts):
        alone = split.train.read(np.array([number, 7 - number])) if not safe else (inputs, labels)
        np.testing.assert_array_equal(inputs, alone[0])
        np.testing.assert_array_equal(labels, alone[1])


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("inputs", "inputs and labels of 1 samples, for sample 0 read gave type ndarray"),
        (
            "inputs, ",
            "inputs and labels of 1 samples, for sample 0 read gave (float32 (1, 3, 3))",
        ),
        (
            "inputs[1:], labels",
            "inputs and labels of 1 samples, for sample 0 read gave "
            "(float32 (0, 3, 3), int64 (1,))",
        ),
        (
            "inputs, list(labels)",
            "inputs and labels of 1 samples, for sample 0 read gave (float32 (1, 3, 3), type list)",
        ),
        (
            "inputs.astype(float), labels",
            "inputs of shape (n, ...), uint8 or float32, "
            "for sample 0 read gave (float64 (1, 3, 3), int64 (1,))",
        ),
        (
            "inputs, labels.astype(np.uint8)",
            "labels of shape (n,), int64, for sample 0 read gave (float32 (1, 3, 3), uint8 (1,))",
        ),
    ],
)
def test_a_dataset_that_breaks_its_contract_is_refused(write, result, expected):
    write(result=result)
    assert sentence("Short") == (
        f"data.source = mine.py:Short: expected {expected}; return (inputs, labels) from read"
    )


def test_an_empty_dataset_and_one_that_is_none_are_refused(write):
    write(attribute="size")
    assert sentence("Bad") == (
        "data.source = mine.py:Bad: expected a Dataset of at least one sample, its len() is 0; "
        "give it samples"
    )
    assert sentence("number") == (
        "data.source = mine.py:number: expected a Dataset, with len() and read(indices), "
        "it is of type int; give it both, or name a function that returns one"
    )
    assert re.fullmatch(
        r"data\.source = mine\.py:fails: expected a function that returns a Dataset, it raised "
        r"OSError: no disk at .*mine\.py:\d+; correct it",
        sentence("fails"),
    )


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("labels", "np.arange(9)", "labels integers, (10,), it holds (int64 (9,))"),
        ("labels", "np.ones(10)", "labels integers, (10,), it holds (float64 (10,))"),
        ("labels", "[[1], [2, 3]]", "labels integers, (10,), it holds other"),
        ("classes", "0", "classes their number from 1, or one name for each, it is 0"),
        ("classes", "1.5", "classes their number from 1, or one name for each, it is 1.5"),
    ],
)
def test_attributes_that_say_nonsense_are_refused(write, attribute, value, expected):
    write(attribute=attribute, value=value)
    assert sentence("Bad") == (
        f"data.source = mine.py:Bad: expected in its attribute {expected}; "
        "correct it, or leave it out"
    )


def test_class_names_count_and_labels_are_held_against_them(write):
    write(attribute="classes", value="['cat', 'dog', 'owl']")
    assert opened("Bad").classes == 3
    load("mine.py:labelled", "").classes = 1
    assert sentence("labelled") == (
        "data.source = mine.py:labelled: expected labels from 0 to 0, as classes says, "
        "sample 1 has 1; number the classes 0, 1, 2, ..."
    )
    load("mine.py:squares", "").more = -1
    assert sentence("squares") == (
        "data.source = mine.py:squares: expected labels from 0, sample 0 has -1; "
        "number the classes 0, 1, 2, ..."
    )


def test_a_test_set_of_more_classes_is_refused(write):
    write(attribute="classes", value="3")
    assert sentence("Counted", test="mine.py:Bad") == (
        "data.test = mine.py:Bad: expected as many classes as are trained on, 2, it has 3; "
        "take both parts from the same data set"
    )


def test_what_is_wrong_while_training_names_the_users_sample(write):
    """Errors of a batch in which one sample is wrong: sample 7 of the user, held out or not."""
    write()
    split = opened("labelled")
    user = load("mine.py:labelled", "")
    user.wrong = 7
    parts = [split.train, split.test]

    def wrong():
        sentences = []
        for part in parts:
            try:
                part.read(np.arange(len(part)))
            except UserError as error:
                sentences.append(str(error).removeprefix("data.source = mine.py:labelled: "))
        (only,) = sentences
        return only

    assert re.fullmatch(
        r"expected samples from read, for sample 7 it raised RuntimeError: torn page 7 at "
        r".*mine\.py:\d+; correct it, or leave that sample out",
        wrong(),
    )
    ones = np.ones((8, 3, 3), np.float32)
    numbers = []

    def plain(indices):
        numbers[:] = indices.tolist()
        return ones[: len(indices)].copy(), indices % 2

    user.spoilt = lambda indices: (plain(indices)[0] * np.nan, indices % 2)
    assert wrong().startswith("expected finite float32 inputs, sample ")
    user.spoilt = lambda indices: (plain(indices)[0], indices % 2 + (indices == 7))
    assert wrong() == (
        "expected one label a sample, for sample 7 read gave 2 and before it was 1; "
        "let labels and read agree"
    )
    user.spoilt = lambda indices: (plain(indices)[0][:, 1:], indices % 2)
    text = wrong()
    others = f" and {len(numbers) - 1} others" if len(numbers) > 1 else ""
    assert text == (
        "expected inputs like those of sample 0, float32 of shape (3, 3), for sample "
        f"{numbers[0]}{others} read gave float32 of shape (2, 3); "
        "give all samples one shape and one dtype"
    )


def test_labels_that_nobody_knew_are_held_against_the_number_of_classes(write):
    write()
    split = opened("counted")
    load("mine.py:counted", "").more = 1
    with pytest.raises(UserError, match="expected labels from 0 to 1, as classes says, sample "):
        split.train.read(np.arange(8))
