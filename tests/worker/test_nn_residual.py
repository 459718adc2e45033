"""Residual blocks: names, the order of draws, and branches that do not meet."""

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.worker.nn.activations import LeakyReLU, ReLU
from dualshard.worker.nn.convolution import Conv2D
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.dropout import Dropout
from dualshard.worker.nn.norm import BatchNorm
from dualshard.worker.nn.residual import Residual


def test_parameters_are_named_by_branch_and_place():
    layer = Residual(
        [Conv2D(2, 3, 3, padding=1), BatchNorm(3), Residual([Conv2D(3, 3, 1, bias=False)])],
        [Conv2D(2, 3, 1, bias=False), BatchNorm(3)],
    )
    assert layer.shapes() == {
        "conv2d1.weight": (3, 3, 2, 3),
        "conv2d1.bias": (3,),
        **{f"batchnorm1.{name}": (3,) for name in ("weight", "bias", "mean", "variance")},
        "residual1.conv2d1.weight": (1, 1, 3, 3),
        "shortcut.conv2d1.weight": (1, 1, 2, 3),
        **{f"shortcut.batchnorm1.{name}": (3,) for name in ("weight", "bias", "mean", "variance")},
    }
    averages = ("mean", "variance")
    assert layer.averaged() == {
        *(f"batchnorm1.{name}" for name in averages),
        *(f"shortcut.batchnorm1.{name}" for name in averages),
    }


def test_first_values_reach_both_branches():
    layer = Residual([Dense(4, 3)], [Dense(4, 3)])
    parameters = {name: np.full(shape, np.nan) for name, shape in layer.shapes().items()}
    layer.start(parameters, np.random.default_rng(1))
    assert all(np.isfinite(value).all() for value in parameters.values())
    assert not np.array_equal(parameters["dense1.weight"], parameters["shortcut.dense1.weight"])


def test_an_empty_body_doubles_its_inputs():
    inputs = np.arange(6.0).reshape(2, 3)
    layer = Residual([])
    assert np.array_equal(layer.forward({}, inputs, None), 2 * inputs)
    assert np.array_equal(layer.backward({}, {}, inputs), 2 * inputs)


def test_random_draws_come_body_first():
    rate, inputs = 0.5, np.ones((20, 30))
    outputs = Residual([Dropout(rate)], [Dropout(rate)]).forward(
        {}, inputs, np.random.default_rng(4)
    )
    rng = np.random.default_rng(4)
    body, shortcut = (Dropout(rate).forward({}, inputs, rng) for _ in range(2))
    assert np.array_equal(outputs, body + shortcut)
    assert not np.array_equal(body, shortcut)


def test_the_array_module_reaches_every_layer():
    relu, leaky = ReLU(), LeakyReLU()
    outer = Residual([Residual([relu], [leaky])])
    module = type(np)("another")
    outer.use(module)
    assert relu.xp is leaky.xp is outer.xp is module


def test_branches_that_end_unlike_are_refused():
    with pytest.raises(UserError) as error:
        Residual([Conv2D(2, 3, 3, stride=2, padding=1)]).outputs((8, 8, 2))
    assert str(error.value) == (
        "Residual.shortcut = outputs of shape (8, 8, 2): expected (4, 4, 3), as those of the body; "
        "give a shortcut that ends alike, for example a Conv2D with a kernel of 1"
    )
