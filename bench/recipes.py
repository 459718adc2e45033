"""How the PyTorch side of `bench train` and `bench accuracy` learns. Pure data: PyTorch is not
imported."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A class of `torch.optim`, its arguments, and for how long at most.

    `schedule` is one of ours, over the epochs, `warmup` the fraction in which it rises. `batch` are
    the samples of a minibatch in each process, and `shift` the pixels by which images are moved at
    random, up to so many each way.
    Training ends early when the test accuracy `enough` is reached.
    """

    optimizer: str
    arguments: dict[str, Any] = field(default_factory=dict)
    epochs: int = 5
    schedule: str = "constant"
    net: str = "mlp"
    batch: int = 32
    shift: float = 0.0
    enough: float = 0.975
    warmup: float = 0.0


PLAIN = {
    "Adam 1e-3": Recipe("Adam", {"lr": 1e-3}),
    "fused Adam 1e-3": Recipe("Adam", {"lr": 1e-3, "fused": True}),
    "RMSprop 1e-3": Recipe("RMSprop", {"lr": 1e-3}),
}
"""What one would write first; the best of them in each row is what we are compared with."""
OURS = "RMSprop 2e-3 falling linearly over 3 epochs"
"""Our own default rule, rate and schedule."""
DDP = "Adam 1e-3"
"""The recipe of the two processes of DDP."""

RECIPES = {**PLAIN, OURS: Recipe("RMSprop", {"lr": 2e-3}, 3, "linear")}


def one_cycle(rate: float, rise: float, shift: float, batch: int, epochs: int) -> Recipe:
    """`lenet_bn` with Nesterov's momentum over one cycle of the rate, `rate` at its top, which it
    reaches after the fraction `rise`."""
    arguments = {"lr": rate, "momentum": 0.9, "nesterov": True}
    never = 2.0
    return Recipe("SGD", arguments, epochs, "onecycle", "lenet_bn", batch, shift, never, rise)
