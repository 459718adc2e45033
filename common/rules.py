"""Update rules: how a gradient changes parameters, in place on a slice (a shard), and their state.

Servers apply them per shard, workers that step locally per vector; both run the same kernels, so
that updating shard by shard equals updating the whole vector bit for bit. Hyperparameters, their
checks and the state of each rule live here; the loops live in `rule_kernels`. No networking, no
thread and no clock.

This module does not import numba: `make_rule` is cheap enough to check a job in the launcher. The
kernels, and numba with them, are imported by the first `apply`; a role that will apply rules
imports `rule_kernels` when it starts, so that no push waits for it.

Weight decay is decoupled from the gradient (Loshchilov and Hutter 2019, "Decoupled Weight Decay
Regularization", algorithm 2): it never enters the statistics of a rule.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import ClassVar

import numpy as np

from .errors import UserError
from .types import Float32

Spans = Sequence[tuple[int, int]]
"""Half-open ranges [begin, end) of elements, ascending and disjoint."""


@dataclass
class RuleState:
    """What a rule remembers about one slice; all that a checkpoint needs to save of it.

    `steps` counts the updates applied. `slots` holds one float32 array (size,) for each name in
    the rule's `slots`, zero at first.
    """

    steps: int
    slots: dict[str, Float32]


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """An update rule and its hyperparameters; immutable, so any number of threads may share it.

    `lr` is the rate (the change of a parameter per unit of the rule's direction), `weight_decay`
    the λ of decoupled decay (per update and unit of rate).
    """

    slots: ClassVar[tuple[str, ...]] = ()

    lr: float
    weight_decay: float = 0.0

    def state(self, size: int) -> RuleState:
        """The state of a fresh slice of `size` elements."""
        return RuleState(0, {name: np.zeros(size, np.float32) for name in self.slots})

    def apply(
        self,
        parameters: Float32,
        gradient: Float32,
        state: RuleState,
        scale: float = 1.0,
        decayed: Spans = (),
    ) -> None:
        """Update `parameters` (size,) in place and advance `state`.

        Arguments:
            parameters: contiguous float32; written.
            gradient: contiguous float32 of the same size; read (a read-only view will do).
            state: made by `state(size)`, advanced by one step.
            scale: multiplies the step and the decay, never the statistics: (1 + s)^-κ for a push
                of staleness s, times the number of minibatches in it.
            decayed: the elements, counted within this slice, that weight decay applies to.

        Not checked: whether the gradient is finite (`rule_kernels.finite`). Calls on different
        states and slices may run at the same time; calls on one state may not.
        """
        assert parameters.dtype == gradient.dtype == np.float32
        assert parameters.shape == gradient.shape
        assert all(state.slots[name].shape == parameters.shape for name in self.slots)
        state.steps += 1
        rate = scale * self.lr
        for begin, end, decays in _segments(parameters.size, decayed if self.weight_decay else ()):
            self._advance(
                parameters[begin:end],
                gradient[begin:end],
                [state.slots[name][begin:end] for name in self.slots],
                state.steps,
                np.float32(rate),
                np.float32(rate * self.weight_decay if decays else 0.0),
            )

    @abstractmethod
    def _advance(
        self,
        parameters: Float32,
        gradient: Float32,
        slots: list[Float32],
        step: int,
        rate: np.float32,
        shrink: np.float32,
    ) -> None:
        """The update number `step` (from 1): p -= shrink p + rate · direction."""


@dataclass(frozen=True, kw_only=True)
class Sgd(Rule):
    """Stochastic gradient descent: p -= lr g."""

    def _advance(
        self,
        parameters: Float32,
        gradient: Float32,
        slots: list[Float32],
        step: int,
        rate: np.float32,
        shrink: np.float32,
    ) -> None:
        from . import rule_kernels as kernels

        kernels.sgd(parameters, kernels.read_only(gradient), rate, shrink)


@dataclass(frozen=True, kw_only=True)
class Momentum(Rule):
    """Heavy ball (Polyak 1964) as in PyTorch: v = μ v + g; p -= lr v.

    The rate stands outside of v, so that `scale` weighs a step and not the velocity.
    """

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    momentum: float = 0.9

    def _advance(
        self,
        parameters: Float32,
        gradient: Float32,
        slots: list[Float32],
        step: int,
        rate: np.float32,
        shrink: np.float32,
    ) -> None:
        from . import rule_kernels as kernels

        gradient, keep = kernels.read_only(gradient), np.float32(self.momentum)
        kernels.momentum(parameters, gradient, slots[0], rate, shrink, keep)


@dataclass(frozen=True, kw_only=True)
class Adagrad(Rule):
    """Adagrad (Duchi, Hazan and Singer 2011), diagonal: v += g²; p -= lr g / (√v + eps).

    v starts at zero and eps stands outside of the root, as in PyTorch.
    """

    slots: ClassVar[tuple[str, ...]] = ("squares",)

    eps: float = 1e-10

    def _advance(
        self,
        parameters: Float32,
        gradient: Float32,
        slots: list[Float32],
        step: int,
        rate: np.float32,
        shrink: np.float32,
    ) -> None:
        from . import rule_kernels as kernels

        gradient, eps = kernels.read_only(gradient), np.float32(self.eps)
        kernels.adagrad(parameters, gradient, slots[0], rate, shrink, eps)


@dataclass(frozen=True, kw_only=True)
class RmsProp(Rule):
    """RMSprop with bias correction and no momentum: Adam with β1 = 0 (the asynchronous default).

    v = ρ v + (1 - ρ) g²;  p -= lr g / (√(v / (1 - ρ^t)) + eps), where t counts the updates of this
    slice: Kingma and Ba 2015, algorithm 1, with β2 = ρ = 0.99 and eps = 1e-8. Without the
    correction (Tieleman and Hinton 2012) the first steps would be 1 / √(1 - ρ) times the rate.
    There is no momentum, because staleness acts as one (Mitliagkas et al. 2016, "Asynchrony begets
    momentum").

    ρ is that of PyTorch's RMSprop and not the 0.999 of Adam: with gradients 0 to 31 updates stale
    and steps scaled by (1 + s)^-1/2, a 784-256-128-10 net on MNIST ended 0.1 to 0.5 points of test
    accuracy higher (3 epochs at rate 1e-3, minibatch 32), and 0.9 fell behind as well.
    """

    slots: ClassVar[tuple[str, ...]] = ("squares",)

    decay: float = 0.99
    eps: float = 1e-8

    def _advance(
        self,
        parameters: Float32,
        gradient: Float32,
        slots: list[Float32],
        step: int,
        rate: np.float32,
        shrink: np.float32,
    ) -> None:
        from . import rule_kernels as kernels

        kernels.rmsprop(
            parameters,
            kernels.read_only(gradient),
            slots[0],
            rate,
            shrink,
            np.float32(self.decay),
            np.float32(1.0 - self.decay),
            np.float32(1.0 / (1.0 - self.decay**step)),
            np.float32(self.eps),
        )


RULES: dict[str, type[Rule]] = {
    "sgd": Sgd,
    "momentum": Momentum,
    "adagrad": Adagrad,
    "rmsprop": RmsProp,
}


def make_rule(
    name: str,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    section: str = "optimizer",
) -> Rule:
    """The rule called `name` in the job file, its settings checked; numba is not imported.

    `momentum` is used by the rule of that name alone, but always checked. `section` is the table
    of the job file that the settings come from (`optimizer` or `outer`), for the messages.

    Raises:
        UserError: an unknown rule; lr that is not above 0; momentum outside of [0, 1); negative
            weight_decay; anything that is not a finite number.
    """
    if name not in RULES:
        nearest = (*get_close_matches(str(name), RULES, n=1), "rmsprop")[0]
        expected = f"one of {', '.join(RULES)}"
        raise UserError(f"{section}.rule", name, expected, f'write rule = "{nearest}"')
    if not (_is_number(lr) and lr > 0):
        raise UserError(f"{section}.lr", lr, "a finite number above 0", "try lr = 0.001")
    if not (_is_number(momentum) and 0 <= momentum < 1):
        expected = "a number from 0 up to, but not including, 1"
        raise UserError(f"{section}.momentum", momentum, expected, "try momentum = 0.9")
    if not (_is_number(weight_decay) and weight_decay >= 0):
        fix = "write weight_decay = 0.0 for none"
        raise UserError(f"{section}.weight_decay", weight_decay, "a finite number, 0 or more", fix)
    if name == "momentum":
        return Momentum(lr=lr, momentum=momentum, weight_decay=weight_decay)
    return RULES[name](lr=lr, weight_decay=weight_decay)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _segments(size: int, decayed: Spans) -> Iterator[tuple[int, int, bool]]:
    """Cut [0, size) at the borders of `decayed` into (begin, end, whether decay applies)."""
    at = 0
    for begin, end in decayed:
        assert at <= begin <= end <= size
        if at < begin:
            yield at, begin, False
        if begin < end:
            yield begin, end, True
        at = end
    if at < size:
        yield at, size, False
