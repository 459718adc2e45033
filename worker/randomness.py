"""A lane's random stream, a function of (seed, epoch, place in it) alone. Pure.

A minibatch sees the same numbers on any worker, however often it is served and after a restart, so
that no stream needs to be saved. Philox (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3") maps a key and a counter to numbers; both are set anew for each minibatch (2 µs).
"""

import numpy as np


class BatchStream:
    """One generator that is set to a place again and again. Belongs to one lane."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.Generator(np.random.Philox(0))
        self._bits = self.generator.bit_generator
        state = dict(self._bits.state)
        self._counter, self._key = np.zeros(4, np.uint64), np.zeros(2, np.uint64)
        self._key[0] = seed % 2**64
        state |= {"state": {"counter": self._counter, "key": self._key}, "buffer_pos": 4}
        self._state = state

    def at(self, seeds: tuple[int, int, int]) -> np.random.Generator:
        """The stream of a minibatch: epoch, where its portion begins in that, and its number.
        Valid until the next call."""
        epoch, begin, number = seeds
        self._key[1] = epoch
        self._counter[:] = 0, 0, begin, number
        self._bits.state = self._state
        return self.generator
