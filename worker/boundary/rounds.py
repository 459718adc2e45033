"""A round of coupling `activations` or `weights` on its way through a part. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from ...common.messages import Activations
from ...common.types import Array, Float32
from ..batches import Minibatch
from .boundary import Key, Learnt
from .encoding import Coded
from .events import NONE, Rows


class Stage(Enum):
    """Where a round is. The top part only knows `WAITING` and `TRAINING`."""

    WAITING = "waiting"
    FORWARDING = "forwarding"
    UP = "up"
    ANSWERED = "answered"
    TRAINING = "training"


@dataclass(slots=True, eq=False)
class Round:
    """Rows [`first`, `first` + n) of a portion of `leg`, from minibatch number `minibatch` on.

    `number` is what this part calls it, `below` the part below (-1: there is none). `batches` are
    held in the bottom part alone. `message` is what was sent up, or, unless it is `sent`, is to be;
    `trained` how many trainings the part had made when it was computed. `answered`: by the part
    above; `learnt`: this part has trained on it.
    """

    number: int
    below: int
    leg: int
    key: Key
    first: int
    minibatch: int
    rows: Rows
    batches: list[Minibatch] = field(default_factory=list)
    stage: Stage = Stage.WAITING
    outputs: Float32 = field(default_factory=lambda: NONE)
    message: Activations | None = None
    sent: bool = False
    trained: int = 0
    targets: Float32 = field(default_factory=lambda: NONE)
    rho: float = 0.0
    measures: dict[str, float] = field(default_factory=dict)
    answered: bool = False
    learnt: bool = False

    @property
    def samples(self) -> int:
        """Rows of this round."""
        return len(self.rows.inputs)

    @classmethod
    def of_portion(cls, number: int, batches: list[Minibatch], batch: int) -> "Round":
        """Minibatches of `batch` samples of one portion, with consecutive numbers, in the bottom
        part."""
        portion, begin = batches[0].lease.portion, batches[0].number
        rows = Rows(inputs_of(batches, batch), batch, batches[0].seeds)
        key = (portion.epoch, portion.begin)
        return cls(number, -1, portion.leg, key, begin * batch, begin, rows, batches)

    @classmethod
    def of_message(cls, number: int, message: Activations, inputs: Float32) -> "Round":
        """What the part below has sent."""
        seeds = (message.epoch, message.begin, message.minibatch)
        rows = Rows(inputs, message.batch, seeds, message.dual)
        key = (message.epoch, message.begin)
        first, minibatch = message.first, message.minibatch
        return cls(number, message.round, message.leg, key, first, minibatch, rows)

    def sent_up(self, code: Coded, dual: float) -> Activations:
        """The message with this part's outputs."""
        epoch, begin = self.key
        return Activations(
            round=self.number,
            leg=self.leg,
            epoch=epoch,
            begin=begin,
            first=self.first,
            minibatch=self.minibatch,
            batch=self.rows.batch,
            piece=0,
            pieces=1,
            dual=dual,
            encoding=code.encoding,
            shape=code.shape,
            values=code.values,
            extra=code.extra,
        )

    def as_learnt(self, steps: int, measures: dict[str, float]) -> Learnt:
        """What is told the worker when the part has trained on it."""
        count = -(-self.samples // self.rows.batch)
        return Learnt(self.leg, count, steps, self.batches, measures)


def runs(batches: list[Minibatch]) -> Iterator[list[Minibatch]]:
    """Minibatches of a portion, in pieces of consecutive numbers: one that was given back may come
    again in part."""
    begin = 0
    for end in range(1, len(batches) + 1):
        if end == len(batches) or batches[end].number != batches[end - 1].number + 1:
            yield batches[begin:end]
            begin = end


def inputs_of(batches: list[Minibatch], batch: int) -> Array:
    """The inputs (n, ...) of minibatches that lie side by side in their portion; a view."""
    portion = batches[0].lease.portion
    place = portion.minibatches.index(batches[0].number) if portion.minibatches else -1
    begin = (place if place >= 0 else batches[0].number) * batch
    return portion.inputs[begin : begin + sum(len(each.inputs) for each in batches)]
