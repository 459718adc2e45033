"""How far parts are from agreeing, as numbers that do not grow with the batch. Pure.

Boyd et al. 2011, section 3.3: the primal residual is what is left of the constraint x = y, the dual
one is ρ times how far the other side has moved. Both are root mean squares here.
"""

from math import sqrt

from ...common.compiled import compiled
from ...common.types import Float32


def rms(squares: float, count: int) -> float:
    """The root mean square of `count` numbers whose squares add up to `squares`; 0 of none."""
    return sqrt(squares / count) if count else 0.0


def closed(left: float, first: float) -> float:
    """The fraction of the way that was made, where a distance whose square was `first` has become
    one with the square `left`; 0 where there was no way to go."""
    return 1.0 - sqrt(left / first) if first > 0 else 0.0


@compiled
def squared_distance(a: Float32, b: Float32) -> float:
    """The sum of (a - b)^2 over flat arrays, in float64."""
    total = 0.0
    for i in range(a.size):
        difference = a[i] - b[i]
        total += difference * difference
    return total
