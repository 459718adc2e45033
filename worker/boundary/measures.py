"""What the parts of a cut net measure, and under which names it travels down to the bottom. Pure.

All are sums, so that they can be added up over rounds and divided by `rounds`:

    rounds                    what passed the lowest boundary (a piece each, in coupling backprop)
    boundary_up, _down        bytes of what was sent up and down
    lateness                  trainings of the lower part between sending and using a round
    primal, dual, rho, gap    as in `Trained`
    loss, accuracy            of the top part, times samples; those of a head below are `part0.loss`

With more than two parts the names of what belongs to a boundary end in its number: `primal.1` lies
between parts 1 and 2.
"""

from collections.abc import Mapping

from ...common.types import Metrics


class Sums:
    """Sums of one part.

    Arguments:
        part, parts: which one, of how many.
    """

    def __init__(self, part: int, parts: int) -> None:
        self._part, self._parts = part, parts
        self.values: dict[str, float] = {}

    def add(self, name: str, value: float) -> None:
        """Add to one sum."""
        self.values[name] = self.values.get(name, 0.0) + value

    def add_all(self, values: Mapping[str, float]) -> None:
        """Add sums of the parts above."""
        for name, value in values.items():
            self.add(name, value)

    def above(self, name: str, value: float) -> None:
        """Add to a sum of the boundary above the part; the top part has none."""
        self._of_boundary(self._part, name, value)

    def below(self, name: str, value: float) -> None:
        """Add to a sum of the boundary below the part; the bottom part has none."""
        self._of_boundary(self._part - 1, name, value)

    def _of_boundary(self, boundary: int, name: str, value: float) -> None:
        if 0 <= boundary < self._parts - 1:
            self.add(name if self._parts == 2 else f"{name}.{boundary}", value)

    def metrics(self, metrics: Metrics, samples: int) -> None:
        """Add means over some samples, as what a whole net would say if this is the top part."""
        for name, value in metrics.items():
            if self._part < self._parts - 1:
                self.add(f"part{self._part}.{name}", value * samples)
            else:
                known = name in ("loss", "accuracy")
                self.add(name if known else f"model.{name}", value * samples)

    def take(self) -> dict[str, float]:
        """The sums so far; they begin anew."""
        values, self.values = self.values, {}
        return values
