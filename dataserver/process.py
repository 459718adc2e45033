"""The data server's process: joins its state to the transport, the source and the pipeline."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..common.job import Job
from ..common.loop import Background
from ..common.messages import DataFacts
from ..common.node import Action, Exit
from ..common.partition import portion_batches, replicas
from ..common.runtime import Options, Runtime
from ..common.session import Welcomed
from ..common.types import Arrays, Role
from .augment import check_mixups, parse_augment, take_normalise
from .cache import CachedDataset, cached
from .corrupt import Skipped, read_whole
from .events import LookedUp, LookUp, Opened, Prepare, Prepared
from .pipeline import Pipeline, chosen, portions
from .sampling import make_sampling
from .sharing import map_shelf
from .shelves import Shelves
from .source import open_source
from .sources.samples import ArrayDataset
from .split import Split
from .state import DataServer


class Store:
    """An open source: training portions through the pipeline, test portions as they lie."""

    def __init__(self, job: Job, say: Callable[[str], None] = lambda text: None) -> None:
        """Opens `data.source`; `say` is told of what takes long.

        Raises:
            UserError: whatever is wrong with it.
        """
        data = job.data
        self.split: Split = open_source(data, job.job.seed, say)
        cut = portions(len(self.split.train), data.batch_size, portion_batches(job), replicas(job))
        transforms = parse_augment(data.augment)
        normalise, soft = take_normalise(transforms), check_mixups(transforms)
        train = cached(self.split.train, data)
        self._cache = train if isinstance(train, CachedDataset) else None
        sampling = make_sampling(data, len(train), self.split.labels)
        labels, classes = self.split.labels, self.split.classes
        # What lies in memory was decoded when it was opened.
        skips = data.corrupt == "skip" and not isinstance(train, ArrayDataset)
        self.pipeline = Pipeline(
            train, transforms, job.job.seed, cut, sampling, classes, labels, skips=skips
        )
        """What training samples go through."""
        self._skipped_tests = Skipped()
        self._batch_size = data.batch_size
        self._test_size = data.batch_size * job.dataserver.portion
        shape = self.pipeline.sample_shape
        mean, std = normalise.by_channel(shape) if normalise else ([], [])
        self.facts = DataFacts(
            len(self.split.train),
            len(self.split.test),
            self.split.classes,
            list(shape),
            cut.size,
            mean,
            std,
            soft,
        )

    def perform(self, wanted: Prepare | LookUp) -> Prepared | LookedUp:
        """What the data server's state asks for."""
        return self.prepare(wanted) if isinstance(wanted, Prepare) else self.look_up(wanted)

    def prepare(self, wanted: Prepare) -> Prepared:
        """The arrays of one portion."""
        if not wanted.test:
            return self._prepare_training(wanted)
        begin = wanted.portion * self._test_size
        end = min(begin + self._test_size, len(self.split.test))
        arrays = self._read_test(np.arange(begin, max(begin, end), dtype=np.int64))
        last = end == len(self.split.test)
        return Prepared(wanted, last, arrays, skipped=self._skipped_tests.take())

    def _prepare_training(self, wanted: Prepare) -> Prepared:
        _, arrays = self.pipeline.portion(wanted.epoch, wanted.portion, wanted.begin)
        begin, _ = self.pipeline.cut.span(wanted.portion, wanted.begin)
        minibatches, arrays = chosen(arrays, wanted.minibatches, self._batch_size)
        return Prepared(wanted, False, arrays, begin, minibatches, *self._noticed())

    def look_up(self, wanted: LookUp) -> LookedUp:
        """The samples of one portion."""
        indices, labels = self.pipeline.members(wanted.epoch, wanted.begin, labels=wanted.labels)
        return LookedUp(wanted, indices, labels, *self._noticed())

    def _noticed(self) -> tuple[list[str], dict[str, int]]:
        """Samples that were found to be damaged since the last call, and the cache's counts."""
        return self.pipeline.skipped.take(), dict(self._cache.counters) if self._cache else {}

    def _read_test(self, indices: NDArray[np.int64]) -> Arrays:
        return self.pipeline.at_test(read_whole(self.split.test, indices, self._skipped_tests))


class DataServerProcess:
    """Performs a data server's actions."""

    def __init__(self, options: Options) -> None:
        self._runtime = Runtime(Role.DATASERVER, options, listens=True)
        self._state = DataServer(
            self._runtime.courier(), shelves=Shelves(map_shelf), **self._runtime.session()
        )
        self._loop = self._runtime.loop(self._state, self._perform)
        self._beside = Background(self._loop.post, "data server")
        self._store: Store | None = None

    def run(self) -> Exit:
        """From joining to the end."""
        return self._runtime.run(self._loop, self._state.start(self._runtime.clock.now()))

    def _perform(self, action: Action) -> None:
        if isinstance(action, Prepare | LookUp):
            assert self._store is not None
            self._beside.submit(partial(self._store.perform, action))
        else:
            assert isinstance(action, Welcomed)
            self._runtime.telemetry.rename(f"dataserver-{action.rank}")
            job = Job.from_dict(action.job)
            self._state.configure(job)
            self._beside.widen(job.dataserver.threads)
            self._beside.submit(partial(self._open, job))

    def _open(self, job: Job) -> Opened:
        self._store = Store(job, partial(self._runtime.telemetry.log, "info"))
        return Opened(self._store.facts)
