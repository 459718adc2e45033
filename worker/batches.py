"""Portions of data as they come in, cut into minibatches; which of them are applied. Pure."""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from ..common.messages import Portion
from ..common.types import Array


@dataclass(slots=True)
class Lease:
    """A portion that this worker holds until each of its minibatches has been applied.

    `measures` are the sums that travel with `Done`; `source` is the data server's address.
    """

    source: str
    portion: Portion
    open: int
    measures: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, measure: str, value: float) -> None:
        """Add to one of the portion's sums."""
        self.measures[measure] += value


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Views of a portion's arrays: inputs (n, ...), labels (n,)."""

    lease: Lease
    inputs: Array
    labels: Array


class Ring:
    """Minibatches in order of arrival.

    Arguments:
        batch_size: samples of a minibatch; the last one of a portion may be shorter.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._waiting: deque[Minibatch] = deque()
        self._leases: list[Lease] = []

    def add(self, source: str, portion: Portion) -> None:
        """A portion has come; one without samples only gives its credit back."""
        cuts = range(0, len(portion.labels), self._batch_size)
        if not cuts:
            return
        lease = Lease(source, portion, len(cuts))
        self._leases.append(lease)
        for begin in cuts:
            end = begin + self._batch_size
            batch = Minibatch(lease, portion.inputs[begin:end], portion.labels[begin:end])
            self._waiting.append(batch)

    def take(self) -> Minibatch | None:
        """The next minibatch, None if none is here."""
        return self._waiting.popleft() if self._waiting else None

    def applied(self, batch: Minibatch) -> Lease | None:
        """A minibatch's gradient is in the servers' parameters; the lease if it was the last."""
        batch.lease.open -= 1
        if batch.lease.open or batch.lease not in self._leases:
            return None
        self._leases.remove(batch.lease)
        return batch.lease

    def drop_before(self, epoch: int) -> int:
        """Forget the portions of epochs that are over; returns how many."""
        old = [lease for lease in self._leases if lease.portion.epoch < epoch]
        self._leases = [lease for lease in self._leases if lease.portion.epoch >= epoch]
        self._waiting = deque(b for b in self._waiting if b.lease.portion.epoch >= epoch)
        return len(old)

    @property
    def held(self) -> int:
        """Portions that are not finished."""
        return len(self._leases)

    def held_from(self, source: str) -> int:
        """Portions of one data server that are not finished."""
        return sum(lease.source == source for lease in self._leases)
