"""How a worker comes by its data: portions by credit, over sockets or in its own memory. Pure.

Of a cut net only bottom parts fetch, and without labels where they have no use for them.

A credit is an open `Fetch`. To a data server of the same host it names a free slot of the worker's
shelf (see `shelf`), which the server writes the portion to; the slot is free again when the last of
the portion's minibatches is done with.
"""

from dataclasses import replace

from ..common import modes, partition
from ..common.delivery import Courier, Open
from ..common.errors import RemoteError
from ..common.job import Job
from ..common.messages import Ack, Done, Fetch, Message, Portion, Refused, Shelf, Shelved
from ..common.node import Shortcut
from ..common.types import Member, Role
from .batches import Lease, Minibatch, Ring
from .evaluating import Evaluating
from .shelf import Slots

CREDITS = 2
"""Portions asked for or held, per data server: one is trained on while the next one comes."""


class Feeding(Evaluating):
    """A worker's end of the data servers."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self._ring = Ring(1)
        self._slots: Slots | None = None
        self._shelves: dict[str, bool | None] = {}  # by address; None: offered, no answer yet
        self._wants_data = True
        self._drained: dict[str, int] = {}
        self._newest = -1  # the last leg of which a data server has told
        self.replies |= {
            Fetch: self._on_portion,
            Shelf: self._on_shelf,
            Done: lambda request, reply: None,
        }

    @property
    def retiring(self) -> bool:
        """Whether it takes no more minibatches."""
        return False

    @property
    def takes_data(self) -> bool:
        """Whether it trains on inputs at all."""
        return self.job is not None and partition.takes_data(self.job, self.rank)

    def configure(self, job: Job) -> None:
        """The job has come with the welcome."""
        self.job = job
        self._ring = Ring(job.data.batch_size, ordered=modes.in_order(job))

    def offer_shelf(self, slots: Slots | None) -> None:
        """Take the shortest way to each data server: offer it the shelf if it is of this host, and
        reach one of this machine past the network."""
        assert self.job is not None
        self._slots = slots if self.takes_data else None
        for member in self.cluster.of_role(Role.DATASERVER):
            if member.address in self._shelves:
                continue
            if self.job.train.transport != "tcp":
                self.do(Shortcut(member.address))
            self._shelves[member.address] = False
            if self._slots is not None and member.host == self.host:
                self._shelves[member.address] = None
                self.ask(member.address, self._slots.offer)

    def _on_shelf(self, request: Open, reply: Message) -> None:
        assert isinstance(reply, Ack)
        self._shelf_settled(request, taken=True)

    def _shelf_settled(self, request: Open, *, taken: bool) -> None:
        assert isinstance(request.peer, str)
        self._shelves[request.peer] = taken
        self._wants_data = True
        self.go_on()

    def refused(self, request: Open, reply: Refused) -> None:
        if isinstance(request.message, Shelf):
            self.note("info", f"data server {request.peer!s} writes to no shelf: {reply.detail}")
            self._shelf_settled(request, taken=False)
        else:
            super().refused(request, reply)

    def ask_for_data(self) -> None:
        """Ask each data server for as many portions as there is room for."""
        assert self.job is not None
        self._wants_data = False
        if not self.takes_data:
            return
        # What is to come in order is asked for one at a time: answers may overtake each other.
        at_once = 1 if modes.in_order(self.job) else CREDITS
        for member in self.cluster.of_role(Role.DATASERVER):
            if self._shelves.get(member.address, False) is None:
                continue
            waiting = sum(
                isinstance(request.message, Fetch) and not request.message.test
                for request in self.courier.open_requests(member.address)
            )
            # Where the end of a leg is told, a push may take more portions than one has credit
            # for; otherwise what has come is pushed when there is no more.
            ring, told = self._ring, modes.told_the_end(self.job)
            held = ring.untaken_from(member.address) if told else ring.held_from(member.address)
            wanted = CREDITS - waiting - held
            for _ in range(min(wanted, at_once - waiting)):
                self._fetch(member)

    def _fetch(self, member: Member) -> None:
        """Give a data server one credit."""
        assert self.job is not None
        slot = -1
        if self._slots is not None and self._shelves[member.address]:
            self._free_slots()
            slot = self._slots.take()
        drained = self._drained.get(member.address, -1)
        labels = partition.has_head(self.job, 0)
        self.ask(member.address, Fetch(False, 0, drained, slot, labels))

    def _free_slots(self) -> None:
        for slot in self._ring.take_done_with():
            self._give_up(slot)

    def _give_up(self, slot: int) -> None:
        if self._slots is not None:
            self._slots.free(slot)

    def _on_portion(self, request: Open, reply: Message) -> None:
        fetch = request.message
        assert isinstance(reply, Portion | Shelved)
        assert isinstance(fetch, Fetch)
        assert isinstance(request.peer, str)
        portion, slot = self._unshelved(fetch, reply)
        if portion is None:
            return
        if fetch.test:
            self.tests_came(portion)
            return
        self._newest = max(self._newest, portion.leg)
        if portion.portion < 0:
            drained = max(self._drained.get(request.peer, -1), portion.leg)
            self._drained[request.peer] = drained
        if portion.portion < 0 or portion.leg < self.cluster.leg:
            self.counters["dropped_portions"] += portion.portion >= 0
            self._give_up(slot)
        elif not self.retiring and not self._took(request.peer, portion, slot):
            return
        self._wants_data = True
        self.go_on()

    def _took(self, source: str, portion: Portion, slot: int) -> bool:
        try:
            self._ring.add(source, portion, slot)
        except RemoteError as broken:
            self.fail(1, f"worker-{self.rank}: a data server sent {broken}")
            return False
        return True

    def take_back(self) -> list[Lease]:
        """Every portion that this worker holds; it has none after that."""
        return self._ring.take_back()

    def data_servers(self) -> list[str]:
        """Where the data servers are, by rank."""
        return [member.address for member in self.cluster.of_role(Role.DATASERVER)]

    def _unshelved(self, fetch: Fetch, reply: Portion | Shelved) -> tuple[Portion | None, int]:
        """The portion itself, None if the server wrote nonsense, and the slot that it keeps."""
        if isinstance(reply, Portion):
            self._give_up(fetch.slot)
            return reply, -1
        try:
            if self._slots is None or fetch.slot < 0:
                raise RemoteError("a portion on a shelf, and no slot of one was named")
            return self._slots.portion(reply, fetch.slot), fetch.slot
        except RemoteError as broken:
            self.fail(1, f"worker-{self.rank}: a data server sent {broken}")
            return None, -1

    def undrained(self) -> set[str]:
        """The data servers that may still have something for this worker in this leg; its data
        may come before the view that tells of it."""
        if not self.takes_data:
            return set()
        leg = max(self.cluster.leg, self._newest)
        return {
            member.address
            for member in self.cluster.of_role(Role.DATASERVER)
            if self._drained.get(member.address, -1) < leg
        }

    def applied(self, batch: Minibatch) -> None:
        """Finish the portion if this was its last minibatch."""
        lease = self._ring.applied(batch)
        if lease is None:
            return
        self._wants_data = True
        done = Done(lease.portion.leg, lease.portion.portion, dict(lease.measures))
        if lease.source in self.data_servers():
            self.ask(lease.source, done)
        else:
            self._tell_another(done)

    def _tell_another(self, done: Done) -> None:
        """The data server that a portion came from is gone: lest it be done again, or at least
        unnoticed, another one is told."""
        servers = self.data_servers()
        if servers:
            self.ask(servers[0], replace(done, orphan=True))

    def lost(self, member: Member, request: Open) -> None:
        super().lost(member, request)
        if isinstance(request.message, Done):
            self._tell_another(request.message)
