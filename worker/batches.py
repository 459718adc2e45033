"""Portions of data as they come in, cut into minibatches; which of them are applied. Pure."""

from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass, field

from ..common.errors import RemoteError
from ..common.messages import Portion
from ..common.types import Array


@dataclass(slots=True)
class Lease:
    """A portion that this worker holds until each of its minibatches has been applied.

    `measures` are the sums that travel with `Done`; `source` is the data server's address; `open`
    counts the minibatches that are not done with; `slot` is where its inputs lie on the shelf, -1
    if in memory of their own; `left` are the numbers of the minibatches that are not applied.
    """

    source: str
    portion: Portion
    open: int
    slot: int = -1
    left: list[int] = field(default_factory=list)
    measures: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, measure: str, value: float) -> None:
        """Add to one of the portion's sums."""
        self.measures[measure] += value


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Views of a portion's arrays: inputs (n, ...), labels (n, ...), or (0,) where they were not
    asked for; the `number`-th of the portion."""

    lease: Lease
    number: int
    inputs: Array
    labels: Array

    @property
    def key(self) -> tuple[int, int, int]:
        """Leg, portion and number: the place in the leg's order."""
        return self.lease.portion.leg, self.lease.portion.portion, self.number

    @property
    def seeds(self) -> tuple[int, int, int]:
        """Epoch, where the portion begins in it, and number: the same minibatch has the same ones
        on any worker, however often it is served, and in a job that goes on."""
        return self.lease.portion.epoch, self.lease.portion.begin, self.number


class Ring:
    """Minibatches in order of arrival, or, with `ordered`, in the leg's order.

    Arguments:
        batch_size: samples of a minibatch; the last one of a portion may be shorter.
    """

    def __init__(self, batch_size: int, *, ordered: bool = False) -> None:
        self._batch_size, self._ordered = batch_size, ordered
        self._waiting: deque[Minibatch] = deque()
        self._leases: list[Lease] = []
        self._done_with: list[int] = []

    def add(self, source: str, portion: Portion, slot: int = -1) -> None:
        """A portion has come, with labels or without; one without samples only gives its credit
        back.

        Raises:
            RemoteError: the numbers of its minibatches are not as many as it holds, or its labels
                not as many as its samples.
        """
        samples, labels = len(portion.inputs), portion.labels
        if len(labels) not in (0, samples):
            raise RemoteError(f"{len(labels)} labels of the {samples} samples of a portion")
        cuts = range(0, samples, self._batch_size)
        numbers = portion.minibatches or list(range(len(cuts)))
        lease = Lease(source, portion, len(cuts), slot, list(numbers))
        if not cuts:
            self._close(lease, 0)
            return
        if len(numbers) != len(cuts):
            raise RemoteError(f"{len(numbers)} numbers of the {len(cuts)} minibatches of a portion")
        self._leases.append(lease)
        for number, begin in zip(numbers, cuts, strict=True):
            end = begin + self._batch_size
            batch = Minibatch(lease, number, portion.inputs[begin:end], portion.labels[begin:end])
            self._waiting.append(batch)

    def take(self, expected: Collection[str] = ()) -> Minibatch | None:
        """The next minibatch, None if none is here.

        Arguments:
            expected: data servers that may still send portions of this leg. Each sends them in
                ascending order, so that with `ordered` the lowest is known once each has sent one.
        """
        if not self.has_next(expected):
            return None
        if not self._ordered:
            return self._waiting.popleft()
        first = min(self._waiting, key=lambda batch: batch.key)
        self._waiting.remove(first)
        return first

    def take_portion(self, expected: Collection[str] = ()) -> list[Minibatch]:
        """All minibatches of the next portion, empty if it is not here; of one that has been
        trained on in part, those that lie one behind the other. `expected` as in `take`."""
        taken: list[Minibatch] = []
        if (first := self.take(expected)) is None:
            return taken
        taken.append(first)
        for batch in list(self._waiting):
            if batch.lease is not first.lease:
                continue
            if batch.number != first.number + len(taken):
                break
            self._waiting.remove(batch)
            taken.append(batch)
        return taken

    def has_next(self, expected: Collection[str] = ()) -> bool:
        """Whether `take` would give one."""
        if not self._waiting or not self._ordered:
            return bool(self._waiting)
        return not set(expected) - {batch.lease.source for batch in self._waiting}

    @property
    def leg(self) -> int:
        """The leg of the next minibatch in the leg's order; -1 if none is here."""
        return min((batch.key[0] for batch in self._waiting), default=-1)

    def __len__(self) -> int:
        """Minibatches that nobody has taken."""
        return len(self._waiting)

    def applied(self, batch: Minibatch) -> Lease | None:
        """A minibatch's gradient is in the servers' parameters; the lease if it was the last."""
        if batch.number in batch.lease.left:
            batch.lease.left.remove(batch.number)
        self._close(batch.lease, 1)
        if batch.lease.open or batch.lease not in self._leases:
            return None
        self._leases.remove(batch.lease)
        return batch.lease

    def drop_before(self, leg: int) -> int:
        """Forget the portions of legs that are over; returns how many."""
        old = [lease for lease in self._leases if lease.portion.leg < leg]
        for batch in self._waiting:
            if batch.lease.portion.leg < leg:
                self._close(batch.lease, 1)
        self._leases = [lease for lease in self._leases if lease.portion.leg >= leg]
        self._waiting = deque(b for b in self._waiting if b.lease.portion.leg >= leg)
        return len(old)

    def take_back(self) -> list[Lease]:
        """Every portion that is held, in order of arrival; none is, after that."""
        leases, self._leases = self._leases, []
        self._waiting.clear()
        return leases

    def take_done_with(self) -> list[int]:
        """The slots that no minibatch lies in any more since the last call."""
        slots, self._done_with = self._done_with, []
        return slots

    def _close(self, lease: Lease, minibatches: int) -> None:
        """So many more minibatches of a portion are done with."""
        lease.open -= minibatches
        if not lease.open and lease.slot >= 0:
            self._done_with.append(lease.slot)

    @property
    def held(self) -> int:
        """Portions that are not finished."""
        return len(self._leases)

    def held_from(self, source: str) -> int:
        """Portions of one data server that are not finished."""
        return sum(lease.source == source for lease in self._leases)

    def untaken_from(self, source: str) -> int:
        """Portions of one data server of which some minibatch has not been taken. Those that are
        taken and not applied yet do not count: it may need more to make up a push."""
        held = {id(batch.lease) for batch in self._waiting if batch.lease.source == source}
        return len(held)
