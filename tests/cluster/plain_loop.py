"""A job without its cluster: what plain loops are made of that do the same maths."""

from collections.abc import Iterator

import numpy as np

from dualshard.common.cluster import DataShape
from dualshard.common.job import Job
from dualshard.common.types import Array, Float32
from dualshard.dataserver.pipeline import portions
from dualshard.dataserver.sampling import epoch_order
from dualshard.dataserver.source import open_source
from dualshard.worker.building import build_model
from dualshard.worker.layout import Layout


class Loop:
    """The net, the data and the order of a job, without any cluster."""

    def __init__(self, job: Job) -> None:
        self.job = job
        split = open_source(job.data, job.job.seed)
        self.data = split.train
        self.samples = len(split.train)
        shape = DataShape(self.samples, len(split.test), split.classes, split.sample_shape, 1)
        self.model = build_model(job, shape)
        self.layout = Layout(self.model.shapes())
        self.vector = np.zeros(self.layout.size, np.float32)
        self.model.start(self.layout.views(self.vector), np.random.default_rng((job.job.seed, 0)))
        self.cut = portions(
            self.samples, job.data.batch_size, job.dataserver.portion, job.worker.count
        )

    def gradient(self, vector: Float32, batch: tuple[Array, Array]) -> Float32:
        gradient = np.zeros_like(vector)
        views = self.layout.views(vector), self.layout.views(gradient)
        self.model.gradients(*views, batch, np.random.default_rng(0))
        return gradient

    def minibatches(self, epoch: int, rank: int) -> Iterator[tuple[Array, Array]]:
        """What the worker of this rank sees: its portions are its rank, and every W-th after."""
        order = epoch_order(self.job.job.seed, epoch, self.samples)
        size = self.job.data.batch_size
        for portion in range(rank, self.cut.count, self.job.worker.count):
            begin, end = self.cut.span(portion)
            for first in range(begin, end, size):
                inputs, labels = self.data.read(order[first : min(first + size, end)])
                yield inputs, labels
