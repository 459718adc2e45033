"""A whole model measured on samples that it is not trained on. No sockets, no threads."""

from collections.abc import Iterable
from functools import partial

from ..common.cluster import DataShape
from ..common.job import Job
from ..common.types import Arrays, Float32, Metrics
from .building import guarded
from .checks import check_measures
from .layout import Layout
from .model import Model
from .scaling import Scaling


class Examiner:
    """A model of its own and its scratch. Belongs to one thread."""

    def __init__(self, job: Job, data: DataShape, model: Model, layout: Layout) -> None:
        """`layout` is that of `model`, all of whose parameters are handed in at each call."""
        self._job, self._model, self._layout = job, model, layout
        self._scaling = Scaling(data)

    def evaluate(self, vector: Float32, portions: Iterable[Arrays]) -> tuple[int, Metrics]:
        """The number of samples and the means over them, with the parameters in `vector`."""
        views, model = self._layout.views(vector), self._model
        total, sums = 0, dict[str, float]()
        for inputs, labels in portions:
            batch = (self._scaling(inputs), labels)
            found = guarded(self._job, "evaluating", partial(model.evaluate, views, batch))
            metrics = check_measures(self._job, found, "evaluate")
            total += len(labels)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + value * len(labels)
        return total, {name: value / total for name, value in sums.items()}
