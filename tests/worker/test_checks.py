"""Models that break their contract: one line that names the model, the parameter, and what is so.

Each model is a file as a user has it, and meets the worker as it would in a job.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualshard.common.cluster import DataShape
from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.worker.checks import check_measures, check_written, spoil
from dualshard.worker.layout import Layout
from dualshard.worker.step import Stepper

DATA = DataShape(100, 20, 3, (2, 2), 5)

MODEL = """
from threading import Lock

import numpy as np
from dualshard.worker.model import Model


class Good(Model):
    def shapes(self):
        return {"w": (4, 3), "b": (3,)}

    def start(self, parameters, rng):
        for values in parameters.values():
            values[...] = 0

    def gradients(self, parameters, gradients, batch, rng):
        for values in gradients.values():
            values[...] = 1
        return {"loss": 0.5}

    def evaluate(self, parameters, batch):
        return {"loss": 0.5}


class NoDict(Good):
    def shapes(self):
        return [("w", (4, 3))]


class NoShape(Good):
    def shapes(self):
        return {"w": 12}


class Renamed(Good):
    built = 0

    def __init__(self):
        Renamed.built += 1
        self.number = Renamed.built

    def shapes(self):
        return {"w": (4, 3), f"b{self.number}": (3,)}


class Grown(Good):
    hidden = 4

    def shapes(self):
        return {"w": (self.hidden, 3), "b": (3,)}

    def gradients(self, parameters, gradients, batch, rng):
        self.hidden = 5
        return super().gradients(parameters, gradients, batch, rng)


class Turned(Good):
    turned = False

    def shapes(self):
        shapes = {"w": (4, 3), "b": (3,)}
        return dict(reversed(shapes.items())) if self.turned else shapes

    def gradients(self, parameters, gradients, batch, rng):
        self.turned = True
        return super().gradients(parameters, gradients, batch, rng)


class NaNStart(Good):
    def start(self, parameters, rng):
        super().start(parameters, rng)
        parameters["b"][1] = np.nan


class Unwritten(Good):
    def gradients(self, parameters, gradients, batch, rng):
        gradients["w"][...] = 1
        return {"loss": 0.5}


class Added(Good):
    def gradients(self, parameters, gradients, batch, rng):
        gradients["w"] += 1
        gradients["b"] -= 1
        return {"loss": 0.5}


class Replaced(Good):
    def gradients(self, parameters, gradients, batch, rng):
        gradients["w"] = np.ones((4, 3), np.float32)
        return {"loss": 0.5}


class Twisted(Good):
    def gradients(self, parameters, gradients, batch, rng):
        gradients["w"][...] = np.ones((3, 4))
        return {"loss": 0.5}


class Cost(Good):
    def gradients(self, parameters, gradients, batch, rng):
        super().gradients(parameters, gradients, batch, rng)
        return {"cost": 1.0}


class Locked(Good):
    def __init__(self):
        self.lock = Lock()


class Holding(Good):
    def __init__(self):
        self.xp = np


good = Good()
holding = Holding()
locked = Locked()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)


def job(ref: str, **args: Any) -> Job:
    return Job.from_dict({"model": {"ref": f"mine.py:{ref}", "args": args}})


def refusal(ref: str, **args: Any) -> str:
    with pytest.raises(UserError) as refused:
        Stepper(job(ref, **args), DATA)
    return str(refused.value)


