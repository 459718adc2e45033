"""The first portions of the next leg, prepared while workers train on the last of this one. Pure.

Between two legs everybody waits: what can be done before stands here, above all the order of the
next epoch, which takes longer than many portions. Where the next leg begins follows from this one;
which of its portions a server is given is a guess, the numbers that it was given first in this one.
A wrong guess costs the work and changes nothing: a portion is the same whenever it is prepared.
"""

from collections.abc import Iterator

from ..common.messages import Serve
from .events import Prepare, Prepared

Leg = tuple[int, int, int]
"""Its number, its epoch, and the position where it begins in the order of that."""


class NextLeg:
    """What is known of the next leg, and prepared of it. Belongs to the loop."""

    def __init__(self) -> None:
        self._leg: Leg | None = None
        self._portions: Iterator[int] = iter(())
        self._preparing: set[int] = set()
        self._ready: dict[int, Prepared] = {}

    def expect(self, serve: Serve, samples: int, size: int, epochs: int) -> None:
        """A leg has begun: foresee the next one, in a job of so many epochs of `samples` samples
        in portions of `size`."""
        self._leg = follower(serve, samples, epochs)
        self._preparing.clear()
        self._ready.clear()
        if self._leg is not None:
            begin = self._leg[2]
            self._portions = (p for p in serve.portions if begin + p * size < samples)

    def order(self, room: int, at_once: int) -> Prepare | None:
        """The next portion to prepare; None if there is none, no room for one, or so many are
        being prepared `at_once`: what a worker waits for must not queue behind them."""
        if self._leg is None or len(self) >= room or len(self._preparing) >= at_once:
            return None
        portion = next(self._portions, None)
        if portion is None:
            return None
        self._preparing.add(portion)
        leg, epoch, begin = self._leg
        return Prepare(False, leg, portion, epoch, begin)

    def came(self, event: Prepared) -> bool:
        """Keep a portion that is ready; whether it is of the next leg."""
        if leg_of(event.wanted) != self._leg or event.wanted.portion not in self._preparing:
            return False
        self._preparing.remove(event.wanted.portion)
        self._ready[event.wanted.portion] = event
        return True

    def take(self, serve: Serve) -> tuple[set[int], list[Prepared]]:
        """The next leg is here: those of its portions that are being prepared, and those that are
        ready, in order."""
        if leg_of(serve) != self._leg:
            return set(), []
        given = set(serve.portions)
        ready = [event for portion, event in self._ready.items() if portion in given]
        return self._preparing & given, ready

    def __len__(self) -> int:
        return len(self._preparing) + len(self._ready)


def follower(serve: Serve, samples: int, epochs: int) -> Leg | None:
    """The leg after this one; None if there is none, or it is not known."""
    if not serve.end:
        return None
    if serve.end < samples:
        return serve.leg + 1, serve.epoch, serve.end
    return (serve.leg + 1, serve.epoch + 1, 0) if serve.epoch + 1 < epochs else None


def leg_of(told: Serve | Prepare) -> Leg:
    """The leg that this is of."""
    return told.leg, told.epoch, told.begin
