"""Update rules: how a gradient changes parameters, in place on a slice (a shard), and their state.

Servers apply them per shard, workers that step locally per vector; both run the same kernels, so
that updating shard by shard equals updating the whole vector bit for bit. Hyperparameters and the
state of each rule live here; the loops live in `rule_kernels`, the settings and their checks in
`job`. No networking, no thread and no clock.

This module does not import numba: `make_rule` is cheap enough to check a job in the launcher. The
kernels, and numba with them, are imported by the first `apply`; a role that will apply rules
imports `rule_kernels` when it starts, so that no push waits for it.

Weight decay is decoupled from the gradient (Loshchilov and Hutter 2019, "Decoupled Weight Decay
Regularization", algorithm 2): it never enters the statistics of a rule.

Averaged state (running statistics, which the model marks) is not trained: on its segments every
rule does p -= g, and what the rule remembers of them stays zero.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .job import RuleSection
from .rates import Segments
from .types import Float32


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
    the λ of decoupled decay (per update and unit of rate). `kernel` names the rule's loop in
    `rule_kernels`.
    """

    kernel: ClassVar[str]
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
        segments: Segments = (),
        copy_to: Float32 | None = None,
        *,
        absorb: bool = False,
        kernels: Any = None,
        averaged: float = 1.0,
    ) -> None:
        """Update `parameters` (size,) in place and advance `state`.

        Arguments:
            parameters: contiguous float32; written.
            gradient: contiguous float32 of the same size; read (a read-only view will do).
            state: made by `state(size)`, advanced by one step.
            scale: multiplies the step and the decay, never the statistics: (1 + s)^-κ for a push
                of staleness s, times the number of minibatches in it.
            segments: where rate and decay differ, counted within this slice; () is one segment of
                rate 1 without decay.
            copy_to: contiguous float32 of the same size that overlaps nothing; the fresh
                parameters are written there too, which is faster than copying them afterwards.
            absorb: write the fresh parameters over the gradient instead, which must be writable;
                `parameters` stay as they are.
            kernels: the loops, where the arrays are not the host's (`worker.device_rules`).
            averaged: takes the place of rate and `scale` on averaged segments: p -= averaged g.

        Not checked: whether the gradient is finite (`rule_kernels.finite`). Calls on different
        states and slices may run at the same time; calls on one state may not.
        """
        assert parameters.dtype == gradient.dtype == np.float32
        assert parameters.shape == gradient.shape
        assert copy_to is None or copy_to.shape == parameters.shape
        if kernels is None:
            from . import rule_kernels as kernels
        slots = [state.slots[name] for name in self.slots]
        assert all(slot.shape == parameters.shape for slot in slots)
        state.steps += 1
        if not segments:
            self._advance(
                kernels, parameters, gradient, slots, copy_to, absorb, state.steps, scale, False
            )
            return
        at = 0
        for segment in segments:
            assert at == segment.begin <= segment.end
            at, part = segment.end, slice(segment.begin, segment.end)
            fresh = None if copy_to is None else copy_to[part]
            if segment.averaged:
                _average(kernels, parameters[part], gradient[part], fresh, absorb, averaged)
                continue
            self._advance(
                kernels,
                parameters[part],
                gradient[part],
                [slot[part] for slot in slots],
                fresh,
                absorb,
                state.steps,
                scale * segment.rate,
                segment.decays,
            )
        assert at == parameters.size

    def _advance(
        self,
        kernels: Any,
        parameters: Float32,
        gradient: Float32,
        slots: list[Float32],
        copy_to: Float32 | None,
        absorb: bool,
        step: int,
        scale: float,
        decays: bool,
    ) -> None:
        """The update number `step` (from 1) of elements that are all treated alike."""
        rate = scale * self.lr
        shrink = rate * self.weight_decay if decays else 0.0
        numbers = np.array((rate, shrink, *self._scalars(step)), np.float32)
        gradient = gradient if absorb else kernels.read_only(gradient)
        kernel = getattr(kernels, self.kernel)
        kernel(parameters, gradient, *slots, copy_to, absorb or None, numbers)

    @abstractmethod
    def _scalars(self, step: int) -> tuple[float, ...]:
        """The numbers that the kernel takes after rate and shrink, at update `step` (from 1)."""


