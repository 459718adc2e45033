"""How many steps of its own a worker should make between two exchanges, from how fast it is. Pure.

Where nobody waits for the slowest, a worker that made as many steps as the others would push rarely
and late. Steps in proportion to its speed let all exchange about equally often; the servers weigh
what comes by the number of minibatches in it.
"""

from collections.abc import Collection

from .consistency import Who

SMOOTHING = 0.5
"""Weight of the newest pace in the mean of a participant's paces."""


class Pacing:
    """Seconds per minibatch of each participant. `steps` are those of the fastest."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._pace: dict[Who, float] = {}

    def note(self, who: Who, pace: float) -> None:
        """It took `pace` seconds a minibatch in its last round; 0 where it does not know."""
        if pace > 0:
            known = self._pace.get(who, pace)
            self._pace[who] = known + SMOOTHING * (pace - known)

    def steps(self, who: Who) -> int:
        """How many it should make before its next push: from 1 to those of the fastest."""
        if who not in self._pace:
            return self._steps
        share = min(self._pace.values()) / self._pace[who]
        return max(1, round(self._steps * share))

    def keep_only(self, present: Collection[Who]) -> None:
        """Forget those that are gone."""
        self._pace = {who: pace for who, pace in self._pace.items() if who in present}
