"""When an epoch ends, and which data server serves which portion. Pure.

An epoch is cut into portions; each data server has its share, and each portion counts once. The
epoch ends when nothing is left to hand out and at least `quorum` of the workers are idle. With
`quorum` 1.0 that means that every portion is done; with 0.75 it is the rule of Project Adam
(Chilimbi et al., OSDI 2014, section 3.2): the portions that stragglers still hold are dropped.
"""

from collections import Counter, deque
from collections.abc import Collection, Sequence


class EpochLedger:
    """One epoch's portions: who serves them, which are done, and who still works.

    Arguments:
        portions: how many portions the epoch has.
        servers: the data servers' incarnations, in order of rank.
        done: portions that were done before, in a job that goes on from a checkpoint.
    """

    def __init__(
        self, epoch: int, portions: int, servers: Sequence[int], done: Collection[int] = ()
    ) -> None:
        self.epoch, self.portions = epoch, portions
        self.done: set[int] = set(done)
        left = [portion for portion in range(portions) if portion not in self.done]
        self.share: dict[int, list[int]] = {
            server: left[index :: len(servers)] for index, server in enumerate(servers)
        }
        self.repeated: list[int] = []
        self.measures: Counter[str] = Counter()
        self.reissued = 0
        self._left: dict[int, int] = {server: len(share) for server, share in self.share.items()}
        self._busy: dict[int, set[int]] = {server: set() for server in servers}

    def progress(
        self,
        server: int,
        given: int,
        left: int,
        busy: Collection[int],
        done: Sequence[int],
        reissued: int,
        measures: dict[str, float],
    ) -> None:
        """A data server's report. Portions that were done before count as repeats; portions that
        it had not been `given` yet when it reported are still left."""
        if server not in self.share:
            return
        self.repeated += [portion for portion in done if portion in self.done]
        self.done.update(portion for portion in done if 0 <= portion < self.portions)
        self.measures.update(measures)
        self.reissued += reissued
        self._left[server] = left + max(0, len(self.share[server]) - given)
        self._busy[server] = set(busy)

    def lose_server(self, server: int) -> dict[int, list[int]]:
        """A data server is gone: deal its unfinished portions to the others.

        Returns:
            the portions that each remaining server has to add to its share.
        """
        orphans = deque(p for p in self.share.pop(server, []) if p not in self.done)
        self._left.pop(server, None)
        self._busy.pop(server, None)
        dealt: dict[int, list[int]] = {}
        others = sorted(self.share)
        for index, portion in enumerate(orphans):
            heir = others[index % len(others)] if others else None
            if heir is not None:
                self.share[heir].append(portion)
                dealt.setdefault(heir, []).append(portion)
                self._left[heir] += 1
        return dealt

    def ended(self, workers: Collection[int], quorum: float) -> bool:
        """Whether the epoch is over for these workers (incarnations)."""
        if len(self.done) == self.portions:
            return True
        if quorum >= 1.0 or any(self._left.values()):
            return False
        busy = set().union(*self._busy.values()) & set(workers)
        return bool(busy) and len(workers) - len(busy) >= quorum * len(workers)

    @property
    def dropped(self) -> int:
        """Portions that will not be done if the epoch ends now."""
        return self.portions - len(self.done)
