"""Users' own data sets and transforms: attached by name, blamed when they break it."""

import numpy as np
import pytest

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.dataserver.attached import AttachedTransform, is_reference
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.randomness import Stream
from dualshard.dataserver.source import open_source


def opened(source, test, seed, held_out):
    return open_source(DataSection(source, test, held_out=held_out), seed)


DATASET = """
import numpy as np

class Squares:
    def __len__(self):
        return {length}

    def read(self, indices):
        n = len(indices)
        inputs = np.zeros((n, 3, 3), np.float32) + indices[:, None, None].astype(np.float32)
        labels = indices % 2
        return {result}

squares = Squares()
number = 7
"""

TRANSFORM = """
import numpy as np

def noise(arrays, random):
    return arrays[0] + random.normal(0)[:, None, None], *arrays[1:]

class Negative:
    def __call__(self, arrays, random):
        return -arrays[0], *arrays[1:]

def drops(arrays, random):
    return arrays[0][1:], *arrays[1:]

def widens(arrays, random):
    return arrays[0].astype(np.float64), *arrays[1:]

def forgets(arrays, random):
    pass

number = 7
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Makes `mine.py` in a working directory of its own."""
    monkeypatch.chdir(tmp_path)

    def make(text=DATASET, result="inputs, labels", length="10"):
        text = text.replace("{result}", result).replace("{length}", length)
        (tmp_path / "mine.py").write_text(text)

    return make


@pytest.mark.parametrize("attribute", ["Squares", "squares"])
def test_a_dataset_is_split_like_any_other(write, attribute):
    write()
    split = opened(f"mine.py:{attribute}", "", seed=1, held_out=0.2)
    assert (len(split.train), len(split.test)) == (8, 2)
    assert (split.classes, split.sample_shape) == (2, (3, 3))
    inputs, labels = split.train.read(np.arange(8))
    np.testing.assert_array_equal(inputs[:, 0, 0] % 2, labels)


def test_a_dataset_may_be_the_test_set(write):
    write()
    split = opened("mine.py:squares", "mine.py:Squares", seed=1, held_out=0.2)
    assert (len(split.train), len(split.test)) == (10, 10)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("inputs", "inputs and labels of 10 samples, read gave type ndarray"),
        ("inputs, ", "inputs and labels of 10 samples, read gave (float32 (10, 3, 3))"),
        (
            "inputs[1:], labels",
            "inputs and labels of 10 samples, read gave (float32 (9, 3, 3), int64 (10,))",
        ),
        (
            "inputs, list(labels)",
            "inputs and labels of 10 samples, read gave (float32 (10, 3, 3), type list)",
        ),
        (
            "inputs.astype(float), labels",
            "inputs of shape (n, ...), uint8 or float32, "
            "read gave (float64 (10, 3, 3), int64 (10,))",
        ),
        (
            "inputs, labels.astype(np.uint8)",
            "labels of shape (n,), int64, read gave (float32 (10, 3, 3), uint8 (10,))",
        ),
    ],
)
def test_a_dataset_that_breaks_its_contract_is_refused(write, result, expected):
    write(result=result)
    with pytest.raises(UserError) as caught:
        opened("mine.py:squares", "", seed=1, held_out=0.2)
    assert str(caught.value) == (
        f"data.source = mine.py:squares: expected {expected}; return (inputs, labels) from read"
    )


def test_an_empty_dataset_and_one_that_is_none_are_refused(write):
    write(length="0")
    with pytest.raises(UserError) as caught:
        opened("mine.py:squares", "", seed=1, held_out=0.2)
    assert str(caught.value) == (
        "data.source = mine.py:squares: expected a Dataset of at least one sample, its len() is 0; "
        "give it samples"
    )
    with pytest.raises(UserError) as caught:
        opened("mine.py:number", "", seed=1, held_out=0.2)
    assert str(caught.value) == (
        "data.source = mine.py:number: expected a Dataset, with len() and read(indices), "
        "it is of type int; give it both, or name a function that returns one"
    )


def test_transforms_are_called_with_the_arrays_and_the_streams(write):
    write(TRANSFORM)
    noise, negative = parse_augment(["mine.py:noise", "mine.py:Negative"])
    arrays = np.ones((4, 3, 3), np.float32), np.arange(4)
    random = Stream.of(1, 2, np.array([8, 1, 9, 5]))
    changed = noise(arrays, random)
    np.testing.assert_array_equal(changed[0][:, 1, 1], 1 + random.normal(0))
    assert changed[1] is arrays[1]
    np.testing.assert_array_equal(negative(arrays, random)[0], -arrays[0])


@pytest.mark.parametrize(
    ("name", "returned"),
    [
        ("drops", "(float32 (3, 3, 3), int64 (4,))"),
        ("widens", "(float64 (4, 3, 3), int64 (4,))"),
        ("forgets", "type NoneType"),
    ],
)
def test_a_transform_that_breaks_its_contract_is_blamed(write, name, returned):
    write(TRANSFORM)
    arrays = np.ones((4, 3, 3), np.float32), np.arange(4)
    with pytest.raises(UserError) as caught:
        AttachedTransform.load(f"mine.py:{name}")(arrays, Stream.of(1, 2, np.arange(4)))
    assert str(caught.value) == (
        f"data.augment = mine.py:{name}: expected a tuple of arrays of 4 samples, "
        f"the inputs uint8 or float32, it returned {returned}; return what it was given, changed"
    )


def test_a_transform_that_cannot_be_called_is_refused(write):
    write(TRANSFORM)
    with pytest.raises(UserError) as caught:
        parse_augment(["mine.py:number"])
    assert str(caught.value) == (
        "data.augment = mine.py:number: expected a Transform, it is of type int, "
        "which cannot be called; name a function"
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("mine.py:build", True),
        ("shift.py:build", True),
        ("package.module:Class.make", True),
        ("shfit:far", False),
        ("blur:3", False),
        ("blur", False),
        ("", False),
    ],
)
def test_references_are_told_from_misspelt_names(text, answer):
    assert is_reference(text, ["shift", "rotate"]) is answer
