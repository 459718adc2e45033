"""Ready-made nets by name: `--model mlp`. Only recipes; what they are made of is in `nn/`.

A recipe is called with `model.args`; the worker adds what the data says (`inputs`, `classes`)
where the arguments are silent.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from ..common.errors import UserError
from .model import Model
from .nn.activations import ReLU, Sigmoid, Tanh
from .nn.dense import Dense
from .nn.initialisers import Initialiser, he_normal, xavier_uniform
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
    return Sequential(_perceptron(inputs, hidden, classes, activation), SoftmaxCrossEntropy())


def logistic(
    inputs: int = 784, hidden: Sequence[int] = (), classes: int = 10, l2: float = 0.0
) -> Sequential:
    """The classical network of logistic units, hidden and output, with L2 regularisation.

    The loss is the cross-entropy summed over the output units, the mean over the samples, plus
    l2 / 2 times the sum of squared weights. Other arguments and errors as in `mlp`.
    """
    if isinstance(l2, bool) or not isinstance(l2, int | float) or not 0 <= l2 < float("inf"):
        raise UserError("model.args.l2", l2, "a number, 0 or more", "use 0 for no regularisation")
    return Sequential(_perceptron(inputs, hidden, classes, "sigmoid"), SigmoidCrossEntropy(), l2)


ZOO: dict[str, Callable[..., Model]] = {"mlp": mlp, "logistic": logistic}


def _perceptron(inputs: int, hidden: Sequence[int], classes: int, activation: str) -> list[Layer]:
    """Dense layers with an activation between each two."""
    _check(inputs, hidden, classes, activation)
    kind, initialiser = _ACTIVATIONS[activation]
    layers: list[Layer] = []
    for fan_in, fan_out in pairwise([inputs, *hidden]):
        layers += [Dense(fan_in, fan_out, initialiser), kind()]
    return [*layers, Dense([inputs, *hidden][-1], classes, xavier_uniform)]


def _check(inputs: int, hidden: Sequence[int], classes: int, activation: str) -> None:
    if not _counts(inputs, 1):
        fix = "give the numbers in a sample, 784 for an image of 28x28"
        raise UserError("model.args.inputs", inputs, "a whole number, 1 or more", fix)
    if not isinstance(hidden, list | tuple):
        raise UserError("model.args.hidden", hidden, "a list of widths", "write [256, 128]")
    if not all(_counts(width, 1) for width in hidden):
        fix = "leave out a layer instead of giving it no units"
        raise UserError("model.args.hidden", list(hidden), "whole numbers, 1 or more", fix)
    if not _counts(classes, 2):
        fix = "give the number of different labels"
        raise UserError("model.args.classes", classes, "a whole number, 2 or more", fix)
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        fix = 'write activation = "relu"'
        raise UserError("model.args.activation", activation, "relu, sigmoid or tanh", fix)


def _counts(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
