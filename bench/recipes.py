"""How the PyTorch side of `bench train` optimizes. Pure data: PyTorch is not imported."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A class of `torch.optim`, its arguments, and for how long at most.

    `linear`: the rate falls in a straight line to a hundredth over the epochs, as our default does.
    """

    optimizer: str
    arguments: dict[str, Any] = field(default_factory=dict)
    epochs: int = 5
    linear: bool = False


PLAIN = {
    "Adam 1e-3": Recipe("Adam", {"lr": 1e-3}),
    "fused Adam 1e-3": Recipe("Adam", {"lr": 1e-3, "fused": True}),
    "RMSprop 1e-3": Recipe("RMSprop", {"lr": 1e-3}),
}
"""What one would write first; the best of them in each row is what we are compared with."""
OURS = "RMSprop 2e-3 falling linearly over 3 epochs"
"""Our own default rule, rate and schedule."""
RECIPES = {**PLAIN, OURS: Recipe("RMSprop", {"lr": 2e-3}, 3, True)}
DDP = "Adam 1e-3"
"""The recipe of the two processes of DDP."""
