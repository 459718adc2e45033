"""Ready-made nets by name: `--model mlp`. Recipes of perceptrons; those for images: `convnets.py`.

A recipe is called with `model.args`; the worker adds what the data says (`inputs`, `classes`,
`sample_shape`) where the arguments are silent.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from ..common.errors import UserError
from . import arguments
from .convnets import cifar, lenet, lenet_bn, resnet20
from .model import Model
from .nn.activations import ReLU, Sigmoid, Tanh
from .nn.dense import Dense
from .nn.initialisers import Initialiser, he_normal, uniform, xavier_uniform
from .nn.layer import Layer
from .nn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy
from .nn.sequential import Sequential

_ACTIVATIONS: dict[str, tuple[type[Layer], Initialiser]] = {
    "relu": (ReLU, he_normal),
    "sigmoid": (Sigmoid, xavier_uniform),
    "tanh": (Tanh, xavier_uniform),
}


def mlp(
    inputs: int = 784,
    hidden: Sequence[int] = (256, 128),
    classes: int = 10,
    activation: str = "relu",
) -> Sequential:
    """A multilayer perceptron with softmax outputs and cross-entropy.

    Arguments:
        inputs: numbers in a sample. classes: labels are 0 to classes - 1.
        hidden: the width of each hidden layer; () is multinomial logistic regression.
        activation: `relu`, `sigmoid` or `tanh`, after each hidden layer.
    Raises:
        UserError: an argument is out of range.
    """
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        fix = 'write activation = "relu"'
        raise UserError("model.args.activation", activation, "relu, sigmoid or tanh", fix)
    kind, initialiser = _ACTIVATIONS[activation]
    layers = _perceptron(inputs, hidden, classes, kind, initialiser)
    return Sequential(layers, SoftmaxCrossEntropy())


def logistic(
    inputs: int = 784, hidden: Sequence[int] = (), classes: int = 10, l2: float = 0.0
) -> Sequential:
    """The classical network of logistic units, hidden and output, with L2 regularisation.

    The loss is the cross-entropy summed over the output units, the mean over the samples, plus
    l2 / 2 times the sum of squared weights. Other arguments and errors as in `mlp`.
    """
    arguments.number("l2", l2, "a number, 0 or more", "use 0 for no regularisation")
    layers = _perceptron(inputs, hidden, classes, Sigmoid, xavier_uniform)
    return Sequential(layers, SigmoidCrossEntropy(), l2)


def ciresan(inputs: int = 784, classes: int = 10) -> Sequential:
    """The deep big perceptron for MNIST: 2500-2000-1500-1000-500, tanh, softmax.

    D. Ciresan, U. Meier, L. Gambardella, J. Schmidhuber, "Deep, big, simple neural nets for
    handwritten digit recognition", Neural Computation 22, 2010, table 1, net 5; first weights
    uniform in [-0.05, 0.05] as there. The paper's tanh is scaled, 1.7159 tanh(0.6666 a): the same
    functions, with factors that are left to the weights here. Arguments and errors as in `mlp`.
    """
    hidden, first = (2500, 2000, 1500, 1000, 500), uniform(0.05)
    layers = _perceptron(inputs, hidden, classes, Tanh, first, first)
    return Sequential(layers, SoftmaxCrossEntropy())


ZOO: dict[str, Callable[..., Model]] = {
    recipe.__name__: recipe for recipe in (mlp, logistic, ciresan, lenet, lenet_bn, cifar, resnet20)
}


def _perceptron(
    inputs: int,
    hidden: Sequence[int],
    classes: int,
    activation: type[Layer],
    initialiser: Initialiser,
    last: Initialiser = xavier_uniform,
) -> list[Layer]:
    """Dense layers with an activation between each two."""
    fix = "give the numbers in a sample, 784 for an image of 28x28"
    arguments.count("inputs", inputs, 1, fix)
    arguments.widths(hidden)
    arguments.classes(classes)
    layers: list[Layer] = []
    for fan_in, fan_out in pairwise([inputs, *hidden]):
        layers += [Dense(fan_in, fan_out, initialiser), activation()]
    return [*layers, Dense([inputs, *hidden][-1], classes, last)]
