"""When a leg or an epoch ends, and which data server serves which portion. Pure.

An epoch is trained on in legs: in one, or in several that end wherever a checkpoint is due, so that
nothing is in flight there. A leg is cut into portions; each data server has its share, and each
portion counts once. The leg ends when nothing is left to hand out and at least `quorum` of the
workers are idle. With `quorum` 1.0 that means that every portion is done; with 0.75 it is the rule
of Project Adam (Chilimbi et al., OSDI 2014, section 3.2): the portions that stragglers still hold
are dropped.
"""

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil, inf

from ...common.messages import Progress


@dataclass(frozen=True, slots=True)
class Stretch:
    """Positions [begin, end) of the order of an epoch of `samples`, in portions of `size`."""

    epoch: int
    begin: int
    end: int
    samples: int
    size: int

    @property
    def portions(self) -> int:
        """How many portions it has; the last may be shorter."""
        return ceil((self.end - self.begin) / self.size)

    @property
    def ends_epoch(self) -> bool:
        """Whether the epoch is over when this is done."""
        return self.end == self.samples

    def span(self, portion: int) -> tuple[int, int]:
        """The positions [begin, end) of a portion."""
        begin = self.begin + portion * self.size
        return begin, min(begin + self.size, self.end)


def next_stretch(
    epoch: int, begin: int, samples: int, size: int, due: float = inf, takers: int = 1
) -> Stretch:
    """From position `begin` of an epoch to where the next checkpoint is due, or to its end.

    Arguments:
        due: when a checkpoint is due, in epochs.
        takers: the workers that take data; where a stretch ends within the epoch, it has equally
            many portions for each.
    """
    wanted = (due - epoch) * samples - begin
    if wanted >= samples - begin:
        return Stretch(epoch, begin, samples, samples, size)
    rounds = max(1, ceil(wanted / (size * takers) - 1e-9))
    return Stretch(epoch, begin, min(begin + rounds * size * takers, samples), samples, size)


class Ledger:
    """One leg's portions: who serves them, which are done, and who still works.

    Arguments:
        leg: its number.
        servers: the data servers' incarnations, in order of rank.
        done: portions that were done before, in a job that goes on from a checkpoint.
        measures: the sums of the legs before, of the same epoch.
    """

    def __init__(
        self,
        leg: int,
        stretch: Stretch,
        servers: Sequence[int],
        done: Collection[int] = (),
        measures: Counter[str] | None = None,
    ) -> None:
        self.leg, self.stretch = leg, stretch
        self.portions = stretch.portions
        self.done: set[int] = set()
        self.samples_done = 0
        self.repeated: list[int] = []
        self.measures: Counter[str] = Counter(measures)
        """Sums over the epoch so far: what `messages.Done` names, and `portions`, `repeated` (done
        twice) and `reissued` ones, the samples in these, and those `skipped` because they are
        damaged."""
        for portion in done:
            self._finish(portion)
        self.measures["portions"] += self.portions
        left = [portion for portion in range(self.portions) if portion not in self.done]
        self.share: dict[int, list[int]] = {
            server: left[index :: len(servers)] for index, server in enumerate(servers)
        }
        self.orphans: list[int] = [] if servers else left
        """Portions that nobody serves, since there is no data server."""
        self._left: dict[int, int] = {server: len(share) for server, share in self.share.items()}
        self._busy: dict[int, set[int]] = {server: set() for server in servers}
        self._backed_up = False

    @property
    def epoch(self) -> int:
        """The epoch of which this leg is a part."""
        return self.stretch.epoch

    @property
    def position(self) -> float:
        """How many epochs of samples are done."""
        return self.epoch + (self.stretch.begin + self.samples_done) / self.stretch.samples

    def progress(self, server: int, said: Progress) -> None:
        """A data server's report. Portions that were done before count as repeats; portions that
        it had not been given yet when it reported are still left."""
        if server not in self.share:
            return
        for portion in said.done:
            self._finish(portion)
        self.measures.update(said.measures)
        self._note_reissued(len(said.reissued), said.samples_reissued)
        self._left[server] = said.left + max(0, len(self.share[server]) - said.given)
        self._busy[server] = set(said.busy)

    def _finish(self, portion: int) -> None:
        if not 0 <= portion < self.portions:
            return
        begin, end = self.stretch.span(portion)
        if portion in self.done:
            self.repeated.append(portion)
            self.measures["repeated"] += 1
            self.measures["samples_repeated"] += end - begin
        else:
            self.done.add(portion)
            self.samples_done += end - begin

    def _note_reissued(self, portions: int, samples: int) -> None:
        if portions:
            self.measures["reissued"] += portions
            self.measures["samples_reissued"] += samples

    def lose_server(self, server: int) -> dict[int, list[int]]:
        """A data server is gone: deal its unfinished portions to the others. Those of them that it
        had handed out may be done twice: how many they are is known, not which.

        Returns:
            the portions that each remaining server has to add to its share.
        """
        orphans = deque(p for p in self.share.pop(server, []) if p not in self.done)
        handed_out = max(0, len(orphans) - self._left.pop(server, 0))
        self._note_reissued(handed_out, handed_out * self.stretch.size)
        self._busy.pop(server, None)
        dealt: dict[int, list[int]] = {}
        others = sorted(self.share)
        for index, portion in enumerate(orphans):
            if others:
                self._deal(portion, others[index % len(others)])
                dealt.setdefault(others[index % len(others)], []).append(portion)
            else:
                self.orphans.append(portion)
        return dealt

    def adopt(self, server: int) -> list[int]:
        """A data server has come while there was none: it serves what is left, which is returned.
        With others there it has its share from the next leg on."""
        adopted, self.orphans = self.orphans, []
        if adopted:
            self.share[server], self._left[server], self._busy[server] = [], 0, set()
        for portion in adopted:
            self._deal(portion, server)
        return adopted

    def _deal(self, portion: int, server: int) -> None:
        self.share[server].append(portion)
        self._left[server] += 1
        self._backed_up = False

    def ended(self, workers: Collection[int], quorum: float) -> bool:
        """Whether the leg is over for these workers (incarnations)."""
        if len(self.done) == self.portions:
            return True
        if quorum >= 1.0 or self.orphans or any(self._left.values()):
            return False
        busy = set().union(*self._busy.values()) & set(workers)
        return bool(busy) and len(workers) - len(busy) >= quorum * len(workers)

    def back_up(self) -> bool:
        """Whether it is time for backup copies: nothing is left to hand out anywhere. True once,
        until something is left again."""
        out = not self.orphans and not any(self._left.values())
        now, self._backed_up = out and not self._backed_up, out
        return now

    @property
    def dropped(self) -> int:
        """Portions that will not be done if the leg ends now."""
        return self.portions - len(self.done)
