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


def perceptron(*widths: int) -> Any:
    """Linear layers with ReLU between each two."""
    layers: list[Any] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


BUILDERS: dict[str, Callable[[], Any]] = {
    "mlp": lambda: perceptron(784, 256, 128, 10),
    "ciresan": lambda: perceptron(784, 2500, 2000, 1500, 1000, 500, 10),
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
