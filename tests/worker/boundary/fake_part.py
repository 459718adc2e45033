"""A worker around its boundary, whose computing is no more than a proof of what it was given.

An input is (number of the sample, 0) in the bottom part, and each part adds 1 to the second column.
Targets and gradients come back with the number in the first column. So each part can check that the
samples that it was told about, and the answers that it got, are those of what it sent up.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from dualshard.common.delivery import Courier, Open, Peer
from dualshard.common.job import Job
from dualshard.common.messages import AskSamples, Envelope, Message, Refused
from dualshard.common.node import Action, Node
from dualshard.common.partition import has_head
from dualshard.common.types import Float32, Member
from dualshard.worker.batches import Minibatch
from dualshard.worker.boundary.boundary import Learnt
from dualshard.worker.boundary.early import Early
from dualshard.worker.boundary.events import (
    NONE,
    Ahead,
    Back,
    Backed,
    Forward,
    Forwarded,
    Known,
    Train,
    Trained,
)
from dualshard.worker.boundary.linked import KINDS, Linked
from dualshard.worker.boundary.making import make_boundary

PUSHING = 0.02
"""Seconds that a push takes."""
UP = np.float32([0, 1])
LOSS, ACCURACY, PRIMAL, DUAL, GAP, RHO = 2.0, 0.5, 0.125, 0.25, 0.375, 0.0625


class World(Protocol):
    """What a part needs of the net that it is in."""

    job: Job
    supply: list[Any]

    def hand_out(self) -> list[Minibatch]: ...
    def answer_samples(self, part: "Part", ask: AskSamples) -> None: ...
    def has_learnt(self, part: "Part", learnt: Learnt) -> None: ...
    def measured(self, measures: dict[str, float]) -> None: ...
    def said(self, part: "Part", message: Message) -> None: ...
    def heard(self, part: "Part", envelope: Envelope) -> None: ...
    def seconds(self, rank: int) -> float: ...
    def spoiler(self, part: "Part", outputs: Float32) -> Float32: ...
    def after(self, seconds: float, part: "Part", what: Callable[[], None]) -> None: ...


class Part(Node):
    """A worker's state, as far as a boundary sees it.

    Attributes:
        trained: numbers of the samples of each training, or each step of backprop, in order.
        log: every action that was computed.
    """

    def __init__(self, world: World, rank: int, incarnation: int) -> None:
        super().__init__(Courier(incarnation))
        self.world, self.job, self.rank = world, world.job, rank
        self.early = Early(self)
        self.requests |= dict.fromkeys(KINDS, self.early.hold)
        self.boundary: Linked | None = None
        self.free, self.killed, self.failure = True, False, ""
        self.view = -1
        self.unpushed, self.steps, self.pushing, self.settled = 0, 0, False, False
        self.trained: list[tuple[int, ...]] = []
        self.log: list[Any] = []
        self._sum: list[int] = []
        self._slots: dict[int, Float32] = {}

    # What a worker does around its boundary.

    def configure(self) -> None:
        """The job has come."""
        boundary = make_boundary(self, self.job, self.rank, self.early)
        assert isinstance(boundary, Linked)
        self.boundary = boundary
        self.requests |= boundary.requests
        self.replies |= boundary.replies

    def meet(self, below: Member | None, above: Member | None, gone: list[Member]) -> None:
        """A view has come (see `Session`)."""
        assert self.boundary is not None
        for member in gone:
            self.courier.forget(member.address)
        self.boundary.meet(below, above)

    def fail(self, status: int, reason: str) -> None:
        assert status in (1, 2)
        self.failure = reason

    def refused(self, request: Open, reply: Refused) -> None:
        assert self.boundary is not None
        assert self.boundary.refused(request, reply)

    def happened(self, event: object) -> None:
        assert callable(event)
        event()
        self.go_on()

    def ask(self, peer: Peer, message: Message, tag: Any = None, *rest: Any) -> None:
        self.world.said(self, message)
        super().ask(peer, message, tag, *rest)

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> list[Action]:
        actions = super().receive(peer, envelope, now)
        self.world.heard(self, envelope)
        self.go_on()
        return actions + self.take()

    def go_on(self) -> None:
        """Whatever can be done now."""
        boundary = self.boundary
        if boundary is None or self.failure:
            return
        if boundary.bottom:
            while self.world.supply and boundary.wants():
                boundary.feed(self.world.hand_out())
        for ask in boundary.unknown():
            self.world.answer_samples(self, ask)
        if self.free and not self.pushing and (action := boundary.next()) is not None:
            self.free = False
            self.log.append(action)
            event = self.compute(action)
            self.world.after(self.world.seconds(self.rank), self, lambda: self._computed(event))
        if boundary.settling or (boundary.bottom and not self.world.supply and boundary.idle):
            self._settle(boundary)

    def _settle(self, boundary: Linked) -> None:
        if self.unpushed and boundary.idle and not self.pushing:
            self.pushing = True
            self.world.after(PUSHING, self, self._pushed)
        self.settled = boundary.settle(not self.unpushed)
        if self.settled and boundary.bottom:
            self.world.measured(boundary.take_measures())

    def _pushed(self) -> None:
        self.pushing, self.unpushed = False, 0

    def _computed(self, event: Forwarded | Trained | Backed) -> None:
        assert self.boundary is not None
        self.free = True
        learnt = self.boundary.happened(event)
        if learnt is not None:
            self.unpushed += learnt.count
            self.steps += learnt.steps
            self.world.has_learnt(self, learnt)

    # What is computed.

    def compute(self, action: Any) -> Forwarded | Trained | Backed:
        """The event of an action."""
        if isinstance(action, Train):
            return self._train(action)
        if isinstance(action, Back):
            return self._back(action)
        assert isinstance(action, Forward | Ahead)
        outputs = action.rows.inputs + UP
        if isinstance(action, Ahead):
            self._slots[action.slot] = outputs
        return Forwarded(action.round, self.world.spoiler(self, outputs))

    def _train(self, action: Train) -> Trained:
        inputs = action.rows.inputs
        self._check(inputs, action.known)
        if action.targets.size:
            np.testing.assert_array_equal(action.targets[:, 0], inputs[:, 0])
            assert action.rho == RHO
        if action.outputs.size:
            np.testing.assert_array_equal(action.outputs, inputs + UP)
        self.trained.append(numbers(inputs))
        head = has_head(self.job, self.rank)
        return Trained(
            action.round,
            steps=-(-len(inputs) // action.rows.batch),
            targets=inputs.copy() if self.rank else NONE,
            rho=RHO,
            copies=self._copies(),
            metrics={"loss": LOSS, "accuracy": ACCURACY} if head else {},
            primal=PRIMAL,
            dual=DUAL,
            gap=GAP,
        )

    def _copies(self) -> dict[int, Float32]:
        """A copy says whose it is, and how often that part has trained."""
        if self.job.partition.coupling != "weights":
            return {}
        boundaries = range(max(0, self.rank - 1), min(self.rank + 1, self.job.partition.count - 1))
        return {b: np.float32([self.rank, len(self.trained), 0]) for b in boundaries}

    def _back(self, action: Back) -> Backed:
        if action.rows is not None:
            inputs, metrics = action.rows.inputs, {"loss": LOSS, "accuracy": ACCURACY}
            assert action.known is not None
        else:
            inputs, metrics = self._slots[action.slot] - UP, {}
            np.testing.assert_array_equal(action.gradient[:, 0], inputs[:, 0])
        self._check(inputs, action.known)
        self._sum = ([] if action.first else self._sum) + list(numbers(inputs))
        if action.last:
            self.trained.append(tuple(self._sum))
            assert action.rows is None or action.total == len(self._sum)
        gradient = inputs.copy() if self.rank else NONE
        return Backed(action.round, gradient, metrics, int(action.last))

    def _check(self, inputs: Float32, known: Known | None) -> None:
        assert set(inputs[:, 1]) == {self.rank}
        if known is not None:
            np.testing.assert_array_equal(known.indices, inputs[:, 0])
            labels = known.indices % 10 if has_head(self.job, self.rank) else []
            np.testing.assert_array_equal(known.labels, labels)


def numbers(inputs: Float32) -> tuple[int, ...]:
    """Which samples these are."""
    return tuple(int(number) for number in inputs[:, 0])