def _average(
    kernels: Any,
    parameters: Float32,
    gradient: Float32,
    copy_to: Float32 | None,
    absorb: bool,
    scale: float,
) -> None:
    """p -= scale g: `sgd` at that rate, whatever the rule."""
    gradient = gradient if absorb else kernels.read_only(gradient)
    numbers = np.array((scale, 0.0), np.float32)
    kernels.sgd(parameters, gradient, copy_to, absorb or None, numbers)


@dataclass(frozen=True, kw_only=True)
class Sgd(Rule):
    """Stochastic gradient descent: p -= lr g."""

    kernel = "sgd"

    def _scalars(self, step: int) -> tuple[float, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class Momentum(Rule):
    """Heavy ball (Polyak 1964) as in PyTorch: v = μ v + g; p -= lr v.

    The rate stands outside of v, so that `scale` weighs a step and not the velocity.
    """

    kernel = "momentum"
    slots = ("velocity",)

    momentum: float = 0.9

    def _scalars(self, step: int) -> tuple[float, ...]:
        return (self.momentum,)


@dataclass(frozen=True, kw_only=True)
class Nesterov(Momentum):
    """Nesterov's momentum as in PyTorch: v = μ v + g; p -= lr (g + μ v).

    Sutskever et al. 2013, equations 3 and 4, in terms of the parameters at which the gradient is
    taken (Bengio, Boulanger-Lewandowski and Pascanu 2013, equation 7), the rate outside of v.
    """

    kernel = "nesterov"


@dataclass(frozen=True, kw_only=True)
class Adagrad(Rule):
    """Adagrad (Duchi, Hazan and Singer 2011), diagonal: v += g²; p -= lr g / (√v + eps).

    v starts at zero and eps stands outside of the root, as in PyTorch.
    """

    kernel = "adagrad"
    slots = ("squares",)

    eps: float = 1e-10

    def _scalars(self, step: int) -> tuple[float, ...]:
        return (self.eps,)


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

    kernel = "rmsprop"
    slots = ("squares",)

    decay: float = 0.99
    eps: float = 1e-8

    def _scalars(self, step: int) -> tuple[float, ...]:
        return (self.decay, 1.0 - self.decay, 1.0 / (1.0 - self.decay**step), self.eps)


@dataclass(frozen=True, kw_only=True)
class Adam(Rule):
    """Adam (Kingma and Ba 2015, algorithm 1); with decoupled decay, as here, also called AdamW.

    m = β1 m + (1 - β1) g;  v = β2 v + (1 - β2) g²;
    p -= lr (m / (1 - β1^t)) / (√(v / (1 - β2^t)) + eps), where t counts the updates of this slice,
    β1 = `momentum` and β2 = `decay`.
    """

    kernel = "adam"
    slots = ("mean", "squares")

    momentum: float = 0.9
    decay: float = 0.999
    eps: float = 1e-8

    def _scalars(self, step: int) -> tuple[float, ...]:
        first = (self.momentum, 1.0 - self.momentum, 1.0 / (1.0 - self.momentum**step))
        second = (self.decay, 1.0 - self.decay, 1.0 / (1.0 - self.decay**step))
        return (*first, *second, self.eps)


RULES: dict[str, type[Rule]] = {
    "sgd": Sgd,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RmsProp,
    "adam": Adam,
    "adamw": Adam,
}


def make_rule(section: RuleSection) -> Rule:
    """The rule that `[optimizer]` or `[outer]` asks for; numba is not imported."""
    made = RULES[section.rule]
    asked = {"momentum": section.momentum}
    # 0 stands for the rule's own.
    asked |= {"decay": section.beta2} if section.beta2 else {}
    asked |= {"eps": section.eps} if section.eps else {}
    taken = {name: value for name, value in asked.items() if name in made.__dataclass_fields__}
    return made(lr=section.lr, weight_decay=section.weight_decay, **taken)
