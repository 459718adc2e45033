"""The controller's view of the cluster, parsed: members, bucket table, parameter layout. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, prod
from typing import Any

import numpy as np

from .errors import RemoteError
from .messages import DataFacts, View
from .sharding import Shards, Table, check_starts
from .types import Member, Role

ELEMENTS_LIMIT = 1 << 40
"""Elements of all parameters: 4 TiB of float32. A claim beyond it is a mistake."""

PHASES = ("joining", "preparing", "training", "finishing", "stopped")
"""joining: roles are missing. preparing: data, model and shards are being set up. training: a
leg runs. finishing: the last evaluation and the final model. stopped: everyone goes."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One named parameter: its shape, whether weight decay applies to it, and whether it is
    averaged: a running statistic that is moved by what is pushed, p -= g, and never by the rule."""

    name: str
    decays: bool
    shape: tuple[int, ...]
    averaged: bool = False


def channels_of(shape: Sequence[int]) -> int:
    """The channels of a sample: images of (height, width, channels) have them, all else is one."""
    return shape[2] if len(shape) == 3 else 1


@dataclass(frozen=True, slots=True)
class DataShape:
    """What the data servers found: sample counts, classes, shape of one sample; how workers are to
    normalise, and in which form labels come (see `DataFacts`)."""

    samples: int
    test_samples: int
    classes: int
    sample_shape: tuple[int, ...]
    portion_size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    soft: bool = False

    @classmethod
    def of(cls, facts: DataFacts) -> "DataShape":
        """What a data server said.

        Raises:
            ValueError: a number that cannot be.
        """
        counts = (facts.samples, facts.test_samples, facts.classes, facts.portion_size)
        if min(counts) < 1 or not all(size > 0 for size in facts.sample_shape):
            raise ValueError(
                f"{counts} samples, test samples, classes and samples of a "
                f"portion of shape {facts.sample_shape}: each must be at least 1"
            )
        found = cls(
            facts.samples,
            facts.test_samples,
            facts.classes,
            tuple(facts.sample_shape),
            facts.portion_size,
            tuple(map(float, facts.mean)),
            tuple(map(float, facts.std)),
            facts.soft,
        )
        found.check_scale()
        return found

    def check_scale(self) -> None:
        """Raises ValueError unless mean and std are empty or can be of the channels of a sample."""
        if not self.mean and not self.std:
            return
        channels = channels_of(self.sample_shape)
        if not len(self.mean) == len(self.std) == channels:
            found = f"{len(self.mean)} means and {len(self.std)} deviations"
            raise ValueError(f"{found} of samples with {channels} channels")
        if not all(map(isfinite, self.mean)) or not all(0 < value < inf for value in self.std):
            raise ValueError(f"means {self.mean} or deviations {self.std} that cannot be")

    def to_dict(self) -> dict[str, Any]:
        """As `View.data`."""
        return {
            "samples": self.samples,
            "test_samples": self.test_samples,
            "classes": self.classes,
            "sample_shape": list(self.sample_shape),
            "portion_size": self.portion_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "soft": self.soft,
        }


@dataclass(frozen=True)
class Cluster:
    """One numbered view. `leg` is the stretch of training that runs (see `messages.Serve`), or
    will run first; `active` the only worker rank that trains (warm start), or -1; `starts` are the
    elements at which the parts of a cut net begin (see `Shards`)."""

    number: int
    phase: str
    leg: int
    active: int
    members: tuple[Member, ...]
    table: Table
    data: DataShape | None
    layout: tuple[Parameter, ...]
    status: int
    reason: str
    starts: tuple[int, ...] = ()

    @cached_property
    def _by_role(self) -> dict[Role, list[Member]]:
        return {
            role: sorted((m for m in self.members if m.role is role), key=lambda m: m.rank)
            for role in Role
        }

    def of_role(self, role: Role) -> list[Member]:
        """The members of one role, by rank. Not to be changed."""
        return self._by_role[role]

    def member(self, incarnation: int) -> Member | None:
        """Who this is, if it is (still) a member."""
        return next((m for m in self.members if m.incarnation == incarnation), None)

    @property
    def size(self) -> int:
        """float32 elements of all parameters."""
        return size_of(self.layout)

    def shards(self, shard_bytes: int, buckets: int) -> Shards:
        """How the flat vector is cut."""
        return Shards(self.size, shard_bytes // 4, buckets, self.starts)


EMPTY = Cluster(0, "joining", 0, -1, (), Table(0, ()), None, (), 0, "")
"""Before the first view has come."""


def parse_view(view: View) -> Cluster:
    """A view from the wire, checked.

    Raises:
        RemoteError: the controller sent something that is no view.
    """
    try:
        members = tuple(
            Member(
                Role(role),
                _int(rank),
                _int(incarnation),
                _str(address),
                _str(host),
                _int(pid),
                _str(key),
            )
            for role, rank, incarnation, address, host, pid, key in view.members
        )
        layout = parse_layout(view.layout)
        starts = parse_starts(view.starts, layout)
        data = None
        if view.data:
            data = DataShape(
                _int(view.data["samples"]),
                _int(view.data["test_samples"]),
                _int(view.data["classes"]),
                tuple(_int(n) for n in view.data["sample_shape"]),
                _int(view.data["portion_size"]),
                tuple(_float(value) for value in view.data["mean"]),
                tuple(_float(value) for value in view.data["std"]),
                _bool(view.data["soft"]),
            )
            data.check_scale()
        owners = tuple(np.frombuffer(view.owners, "<u2").tolist())
    except (ValueError, TypeError, KeyError) as broken:
        raise RemoteError(f"view {view.number} of the controller is malformed: {broken}") from None
    if view.phase not in PHASES:
        raise RemoteError(f"view {view.number}: phase {view.phase!r} is not one of {PHASES}")
    return Cluster(
        view.number,
        view.phase,
        view.leg,
        view.active,
        members,
        Table(view.table_epoch, owners),
        data,
        layout,
        view.status,
        view.reason,
        starts,
    )


def make_view(cluster: Cluster) -> View:
    """The message that `parse_view` reads."""
    return View(
        cluster.number,
        cluster.phase,
        cluster.leg,
        cluster.active,
        [
            [str(m.role), m.rank, m.incarnation, m.address, m.host, m.pid, m.key]
            for m in cluster.members
        ],
        cluster.table.epoch,
        np.array(cluster.table.owners, "<u2").tobytes(),
        cluster.data.to_dict() if cluster.data else {},
        layout_rows(cluster.layout),
        cluster.status,
        cluster.reason,
        list(cluster.starts),
    )


def parse_layout(rows: Iterable[Sequence[Any]]) -> tuple[Parameter, ...]:
    """Rows of (name, decays, averaged, dimension, ...) as parameters.

    Raises:
        ValueError, TypeError: a row is no parameter.
    """
    parameters = tuple(
        Parameter(_str(name), _bool(decays), tuple(_int(size) for size in shape), _bool(averaged))
        for name, decays, averaged, *shape in rows
    )
    if any(size < 1 for parameter in parameters for size in parameter.shape):
        raise ValueError("a parameter with an empty dimension")
    if size_of(parameters) > ELEMENTS_LIMIT:
        raise ValueError(f"more than {ELEMENTS_LIMIT} elements")
    return parameters


def parse_starts(starts: Sequence[object], layout: Iterable[Parameter]) -> tuple[int, ...]:
    """The elements at which the parts of a net of these parameters begin.

    Raises:
        ValueError, TypeError: they cannot.
    """
    found = tuple(map(_int, starts))
    check_starts(found, size_of(layout))
    return found


def size_of(layout: Iterable[Parameter]) -> int:
    """float32 elements of these parameters."""
    return sum(prod(parameter.shape) for parameter in layout)


def layout_rows(layout: Iterable[Parameter]) -> list[list[Any]]:
    """The rows that `parse_layout` reads."""
    return [[p.name, p.decays, p.averaged, *p.shape] for p in layout]


def _int(value: object) -> int:
    """A peer's integer as it is: `int` would also take texts, and fail on infinity."""
    if type(value) is not int:
        raise TypeError(f"expected an integer, got a {type(value).__name__}")
    return value


def _float(value: object) -> float:
    if type(value) is not float:
        raise TypeError(f"expected a number, got a {type(value).__name__}")
    return value


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError(f"expected true or false, got a {type(value).__name__}")
    return value


def _str(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"expected a text, got a {type(value).__name__}")
    return value
