"""A minibatch of coupling `backprop`, in the pieces in which it passes a part. Pure."""

from dataclasses import dataclass, field
from enum import Enum

from ...common.messages import Activations
from ...common.types import Float32
from ..batches import Minibatch
from .boundary import Key
from .encoding import Coded
from .events import NONE, Rows
from .rounds import inputs_of


class Stage(Enum):
    """Where a piece is. The top part only knows `ABSENT`, `WAITING` and `BACK`."""

    ABSENT = "absent"
    WAITING = "waiting"
    AHEAD = "ahead"
    UP = "up"
    ANSWERED = "answered"
    BACK = "back"


@dataclass(slots=True, eq=False)
class Piece:
    """One piece: `first` is its first row in the portion, `shape` that of what was sent up, or,
    unless it is `sent`, is to be. `told`: the part below has its gradient."""

    stage: Stage = Stage.ABSENT
    below: int = -1
    first: int = 0
    rows: Rows | None = None
    message: Activations | None = None
    sent: bool = False
    gradient: Float32 = field(default_factory=lambda: NONE)
    measures: dict[str, float] = field(default_factory=dict)
    told: bool = False


@dataclass(slots=True, eq=False)
class Step:
    """Minibatch `minibatch` of a portion of `leg`: piece i is round `base` + i of this part, and
    round `below` + i of the part below (-1: there is none).

    `ahead` pieces have been forward, `back` have been backward or are just now. `batches` is the
    minibatch itself, in the bottom part.
    """

    base: int
    below: int
    leg: int
    key: Key
    minibatch: int
    batch: int
    pieces: list[Piece]
    batches: list[Minibatch] = field(default_factory=list)
    ahead: int = 0
    back: int = 0

    @classmethod
    def of_minibatch(cls, base: int, minibatch: Minibatch, batch: int, pieces: int) -> "Step":
        """A minibatch (of up to `batch` samples) in up to that many pieces, in the bottom part."""
        inputs, number = inputs_of([minibatch], batch), minibatch.number
        portion, total, count = minibatch.lease.portion, len(inputs), min(pieces, len(inputs))
        parts = []
        for i in range(count):
            begin, end = i * total // count, (i + 1) * total // count
            rows = Rows(inputs[begin:end], batch, minibatch.seeds)
            parts.append(Piece(Stage.WAITING, first=number * batch + begin, rows=rows))
        key = (portion.epoch, portion.begin)
        return cls(base, -1, portion.leg, key, number, batch, parts, [minibatch])

    @classmethod
    def of_message(cls, base: int, message: Activations) -> "Step":
        """The minibatch of a piece that the part below has sent; without the piece itself."""
        key = (message.epoch, message.begin)
        pieces = [Piece() for _ in range(message.pieces)]
        number, below = message.minibatch, message.round - message.piece
        return cls(base, below, message.leg, key, number, message.batch, pieces)

    def has(self, number: int) -> bool:
        """Whether this round of the part's own is one of the pieces."""
        return self.base <= number < self.base + len(self.pieces)

    def restart(self, base: int) -> None:
        """Once more from the beginning, with rounds from `base` on."""
        self.base, self.ahead, self.back = base, 0, 0
        for piece in self.pieces:
            if piece.stage is not Stage.ABSENT:
                piece.stage = Stage.WAITING
            piece.message, piece.sent, piece.gradient = None, False, NONE
            piece.measures = {}

    def sent_up(self, index: int, code: Coded) -> Activations:
        """The message with this part's outputs for a piece."""
        epoch, begin = self.key
        return Activations(
            round=self.base + index,
            leg=self.leg,
            epoch=epoch,
            begin=begin,
            first=self.pieces[index].first,
            minibatch=self.minibatch,
            batch=self.batch,
            piece=index,
            pieces=len(self.pieces),
            dual=0.0,
            encoding=code.encoding,
            shape=code.shape,
            values=code.values,
            extra=code.extra,
        )
