"""Data: worker and data server; controller and data server. Pure."""

from dataclasses import dataclass, field

from ..types import Array
from .envelope import Message


@dataclass(frozen=True, slots=True)
class DataFacts(Message):
    """Request, data server to controller, once its data is open; answered by `Ack`.

    Workers subtract `mean` from the inputs, scaled to [0, 1], and divide by `std`, by channel;
    empty: neither. With `soft` the labels of training portions are rows of probabilities.
    An epoch is cut into portions of `portion_size` samples, the last perhaps shorter.
    """

    samples: int
    test_samples: int
    classes: int
    sample_shape: list[int]
    portion_size: int
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Serve(Message):
    """Request, controller to data server: these portions are yours; answered by `Ack`.

    An epoch is trained on in legs, counted over the job, each of which begins when the one before
    is done. This leg is a stretch of `epoch`, positions [`begin`, `end`) of its order: portion p
    begins at `begin` + p * `portion_size`. With `end` 0 it is not known where it ends.
    """

    leg: int
    epoch: int
    begin: int
    portions: list[int]
    end: int = 0


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """Request, data server to controller: how its share of `leg` stands; answered by `Ack`.

    `done` are the portions finished since the last acknowledged report, with the sums of their
    `measures` (see `Done`); `busy` are the incarnations of the workers that hold a portion,
    `left` the number of portions not handed out, of the `given` ones that it has been told to
    serve; `reissued` are those that are handed out once more though somebody may have trained on
    them, `samples_reissued` how many samples that is at most, `skipped` damaged samples that were
    left out, each named once by a server.
    """

    leg: int
    given: int
    left: int
    busy: list[int]
    done: list[int]
    reissued: list[int]
    measures: dict[str, float]
    samples_reissued: int = 0
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Backup(Message):
    """Request, controller to data server: nothing of `leg` is left to hand out anywhere; an idle
    worker may have a second copy of what another one holds. Answered by `Ack`."""

    leg: int


@dataclass(frozen=True, slots=True)
class Shelf(Message):
    """Request, worker to data server: memory to write portions to; `Ack`, or `Refused` on another
    host. The segment is open as `descriptor` in process `pid` of `place`, and holds `slots` slots
    of `size` bytes each, a multiple of 4.
    """

    place: str
    pid: int
    descriptor: int
    slots: int
    size: int


@dataclass(frozen=True, slots=True)
class Fetch(Message):
    """Request, worker to data server: one credit, for one portion of the training split.

    Answered by `Portion`, perhaps much later; or by `Shelved`, where `slot` >= 0 names a slot of
    the sender's shelf, which nobody else may write to from now until it is named again. `drained`
    is the newest leg of which the sender knows that nothing is left there (-1: of none). With
    `test` it asks for portion `portion` of the test split instead, answered at once; `last` marks
    the final one. Without `labels` those of the portion stay where they are: an empty array comes.
    """

    test: bool
    portion: int
    drained: int = -1
    slot: int = -1
    labels: bool = True


@dataclass(frozen=True, slots=True)
class Portion(Message):
    """Consecutive minibatches: inputs (n, ...) uint8 or float32, and labels, (n,) int64 or soft
    ones (n, classes) float32, in the order of `epoch`, from its position `begin` on. `minibatches`
    are their numbers in the portion, where some of it has been trained on; empty: it is whole.
    Portion -1 holds none: this server has nothing left for the worker in this leg."""

    leg: int
    portion: int
    last: bool
    inputs: Array
    labels: Array
    epoch: int = 0
    begin: int = 0
    minibatches: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shelved(Message):
    """A `Portion` whose inputs, of `dtype` (as NumPy writes it) and `shape`, lie in the slot that
    was named."""

    leg: int
    portion: int
    last: bool
    slot: int
    dtype: str
    shape: list[int]
    labels: Array
    epoch: int = 0
    begin: int = 0
    minibatches: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Done(Message):
    """Request, worker to data server: each gradient of the portion has been applied; `Ack`.
    With `orphan` it came from another data server, which is gone.

    `measures` are sums over the portion: `samples`, `steps`, `loss` and `accuracy` (of samples),
    `pushes`, `staleness` (of pushes), `stale.N` (pushes by staleness, see `types.stale_class`),
    `late` (pushes that came too late), `bytes_pushed`, `bytes_pulled`, `wait` (seconds without
    data) and `wait_between` (those of them between two legs), and `model.NAME` for whatever else
    the model measures (of samples).
    """

    leg: int
    portion: int
    measures: dict[str, float]
    orphan: bool = False


@dataclass(frozen=True, slots=True)
class Return(Message):
    """Request, worker to data server: the sender leaves and takes nothing more; `Ack`.

    Of each of the `portions` of `leg` that it holds, `left` are the numbers of the minibatches
    that are not applied, `measures` the sums over those that are (see `Done`). What else was on
    its way to the sender has not been touched.
    """

    leg: int
    portions: list[int]
    left: list[list[int]]
    measures: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class AskSamples(Message):
    """Request, worker to data server: which samples make the portion that begins at position
    `begin` of the order of `epoch`, and their labels if wanted; answered by `Samples`.

    The parts of a cut net above the bottom one see no inputs: this is how they know whose the
    activations are that reach them.
    """

    epoch: int
    begin: int
    labels: bool


@dataclass(frozen=True, slots=True)
class Samples(Message):
    """The numbers of a portion's samples in the data set (n,) int64, in order, without those that
    are left out as damaged; and their labels as in `Portion`, empty if they were not asked for."""

    indices: Array
    labels: Array
