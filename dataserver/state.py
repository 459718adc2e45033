"""A data server's state: events in, actions out. Pure: no socket, thread or clock.

It opens the data, serves its share of each leg, and follows the view; what passes between it and
the workers stands in `serving`.
"""

from collections import Counter

from ..common.cluster import Cluster
from ..common.delivery import Courier, Open, Peer
from ..common.job import Job
from ..common.messages import Ack, Backup, DataFacts, Envelope, Refused, Serve
from ..common.types import Role
from .ahead import leg_of
from .events import LookedUp, Opened, Prepare, Prepared
from .serving import Serving
from .shelves import Shelves


class DataServer(Serving):
    """One data server: told by the controller what to serve."""

    role = Role.DATASERVER

    def __init__(
        self, courier: Courier, *, shelves: Shelves | None = None, **session: object
    ) -> None:
        super().__init__(courier, shelves=shelves, **session)
        self.requests |= {Serve: self._on_serve, Backup: self._on_backup}

    def configure(self, job: Job) -> None:
        """The job has come with the welcome."""
        self._job = job

    def state_word(self) -> str:
        return f"{len(self._todo) + len(self._ready) + len(self._preparing)} portions left"

    def happened(self, event: object) -> None:
        if isinstance(event, Opened):
            self.opened(event.facts)
            self.tell(event.facts)
            for portion in self._tests:
                self.do(Prepare(True, 0, portion))
            self._prepare_ahead()
        if isinstance(event, LookedUp):
            self.looked_up(event)
        if isinstance(event, Prepared | LookedUp):
            self.note_skipped(event.skipped)
            self.counters |= Counter(event.counts)  # the larger of each: they only grow
        if isinstance(event, Prepared) and event.wanted.test:
            for credit in self._tests.pop(event.wanted.portion, []):
                self._send(credit, event)
        elif isinstance(event, Prepared) and self._next.came(event):
            self._prepare_ahead()
        elif isinstance(event, Prepared) and leg_of(event.wanted) == leg_of(self._serving):
            self._prepared(event.wanted.portion, event)

    def refused(self, request: Open, reply: Refused) -> None:
        """Without the controller's word on the data there is nothing to serve."""
        if isinstance(request.message, DataFacts):
            self.fail(1, f"the controller refused the data: {reply.detail}")
        else:
            super().refused(request, reply)

    # The controller's side: shares of legs.

    def _on_serve(self, peer: Peer, envelope: Envelope) -> None:
        serve = envelope.message
        assert isinstance(serve, Serve)
        self.answer(peer, envelope, Ack())
        if serve.leg < self._serving.leg:
            return
        ready = self.begin(serve) if serve.leg > self._serving.leg else []
        self._backing = False
        self._given += len(serve.portions)
        elsewhere = self._orphans_done | self._preparing
        self._todo.extend(p for p in serve.portions if p not in elsewhere)
        for event in ready:
            self._prepared(event.wanted.portion, event)
        self._prepare_ahead()
        self._serve()
        self.report_progress()

    def _on_backup(self, peer: Peer, envelope: Envelope) -> None:
        backup = envelope.message
        assert isinstance(backup, Backup)
        self.answer(peer, envelope, Ack())
        if backup.leg == self._serving.leg:
            self._backing = True
            self._serve()

    def viewed(self, old: Cluster, new: Cluster) -> None:
        present = {member.incarnation for member in new.members}
        gone = {member.incarnation for member in old.members} - present
        if not gone:
            return
        self._shelves.keep_only(present)
        self._forget_credits(gone)
        orphans = self._leases.lose(gone)
        self._todo.extendleft(reversed(orphans))
        if orphans:
            self._reissue(orphans, "were held by a worker that is gone; they are served again")
        self._prepare_ahead()
        self._serve()
        self.report_progress()
