"""The nets of the zoo as one would write them in PyTorch: images are (n, channels, height, width).

Their parameters come in the order of ours, so that values of ours can be loaded by it.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ..common.types import Array


class FirstLinear(nn.Linear):  # type: ignore[misc]
    """A linear layer behind `Flatten`. Ours flattens height, width and channels in this order."""

    def __init__(self, channels: int, pixels: int, outputs: int) -> None:
        super().__init__(channels * pixels, outputs)
        self.channels = channels


class Block(nn.Module):  # type: ignore[misc]
    """The residual block of He et al. 2016; where the shape changes, with their option B."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(inputs, outputs, 3, True, stride=stride, padding=1),
            *convolution(outputs, outputs, 3, True, padding=1)[:-1],
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut.extend(convolution(inputs, outputs, 1, True, stride=stride)[:-1])
        self.last = nn.ReLU(inplace=True)

    def forward(self, inputs: Any) -> Any:
        """(n, inputs, height, width) to (n, outputs, height / stride, width / stride)."""
        return self.last(self.body(inputs) + self.shortcut(inputs))


def convolution(
    inputs: int, outputs: int, kernel: int, batchnorm: bool = False, **more: int
) -> list[Any]:
    """A convolution and ReLU, with batch normalisation in between."""
    layer = nn.Conv2d(inputs, outputs, kernel, bias=not batchnorm, **more)
    normal = [nn.BatchNorm2d(outputs)] if batchnorm else []
    return [layer, *normal, nn.ReLU(inplace=True)]


def perceptron(activation: Callable[[], Any], *widths: int) -> Any:
    """Linear layers with an activation between each two."""
    layers: list[Any] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


def lenet(batchnorm: bool = False) -> Any:
    """Two 5x5 convolutions, each with a maximum, and 128 units, on images of 28x28."""
    normal = [nn.BatchNorm1d(128)] if batchnorm else []
    return nn.Sequential(
        *(*convolution(1, 16, 5, batchnorm), nn.MaxPool2d(2)),
        *(*convolution(16, 32, 5, batchnorm), nn.MaxPool2d(2)),
        *(nn.Flatten(), FirstLinear(32, 16, 128), *normal, nn.ReLU(inplace=True)),
        nn.Linear(128, 10),
    )


def cifar() -> Any:
    """Three blocks of two 3x3 convolutions and a maximum, and 128 units, on images of 32x32."""
    layers: list[Any] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 128)):
        layers += convolution(inputs, outputs, 3, padding=1)
        layers += [*convolution(outputs, outputs, 3, padding=1), nn.MaxPool2d(2)]
    top = [nn.Flatten(), FirstLinear(128, 16, 128), nn.ReLU(inplace=True), nn.Linear(128, 10)]
    return nn.Sequential(*layers, *top)


def resnet20() -> Any:
    """A 3x3 convolution, nine blocks, the mean over the image and one linear layer."""
    layers, inputs = convolution(3, 16, 3, True, padding=1), 16
    for outputs, first in ((16, 1), (32, 2), (64, 2)):
        for stride in (first, 1, 1):
            layers.append(Block(inputs, outputs, stride))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


BUILDERS: dict[str, Callable[[], Any]] = {
    "mlp": lambda: perceptron(lambda: nn.ReLU(inplace=True), 784, 256, 128, 10),
    "ciresan": lambda: perceptron(nn.Tanh, 784, 2500, 2000, 1500, 1000, 500, 10),
    "lenet": lenet,
    "lenet_bn": lambda: lenet(batchnorm=True),
    "cifar": cifar,
    "resnet20": resnet20,
}
"""By the names of our zoo."""


def parameters(net: Any) -> Iterator[tuple[Any, Any]]:
    """Each parameter with its layer, in the order of ours: weight, then bias."""
    for layer in net.modules():
        for _, parameter in layer.named_parameters(recurse=False):
            yield layer, parameter


def as_torch(layer: Any, values: Array) -> Any:
    """Values of ours for a layer's weight or bias, in the shape that PyTorch wants.

    (inputs, outputs) becomes (outputs, inputs), (kernel, kernel, inputs, outputs) becomes
    (outputs, inputs, kernel, kernel), and behind `Flatten` inputs are put in PyTorch's order.
    """
    found = torch.from_numpy(values)
    if values.ndim == 4:
        return found.permute(3, 2, 0, 1)
    if isinstance(layer, FirstLinear) and values.ndim == 2:
        outputs = values.shape[1]
        found = found.reshape(-1, layer.channels, outputs).transpose(0, 1).reshape(-1, outputs)
    return found.T if values.ndim == 2 else found


def as_images(inputs: Array) -> Any:
    """Inputs of ours (n, height, width) or (n, height, width, channels) as PyTorch takes them."""
    found = torch.from_numpy(inputs)
    return (found[:, None] if inputs.ndim == 3 else found.permute(0, 3, 1, 2)).contiguous()
