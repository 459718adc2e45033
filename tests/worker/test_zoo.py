"""The ready-made nets: they learn, and bad arguments are named."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dualshard.common.errors import UserError
from dualshard.worker.layout import Layout
from dualshard.worker.zoo import ZOO, ciresan, logistic, mlp

PERCEPTRONS = pytest.mark.parametrize("name", ["mlp", "logistic"])


@PERCEPTRONS
def test_a_net_of_the_zoo_learns_digits(name):
    images, labels = load_digits(return_X_y=True)
    images, rng = (images / 16).astype(np.float32), np.random.default_rng(0)
    net = ZOO[name](inputs=64, classes=10)
    layout = Layout(net.shapes())
    parameters, gradients = (layout.views(np.empty(layout.size, np.float32)) for _ in "pg")
    net.start(parameters, rng)
    for _ in range(10):
        for rows in np.split(rng.permutation(1280), 40):
            net.gradients(parameters, gradients, (images[rows], labels[rows]), rng)
            parameters.flat -= np.float32(0.2) * gradients.flat
    test = net.evaluate(parameters, (images[1280:], labels[1280:]))
    assert test["accuracy"] > 0.85


def test_the_default_mlp_is_the_net_of_the_benchmarks():
    shapes = list(mlp().shapes().values())
    assert shapes == [(784, 256), (256,), (256, 128), (128,), (128, 10), (10,)]


def test_ciresans_net_is_that_of_the_paper():
    net = ciresan()
    assert [shape for shape in net.shapes().values() if len(shape) == 2] == [
        *((784, 2500), (2500, 2000), (2000, 1500), (1500, 1000), (1000, 500), (500, 10)),
    ]
    small = Layout(ciresan(4, 3).shapes())
    parameters = small.views(np.empty(small.size, np.float32))
    ciresan(4, 3).start(parameters, np.random.default_rng(0))
    weight = parameters["dense2.weight"]
    assert -0.05 <= weight.min() < -0.0499
    assert 0.0499 < weight.max() <= 0.05


def test_the_zoo_is_known_by_these_names():
    assert list(ZOO) == ["mlp", "logistic", "ciresan", "lenet", "lenet_bn", "cifar", "resnet20"]


def test_hidden_layers_may_be_none_at_all():
    assert list(mlp(5, [], 3).shapes()) == ["dense1.weight", "dense1.bias"]


BAD = {
    "model.args.inputs = 0: expected a whole number, 1 or more; "
    "give the numbers in a sample, 784 for an image of 28x28": {"inputs": 0},
    "model.args.hidden = 256: expected a list of widths; write [256, 128]": {"hidden": 256},
    "model.args.hidden = [256, 0]: expected whole numbers, 1 or more; "
    "leave out a layer instead of giving it no units": {"hidden": (256, 0)},
    "model.args.hidden = [2.5]: expected whole numbers, 1 or more; "
    "leave out a layer instead of giving it no units": {"hidden": [2.5]},
    "model.args.classes = True: expected a whole number, 2 or more; "
    "give the number of different labels": {"classes": True},
}


@pytest.mark.parametrize(("sentence", "arguments"), BAD.items())
@PERCEPTRONS
def test_bad_arguments_are_named(name, sentence, arguments):
    with pytest.raises(UserError) as error:
        ZOO[name](**arguments)
    assert str(error.value) == sentence


@pytest.mark.parametrize("activation", ["swish", 3])
def test_an_unknown_activation_is_named(activation):
    with pytest.raises(UserError) as error:
        mlp(activation=activation)
    assert str(error.value) == (
        f"model.args.activation = {activation}: expected relu, sigmoid or tanh; "
        'write activation = "relu"'
    )


@pytest.mark.parametrize("l2", [-0.1, float("inf"), float("nan"), True, "0.1"])
def test_bad_regularisation_is_named(l2):
    with pytest.raises(UserError) as error:
        logistic(l2=l2)
    assert str(error.value) == (
        f"model.args.l2 = {l2}: expected a number, 0 or more; use 0 for no regularisation"
    )
