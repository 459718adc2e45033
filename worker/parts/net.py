"""A cut net as the servers hold it: the parts' parameters one behind the other, and beside those of
a lower part what it holds for the cut alone (coupling `weights`). No arithmetic.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...common.cluster import DataShape
from ...common.job import Job
from ...common.types import Float32
from ..building import build_model, guarded, shapes_of
from ..checks import check_start
from ..layout import Layout
from ..model import Shapes
from .cutting import cut
from .part import Part
from .sides import Side, make_sides


class CutNet:
    """Which parameters each part has, and where they lie.

    `parts` and `sides` (one for each part but the top one, or none) are for one thread to compute
    with. The extra parameters of part 0 are called `part0.copy.weight` and so on.
    """

    def __init__(self, job: Job, data: DataShape) -> None:
        """Raises UserError: the net cannot be cut as the job wants it."""
        self._job = job
        self.parts: list[Part] = cut(job, data)
        has_sides = job.partition.coupling == "weights"
        self.sides: list[Side] = make_sides(job, data) if has_sides else []
        self.model = build_model(job, data)
        self.whole = Layout(shapes_of(job, self.model))
        rows = list(self._rows())
        self.layout = Layout({name: shape for name, _, _, shape in rows})
        self.rows: list[list[Any]] = [[*row[:3], *row[3]] for row in rows]
        sizes = [Layout(self.shapes_of(number)).size for number in range(len(self.parts))]
        self.starts = [sum(sizes[:number]) for number in range(len(sizes))]

    def shapes_of(self, number: int) -> Shapes:
        """All that a part holds, by its names in the whole."""
        shapes = dict(self.parts[number].shapes())
        if number < len(self.sides):
            side = self.sides[number].shapes()
            shapes |= {f"part{number}.{name}": shape for name, shape in side.items()}
        return shapes

    def span(self, number: int) -> tuple[int, int]:
        """Elements [begin, end) of a part."""
        return self.starts[number], [*self.starts[1:], self.layout.size][number]

    def start(self) -> Float32:
        """First values of all parts. Those of the net are what they are where it is not cut, and
        copies begin as what they are copies of."""
        job, flat = self._job, np.zeros(self.whole.size, np.float32)
        random = np.random.default_rng((job.job.seed, 0))
        views = self.whole.views(flat)
        guarded(job, "starting its parameters", lambda: self.model.start(views, random))
        check_start(job, views)
        vector = np.zeros(self.layout.size, np.float32)
        named = self.layout.views(vector)
        for name, values in views.items():
            named[name][...] = values
        for number, side in enumerate(self.sides):
            own = {name: named[f"part{number}.{name}"] for name in side.shapes()}
            side.start(own, np.random.default_rng((job.job.seed, 0, number)))
            for copy, twin in side.twins().items():
                own[copy][...] = named[twin]
        return vector

    def glued(self, vector: Float32, copies: bool = False) -> Float32:
        """The whole model's parameters out of those of the parts; with `copies` the boundary
        layers are those of the lower parts."""
        if not self.sides:
            return vector
        named, flat = self.layout.views(vector), np.zeros(self.whole.size, np.float32)
        views = self.whole.views(flat)
        for name, values in views.items():
            values[...] = named[name]
        for number, side in enumerate(self.sides if copies else ()):
            for copy, twin in side.twins().items():
                views[twin][...] = named[f"part{number}.{copy}"]
        return flat

    def _rows(self) -> Iterator[tuple[str, bool, bool, tuple[int, ...]]]:
        """(name, decays, averaged, shape) of each parameter."""
        for number, part in enumerate(self.parts):
            for name, shape in part.shapes().items():
                yield name, bool(part.decayed(name)), bool(part.averaged(name)), shape
            side = self.sides[number] if number < len(self.sides) else None
            for name, shape in (side.shapes() if side else {}).items():
                assert side is not None
                row = f"part{number}.{name}"
                yield row, bool(side.decayed(name)), bool(side.averaged(name)), shape
