"""Before the first epoch: what the data are, which model, and who owns which bucket. Pure."""

from collections.abc import Sequence
from typing import Any

from ...common import partition
from ...common.cluster import DataShape, parse_layout, parse_starts
from ...common.delivery import Courier, Peer
from ...common.job import Job
from ...common.messages import Ack, DataFacts, Describe, Envelope, Ready
from ...common.sharding import Table, assign
from ...common.types import Role
from .checkpoints import Checkpointing, Place
from .membership import Seat
from .resuming import Resumed


class SettingUp(Checkpointing):
    """Gathers what the roles say of themselves, until training can begin; arguments as there."""

    def __init__(
        self,
        courier: Courier,
        job: Job,
        address: str,
        versions: dict[str, str],
        place: Place | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        super().__init__(courier, job, address, versions, place, resumed)
        self.facts: set[int] = set()
        """Incarnations of the data servers whose data is open."""
        self._described: set[int] = set()
        self._ready: set[int] = set()
        self.requests |= {
            DataFacts: self._on_facts,
            Describe: self._on_describe,
            Ready: self._on_ready,
        }

    def _on_facts(self, peer: Peer, envelope: Envelope) -> None:
        facts = envelope.message
        assert isinstance(facts, DataFacts)
        try:
            shape = DataShape.of(facts)
        except ValueError as wrong:
            self.refuse(peer, envelope, "data", str(wrong))
            return
        self.answer(peer, envelope, Ack())
        if self.cluster.data is not None and shape != self.cluster.data:
            self.stop(
                2,
                f"the data servers hold different data: {self.cluster.data} and {shape}; "
                "give each the same data.source",
            )
            return
        self.facts.add(envelope.source)
        if self.cluster.data is None:
            self.change(data=shape)
        self.data_opened(envelope.source)
        self.begin_training()

    def data_opened(self, incarnation: int) -> None:
        """A data server can serve."""

    def _on_describe(self, peer: Peer, envelope: Envelope) -> None:
        describe = envelope.message
        assert isinstance(describe, Describe)
        try:
            layout = parse_layout(describe.layout)
            starts = parse_starts(describe.starts, layout)
        except (ValueError, TypeError) as broken:
            self.refuse(peer, envelope, "layout", f"malformed layout: {broken}")
            return
        seat = self.roster.seats.get(envelope.source)
        if seat is None:
            self.refuse(peer, envelope, "unknown", "this worker is not a member")
            return
        if self.cluster.layout and layout != self.cluster.layout:
            detail = _layout_difference(seat.member.name, self.cluster.layout, layout)
            self._misfit(peer, envelope, seat, detail)
            return
        detail = self._wrong_cut(seat.member.name, starts) or self.unlike_checkpoint(layout)
        if detail:
            self._misfit(peer, envelope, seat, detail)
            return
        self.answer(peer, envelope, Ack())
        if describe.line and envelope.source not in self._described:
            self.event(f"{seat.member.name}: {describe.line}")
        self._described.add(envelope.source)
        if not self.cluster.layout:
            self.change(layout=layout, starts=starts)
        self._lay_out()
        self.begin_training()

    def _misfit(self, peer: Peer, envelope: Envelope, seat: Seat, why: str) -> None:
        """A worker has built another model than the job's."""
        self.refuse(peer, envelope, "layout", why)
        if self.spares(seat.member):
            self.drop(seat, why)
        else:
            self.stop(2, why)

    def _wrong_cut(self, who: str, starts: tuple[int, ...]) -> str:
        """What is wrong with where a worker has cut the net; empty if nothing is."""
        if partition.is_cut(self.job) and len(starts) != self.job.partition.count:
            expected = f"{self.job.partition.count} parts"
        elif starts and not partition.is_cut(self.job):
            expected = "a whole one"
        elif self.cluster.layout and starts != self.cluster.starts:
            expected = f"parts from elements {list(self.cluster.starts)} on, as the first worker's"
        else:
            return ""
        cut = f"into parts from elements {list(starts)} on" if starts else "nowhere"
        return f"{who} cut the net {cut}, expected {expected}; install the same dualshard on all"

    def has_model(self, seat: Seat) -> bool:
        """Whether a worker has built its model."""
        return seat.member.incarnation in self._described

    def joined(self) -> None:
        """Somebody has joined: all servers may be there now."""
        self._lay_out()

    def _lay_out(self) -> None:
        """Give the buckets to the servers, once all are there and the model is known."""
        cluster = self.cluster
        if cluster.phase != "preparing" or not cluster.layout or cluster.table.owners:
            return
        shards = cluster.shards(self.job.paramserver.shard_bytes, self.job.paramserver.buckets)
        ranks = [seat.member.rank for seat in self.roster.of_role(Role.PARAMSERVER)]
        self.change(table=Table(1, assign(shards.weights(), ranks, None)))

    def _on_ready(self, peer: Peer, envelope: Envelope) -> None:
        self.answer(peer, envelope, Ack())
        self._ready.add(envelope.source)
        self.begin_training()

    def begin_training(self) -> None:
        """Start the first epoch once data, models and shards are ready."""

        def all_in(role: Role, done: set[int]) -> bool:
            seats = self.roster.of_role(role)
            return bool(seats) and all(seat.member.incarnation in done for seat in seats)

        if (
            self.cluster.phase == "preparing"
            and all_in(Role.PARAMSERVER, self._ready)
            and all_in(Role.WORKER, self._described)
            and all_in(Role.DATASERVER, self.facts)
        ):
            if self.go_on_from_checkpoint():
                return
            active = -1
            if self.job.job.warm_start > 0:
                active = self.roster.of_role(Role.WORKER)[0].member.rank
                self.event(f"worker-{active} warms up alone for {self.job.job.warm_start} steps")
            self.change(active=active)
            self.begin_leg(self.stretch(0))


def _layout_difference(who: str, expected: Sequence[Any], actual: Sequence[Any]) -> str:
    """The first parameter in which two models differ."""
    for one, other in zip(expected, actual, strict=False):
        if one != other:
            return (
                f"{who} built another model: parameter {other.name} {list(other.shape)}, "
                f"the first worker's is {one.name} {list(one.shape)}; give all the same "
                "model.ref and model.args"
            )
    return (
        f"{who} built another model: {len(actual)} parameters, the first worker's has "
        f"{len(expected)}; give all the same model.ref and model.args"
    )
