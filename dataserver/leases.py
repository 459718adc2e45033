"""Which worker holds which portion, and what of a portion is left to train on. Pure.

A portion is leased from when it is handed out until its worker has applied all its gradients. With
a backup copy two workers hold it, and the first that is done wins.
"""

from collections.abc import Collection, Sequence

Key = tuple[int, int]
"""A worker's incarnation, and the sequence number of the request that the portion answers."""


class Leases:
    """The leases of one leg. Belongs to the loop."""

    def __init__(self) -> None:
        self._holders: dict[int, list[Key]] = {}  # the oldest lease first
        self._granted: dict[Key, int] = {}
        self._held: dict[int, int] = {}
        self._left: dict[int, tuple[int, ...]] = {}
        self._had: set[tuple[int, int]] = set()

    def grant(self, portion: int, key: Key) -> None:
        """Lease a portion to whoever has sent request `key`."""
        self._holders.setdefault(portion, []).append(key)
        self._granted[key] = portion
        self._had.add((key[0], portion))
        self._held[key[0]] = self._held.get(key[0], 0) + 1

    def granted(self, key: Key) -> int | None:
        """The portion that this request has been answered with, None if it has been with none."""
        return self._granted.get(key)

    def holds(self, worker: int) -> bool:
        """Whether a worker has any portion."""
        return worker in self._held

    def had(self, worker: int, portion: int) -> bool:
        """Whether a worker has this portion, or has had it."""
        return (worker, portion) in self._had

    def has(self, worker: int, portion: int) -> bool:
        """Whether a worker has this portion."""
        return any(key[0] == worker for key in self._holders.get(portion, ()))

    def finish(self, portion: int) -> list[Key]:
        """A portion is done: nobody holds it any more; returns who did."""
        keys = self._holders.pop(portion, [])
        for key in keys:
            self._release(key)
        self._left.pop(portion, None)
        return keys

    def lose(self, workers: Collection[int]) -> list[int]:
        """Workers are gone; returns the portions that nobody holds any more, in order."""
        orphans = []
        for portion in sorted({p for key, p in self._granted.items() if key[0] in workers}):
            if not self.give_back(portion, workers):
                orphans.append(portion)
        return orphans

    def give_back(self, portion: int, workers: Collection[int]) -> bool:
        """These workers have done with a portion, and not finished it; whether others have it."""
        keys = self._holders.get(portion, [])
        for key in [key for key in keys if key[0] in workers]:
            keys.remove(key)
            self._release(key)
        if not keys:
            self._holders.pop(portion, None)
        return bool(keys)

    def keep(self, portion: int, left: Sequence[int]) -> None:
        """Only these minibatches of a portion are left to train on."""
        self._left[portion] = tuple(left)

    def left(self, portion: int) -> tuple[int, ...]:
        """The minibatches of a portion that are left; empty: all of them."""
        return self._left.get(portion, ())

    def oldest_single(self, worker: int) -> int | None:
        """The portion that one other worker holds, and has held for longest."""
        single = (p for p, keys in self._holders.items() if len(keys) == 1 and keys[0][0] != worker)
        return next(single, None)

    @property
    def workers(self) -> list[int]:
        """Who holds a portion, in order."""
        return sorted(self._held)

    def keys(self) -> list[Key]:
        """The requests whose portions are held."""
        return list(self._granted)

    def __len__(self) -> int:
        """Portions that are held."""
        return len(self._holders)

    def _release(self, key: Key) -> None:
        del self._granted[key]
        self._held[key[0]] -= 1
        if not self._held[key[0]]:
            del self._held[key[0]]
