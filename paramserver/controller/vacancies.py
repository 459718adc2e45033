"""The free places of a cut net, and how long somebody may take them. Pure: `now` is handed in.

A replica of the net trains only while each of its parts is held by a worker. One that has begun is
waited for when it has lost a part; one that nobody has ever joined is not, and neither is one that
was given up, until somebody joins it again.
"""

from collections.abc import Collection


class Vacancies:
    """Free ranks of workers that are waited for.

    Arguments:
        parts: of the net; worker r holds part r mod `parts` of replica r // `parts`.
        replicas: that the job has places for.
        patience: seconds that a part may be missing.
    """

    def __init__(self, parts: int, replicas: int, patience: float) -> None:
        self._parts, self._patience = parts, patience
        self._idle = set(range(replicas))
        self._until: dict[int, float] = {}
        self._replicas = range(replicas)

    def ranks(self, replica: int) -> range:
        """The workers of a replica."""
        return range(replica * self._parts, (replica + 1) * self._parts)

    def complete(self, taken: Collection[int]) -> list[int]:
        """The replicas whose places are all among these ranks."""
        return [one for one in self._replicas if all(rank in taken for rank in self.ranks(one))]

    def look(self, taken: Collection[int], now: float) -> tuple[list[int], list[int]]:
        """These ranks are taken now.

        Returns:
            those that are waited for from now on, and those that were, and are there again.
        """
        begun = {rank // self._parts for rank in taken}
        self._idle -= begun
        waited = {
            rank
            for replica in self._replicas
            if replica not in self._idle
            for rank in self.ranks(replica)
            if rank not in taken
        }
        fresh, filled = sorted(waited - self._until.keys()), sorted(self._until.keys() - waited)
        for rank in filled:
            del self._until[rank]
        self._until |= dict.fromkeys(fresh, now + self._patience)
        return fresh, filled

    def over(self, now: float) -> list[int]:
        """The ranks that nobody has taken in time, ascending."""
        return sorted(rank for rank, until in self._until.items() if until <= now)

    def give_up(self, replica: int) -> None:
        """Wait for this replica no longer."""
        self._idle.add(replica)
        for rank in self.ranks(replica):
            self._until.pop(rank, None)

    def wake_at(self) -> float:
        """When the next one is over; infinity if none is waited for."""
        return min(self._until.values(), default=float("inf"))