CASES = {
    "NoDict": "shapes() to return a dictionary; it returned one of type list",
    "NoShape": "parameter shapes of positive integers; shapes()['w'] is 12",
    "Renamed": "b1 to be (3,) as at first; built again it is not there",
    "Grown": "w to be (4, 3) as at first; after a step it is (5, 3)",
    "Turned": "parameters in the order w, b; after a step it changed",
    "NaNStart": "finite first values; start() leaves NaN or infinity in b",
    "Unwritten": "every gradient to be written at each call; "
    "3 of the 3 elements of gradients['b'] were not",
    "Added": "every gradient to be written at each call; "
    "12 of the 12 elements of gradients['w'] were not",
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_that_breaks_its_contract(name: str) -> None:
    assert refusal(name) == f"model.ref = mine.py:{name}: expected {CASES[name]}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Replaced", "TypeError: write into the array: parameters['w'][...] = values at "),
        (
            "Twisted",
            "ValueError: could not broadcast input array from shape (3,4) into shape (4,3)",
        ),
    ],
)
def test_what_raises_says_where(name: str, words: str) -> None:
    found = refusal(name)
    expected = f"no error while computing gradients; it raised {words}"
    assert found.startswith(f"model.ref = mine.py:{name}: expected {expected}")
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("done", "return a dictionary of measures; it returned one of type str"),
        ([0.5], "return a dictionary of measures; it returned one of type list"),
        ({}, "return a dictionary with loss; it returned an empty one"),
        (
            {"cost": 1.0, "accuracy": 1.0},
            "return a dictionary with loss; it returned cost, accuracy",
        ),
        ({"loss": "low"}, "return numbers; loss is of type str"),
    ],
)
def test_measures_are_a_dictionary_of_numbers(what: Any, expected: str) -> None:
    model = "model.ref = mine.py:Good: expected evaluate() to"
    with pytest.raises(UserError) as refused:
        check_measures(job("Good"), what, "evaluate")
    assert str(refused.value) == f"{model} {expected}"


def test_measures_of_arrays() -> None:
    found = check_measures(job("Good"), {"loss": np.float32(0.5), "n": np.ones(())}, "gradients")
    assert found == {"loss": 0.5, "n": 1.0}
    assert {type(value) for value in found.values()} == {float}
    with pytest.raises(UserError) as refused:
        check_measures(job("Good"), {"loss": np.ones(2)}, "gradients")
    assert str(refused.value).endswith(
        "expected gradients() to return numbers; loss is of type ndarray of shape (2,)"
    )


def test_measures_are_looked_at_in_training_and_evaluation() -> None:
    assert refusal("Cost") == (
        "model.ref = mine.py:Cost: expected gradients() to return a dictionary with loss; "
        "it returned cost"
    )
    stepper = Stepper(job("Good"), DATA)
    stepper._models[-1].evaluate = lambda *given: None  # type: ignore[assignment,method-assign]
    with pytest.raises(UserError) as refused:
        stepper.evaluate(stepper.vector, [(np.zeros((2, 2, 2), np.float32), np.zeros(2))])
    assert str(refused.value) == (
        "model.ref = mine.py:Good: expected evaluate() to return a dictionary of measures; "
        "it returned one of type NoneType"
    )


def test_nan_that_a_model_computes_is_no_gradient_left_out() -> None:
    views = Layout({"w": (2,), "scale": ()}).views(np.zeros(3, np.float32))
    spoil(views.flat)
    assert np.isnan(views.flat).all()
    with np.errstate(invalid="ignore"):
        views["w"][:] = np.log(np.float32(-1))
    with pytest.raises(UserError) as refused:
        check_written(job("Good"), views)
    assert str(refused.value).endswith("1 of the 1 elements of gradients['scale'] were not")
    views["scale"][...] = np.nan
    check_written(job("Good"), views)


@pytest.mark.parametrize("ref", ["Good", "good", "holding"])
def test_every_lane_has_a_model_of_its_own(ref: str) -> None:
    stepper = Stepper(job(ref), DATA)
    assert len({id(model) for model in stepper._models}) == len(stepper._models) >= 3
    assert list(stepper.layout.shapes) == ["w", "b"]


def test_a_model_that_cannot_be_copied_says_so() -> None:
    assert refusal("locked").startswith(
        "model.ref = mine.py:locked: expected no error while copying it for a lane; "
        "it raised TypeError: cannot pickle '_thread.lock' object at "
    )
