"""Users' own transforms: attached by name, blamed when they break their contract."""

import re

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.attached import AttachedTransform, is_reference
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.pipeline import Pipeline, portions
from dualshard.dataserver.randomness import Stream
from dualshard.dataserver.sources.samples import ArrayDataset

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

def fails(arrays, random):
    raise ValueError("no such sample")

def halves(arrays, random):
    return arrays[0][:, ::2], *arrays[1:]

class Halves:
    def __call__(self, arrays, random):
        return halves(arrays, random)

    def at_test(self, arrays):
        return arrays[0][:, ::2], *arrays[1:]

class Keeps(Halves):
    def at_test(self, arrays):
        return arrays

class Drops(Halves):
    def at_test(self, arrays):
        return arrays[0][1:], *arrays[1:]

class Wavers(Halves):
    def __call__(self, arrays, random):
        return arrays[0][:, : 3 - len(random) % 2], *arrays[1:]

number = 7
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Makes `mine.py` in a working directory of its own."""
    monkeypatch.chdir(tmp_path)

    def make(text=TRANSFORM):
        (tmp_path / "mine.py").write_text(text)

    return make


def test_transforms_are_called_with_the_arrays_and_the_streams(write):
    write()
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
    write()
    arrays = np.ones((4, 3, 3), np.float32), np.arange(4)
    with pytest.raises(UserError) as caught:
        AttachedTransform.load(f"mine.py:{name}")(arrays, Stream.of(1, 2, np.arange(4)))
    assert str(caught.value) == (
        f"data.augment = mine.py:{name}: expected a tuple of arrays of 4 samples, "
        f"the inputs uint8 or float32, it returned {returned}; return what it was given, changed"
    )


def test_what_a_transform_raises_is_one_line_that_names_it_and_the_place(write):
    write()
    arrays = np.ones((4, 3, 3), np.float32), np.arange(4)
    with pytest.raises(UserError) as caught:
        AttachedTransform.load("mine.py:fails")(arrays, Stream.of(1, 2, np.arange(4)))
    assert re.fullmatch(
        r"data\.augment = mine\.py:fails: expected a Transform that fits the samples, it raised "
        r"ValueError: no such sample at .*mine\.py:\d+; correct it",
        str(caught.value),
    )


def pipeline(name):
    dataset = ArrayDataset((np.ones((8, 4, 4), np.float32), np.arange(8)))
    return Pipeline(dataset, parse_augment([f"mine.py:{name}"]), 0, portions(8, 4, 1, 1))


def test_test_samples_come_to_the_shape_of_training_samples_by_at_test(write):
    write()
    made = pipeline("Halves")
    assert made.sample_shape == (2, 4)
    tested, labels = made.at_test((np.arange(32, dtype=np.float32).reshape(2, 4, 4), np.arange(2)))
    np.testing.assert_array_equal(tested[1], [[16, 17, 18, 19], [24, 25, 26, 27]])
    assert labels.tolist() == [0, 1]
    assert tested.flags.c_contiguous, "a view as it is cannot be sent"


@pytest.mark.parametrize("name", ["halves", "Keeps"])
def test_a_transform_that_changes_shapes_without_at_test_fails_at_the_start(write, name):
    write()
    with pytest.raises(UserError) as caught:
        pipeline(name)
    assert str(caught.value) == (
        f"data.augment = mine.py:{name}: expected test samples of the shape of training samples, "
        "(2, 4), they are (4, 4); give it at_test(arrays), which brings test samples to that shape"
    )


def test_an_at_test_that_breaks_its_contract_is_blamed(write):
    write()
    with pytest.raises(UserError) as caught:
        AttachedTransform.load("mine.py:Drops").at_test((np.ones((4, 3, 3), np.float32),))
    assert str(caught.value) == (
        "data.augment = mine.py:Drops: expected a tuple of arrays of 4 samples, the inputs uint8 "
        "or float32, at_test returned (float32 (3, 3, 3)); return what it was given, changed"
    )


def test_a_transform_whose_shapes_waver_is_blamed_when_they_do(write):
    write()
    dataset = ArrayDataset((np.ones((9, 3, 4), np.float32), np.arange(9)))
    made = Pipeline(dataset, parse_augment(["mine.py:Wavers"]), 0, portions(9, 4, 1, 1))
    assert made.samples(3, np.array([5]))[0].shape == (1, 2, 4)
    with pytest.raises(UserError) as caught:
        made.samples(3, np.array([5, 4]))
    assert str(caught.value) == (
        "data.augment = mine.py:Wavers: expected samples of one shape, (2, 4), in epoch 3 sample 5 "
        "and those beside it are (3, 4); return one shape whatever is drawn"
    )


def test_a_transform_that_cannot_be_called_is_refused(write):
    write()
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
