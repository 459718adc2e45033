"""ρ, the weight of the penalty, from round to round. Pure.

| schedule | next ρ |
|---|---|
| capped | 10 ρ, at most the cap |
| x10 | 10 ρ |
| fixed | ρ |
| residual | 2 ρ where the primal residual is above 10 times the dual, ρ / 2 the other way round |

The last one is residual balancing: S. Boyd, N. Parikh, E. Chu, B. Peleato, J. Eckstein,
"Distributed optimization and statistical learning via the alternating direction method of
multipliers", 2011, equation 3.13 with μ = 10 and τ = 2. Scaled multipliers u = λ/ρ change with ρ
(there, below 3.13); whoever keeps λ itself, as `activations` and `weights` do, need not care.

`x10` is the text of the method taken literally. It makes nets worse: a step of plain SGD is stable
only where rate times ρ times curvature is below 2, so that it diverges in the end; where steps are
of bounded size, as Adam's are, the penalty drowns the loss and the parts freeze.
"""

from dataclasses import dataclass
from typing import Self

from ...common import partition
from ...common.job import Job

GROWTH = 10.0
BALANCE, FACTOR = 10.0, 2.0
"""μ and τ of residual balancing."""
LEAST, MOST = 1e-12, 1e30
"""Beyond these float32 has no room for ρ times a distance, or for its inverse."""


@dataclass
class Penalty:
    """ρ, and how it goes on. A float64 outside of any array: whoever multiplies float32 arrays by
    it makes it a float32 first."""

    rho: float
    schedule: str = "fixed"
    cap: float = MOST

    @classmethod
    def of(cls, job: Job) -> Self:
        """As the job wants it to begin."""
        return cls(partition.first_rho(job), job.admm.schedule, partition.rho_cap(job))

    def advance(self, primal: float, dual: float) -> None:
        """Go on to the next round, after one that left these residuals."""
        if self.schedule == "capped":
            self.rho = min(self.rho * GROWTH, max(self.cap, self.rho))
        elif self.schedule == "x10":
            self.rho = min(self.rho * GROWTH, MOST)
        elif self.schedule == "residual" and primal > BALANCE * dual:
            self.rho = min(self.rho * FACTOR, MOST)
        elif self.schedule == "residual" and dual > BALANCE * primal:
            self.rho = max(self.rho / FACTOR, LEAST)
