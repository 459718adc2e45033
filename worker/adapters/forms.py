"""Which kind of model a user's object is, told without importing a framework.

An object of PyTorch can only exist once PyTorch is imported, so who has none never waits for it.
"""

import copy
import sys
from typing import Any

from ...common.errors import UserError
from ..model import Model

ONE_OF = "a Model, a PyTorch module, (module, loss), or (init, loss) of JAX"
EXPECTED = f"{ONE_OF}, or a builder of one"


def is_model(found: object) -> bool:
    """Whether an object is a model itself, and not a builder of one."""
    return isinstance(found, Model) or _torch(found) is not None or _jax(found) is not None


def adapt(found: object, ref: str, classes: int) -> Model | None:
    """The `Model` of an object, or None where it is none.

    Arguments:
        ref: what `model.ref` says, for errors. classes: labels are 0 to classes - 1.
    Raises:
        UserError: it is one that cannot be trained as it is, or its framework is not installed.
    """
    if isinstance(found, Model):
        return found
    if (module := _torch(found)) is not None:
        from .torch import TorchModel

        return TorchModel(*module, ref, classes)
    if (functions := _jax(found)) is not None:
        try:
            from .jax import JaxModel
        except ImportError:
            fix = "install it with: pip install 'dualshard[jax]'"
            raise UserError("model.ref", ref, "JAX, for a pair of functions", fix) from None

        return JaxModel(*functions, ref)
    return None


def copy_of(found: Any) -> Any:
    """A model for a lane of its own. The functions of JAX have no state, and are compiled once."""
    if _jax(found) is not None:
        return found
    # Modules that a model holds (numpy, say) are shared by all: nothing else can be done with them.
    return copy.deepcopy(found, {id(module): module for module in list(sys.modules.values())})


def seed(number: int) -> None:
    """Begin the random numbers that a PyTorch module takes for its first values."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(number % 2**64)


def _torch(found: object) -> tuple[Any, Any] | None:
    """A PyTorch module and its loss; None where `found` is no module."""
    nn = sys.modules.get("torch.nn")
    if nn is None:
        return None
    if isinstance(found, nn.Module):
        return found, getattr(found, "loss", None)
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], nn.Module):
        return found
    return None


def _jax(found: object) -> tuple[Any, Any] | None:
    """The functions `init` and `loss`, as a pair or as attributes; None where there are none."""
    if isinstance(found, type):  # a class is a builder
        return None
    if not isinstance(found, tuple):
        found = getattr(found, "init", None), getattr(found, "loss", None)
    fits = len(found) == 2 and all(callable(part) and _torch(part) is None for part in found)
    return (found[0], found[1]) if fits else None
