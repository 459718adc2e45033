"""The nets of `bench compute`: what goes in, at which sizes of a minibatch they are measured, and
the goals. Pure data: neither our nets nor PyTorch are imported.

A goal is the ratio of our samples/s to PyTorch's on one thread, or on the same GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Net:
    """A net of the zoo, the shape of one sample, and the goals by size of the minibatch."""

    sample_shape: tuple[int, ...]
    goals: Mapping[int, float | None]
    gpu_goal: float | None

    @property
    def batches(self) -> tuple[int, ...]:
        """The sizes at which it is measured where nobody says which."""
        return tuple(self.goals)

    def goal(self, batch: int, device: str) -> float | None:
        """The goal on this device, None where there is none."""
        return self.goals.get(batch) if device == "cpu" else self.gpu_goal


CLASSES = 10
NETS = {
    "mlp": Net((28, 28), {8: 2.5, 32: 2.3, 128: 1.6}, 1.0),
    "ciresan": Net((28, 28), {32: 1.6, 128: 1.25}, 1.0),
    "lenet": Net((28, 28), {32: 1.5, 128: 1.5}, 0.8),
    "lenet_bn": Net((28, 28), {32: None, 128: None}, 0.8),
    "cifar": Net((32, 32, 3), {32: 1.2, 128: 1.2}, 0.8),
    "resnet20": Net((32, 32, 3), {32: 1.0, 128: 1.0}, 0.8),
}
"""By their names in the zoo."""
