"""What a worker holds of a cut net: its slice of the vector, and the rule for it. No models."""

from collections.abc import Mapping, Sequence

from ...common.clipping import clip
from ...common.cluster import Parameter
from ...common.job import Job
from ...common.rates import averaged_in, check_rates, make_segments
from ...common.rules import make_rule
from ...common.schedules import make_schedule
from ...common.types import Float32
from ..layout import Layout, Parameters
from ..local import LocalRule
from ..model import Shapes


class Holding:
    """A part's slice of the flat vector, one gradient, and the rule of `[optimizer]`.

    Arguments:
        rows: of the whole net's layout, in order.
        shapes: what the part holds, in order; `begin` is where in the whole.
        vector, gradient: float32, of that size; stepped and written in place.
    """

    def __init__(
        self,
        job: Job,
        rows: Sequence[Parameter],
        shapes: Shapes,
        begin: int,
        vector: Float32,
        gradient: Float32,
    ) -> None:
        self._job, self.layout = job, Layout(shapes)
        self.vector, self.gradient = vector, gradient
        trained = [row.name for row in rows if not row.averaged]
        check_rates(job.optimizer.rates, trained)
        check_rates(job.outer.rates, trained, "outer.rates")
        optimizer = job.optimizer
        segments = make_segments(
            rows, optimizer.rates, optimizer.weight_decay, begin, begin + self.layout.size
        )
        self.averaged = averaged_in(segments)
        rule, schedule = make_rule(optimizer), make_schedule(optimizer)
        self._rule = LocalRule(job, rule, schedule, self.layout, segments)
        self.steps = 0

    def views(self, names: Mapping[str, str]) -> tuple[Parameters, Parameters]:
        """Parameters and gradients of some that lie one behind the other, by other names.

        Arguments:
            names: what each is to be called, and what it is called here.
        """
        spans = self.layout.spans()
        begin, end = spans[next(iter(names.values()))][0], spans[list(names.values())[-1]][1]
        layout = Layout({name: self.layout.shapes[held] for name, held in names.items()})
        return layout.views(self.vector[begin:end]), layout.views(self.gradient[begin:end])

    def step(self, progress: float) -> None:
        """Clip the gradient, and one step along it at the rate of `progress` (0 to 1)."""
        clip(self.gradient, self._job.optimizer, self.averaged)
        self._rule.apply(0, self.vector, self.gradient, progress)
        self.steps += 1

    def forget(self, vector: Float32) -> None:
        """Begin anew at these values, as if there had been no step."""
        self._rule.forget()
        self.vector[:], self.gradient[:], self.steps = vector, 0, 0
