"""Pushes at a parameter server: checked, taken, and answered when the mode lets their senders go
on. Pure.

Who may go on is the business of `consistency`, what a push does to a shard that of `updates`; here
stand the messages: what is refused, what waits, and in which form fresh values are sent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..common import modes
from ..common.delivery import Courier, Peer
from ..common.job import Job
from ..common.messages import (
    Accuse,
    Ack,
    Envelope,
    Form,
    Message,
    Pull,
    Push,
    Pushed,
    Rest,
    Shard,
    Start,
    WrongOwner,
)
from ..common.types import Array, Float32
from ..common.wire import take_over
from .consistency import Verdict, Who
from .pacing import Pacing
from .pushes import Lanes, Suspects, Ticket, Tickets, check_values, decoded, encoded
from .saving import Saving
from .store import BadPush, ShardPush
from .updates import Part


class Pushing(Saving):
    """Takes pushes for the shards that this server owns.

    Arguments:
        lanes: memory shared with workers of this host, or None to share none.
    """

    def __init__(self, courier: Courier, *, lanes: Lanes | None = None, **session: object) -> None:
        super().__init__(courier, **session)
        self.counters: Counter[str] = Counter()
        self._lanes = lanes
        self._owned: set[int] = set()
        self._tickets = Tickets()
        self._suspects = Suspects(1)
        self._pacing: Pacing | None = None
        self.requests |= {Push: self._on_push, Rest: self._on_rest}
        self.replies[Accuse] = lambda request, reply: None

    def configure(self, job: Job) -> None:
        """The job has come with the welcome."""
        self._suspects = Suspects(job.train.nonfinite_limit)
        self._pacing = Pacing(modes.n_push(job)) if modes.paced(job) else None

    def _ours(self, peer: Peer, envelope: Envelope, *shards: int, started: bool = True) -> bool:
        """Whether a request for shards can be served here and now; says so if not."""
        message = envelope.message
        assert isinstance(message, Start | Pull | Push)
        known = self.store.shards.keys() if self.store is not None else ()
        if (
            message.table_epoch == self.cluster.table.epoch
            and self._owned.issuperset(shards)
            and (not started or all(shard in known for shard in shards))
        ):
            return True
        self.counters["wrong_owner"] += 1
        self.answer(peer, envelope, WrongOwner(self.cluster.table.epoch))
        return False

    def _on_push(self, peer: Peer, envelope: Envelope) -> None:
        push = envelope.message
        assert isinstance(push, Push)
        who = (envelope.source, push.lane)
        try:
            self._check_form(push)
            if not self._ours(peer, envelope, *push.shards):
                return
            assert self.store is not None
            if who not in self.store.crowd:  # its view is ahead, or it was put out
                self.counters["wrong_owner"] += 1
                self.answer(peer, envelope, WrongOwner(self.cluster.table.epoch))
                return
        except BadPush as bad:
            self._refuse_push(peer, envelope, bad)
            return
        ticket = Ticket(peer, envelope, push, who, set(push.shards))
        try:
            pushes = self._checked(ticket)
        except BadPush as bad:
            if bad.code == "turn":
                self._refuse_push(peer, envelope, bad)
                return
            ticket.bad, pushes = bad, []
        self._take(ticket, pushes)

    def _check_form(self, push: Push) -> None:
        """Raises `BadPush` for a list of shards that is none, or another mode's lane."""
        one = len(push.shards) == len(push.versions) and len(set(push.shards)) == len(push.shards)
        if not one or not push.shards or (len(push.shards) > 1 and not push.shared):
            shown = f"{len(push.shards)} shards and {len(push.versions)} versions"
            raise BadPush("shape", f"a push names each of its shards once, not {shown}")
        if push.fetch:
            check_values(push.fetch)
        lanes = modes.participants(self._job)
        if not 0 <= push.lane < lanes:
            raise BadPush(
                "lane", f"a worker has lanes 0 to {lanes - 1}, the push is of {push.lane}"
            )

    def _checked(self, ticket: Ticket) -> list[ShardPush]:
        """What is pushed of each shard. Raises `BadPush` if one of them must not be applied."""
        assert self.store is not None
        push, absorbs = ticket.push, self._absorbs(ticket.push)
        pushes = []
        for shard, version in zip(push.shards, push.versions, strict=True):
            gradient = self._gradient(ticket.who[0], push, shard)
            # What was received is ours to keep: then the next values need no memory of their own,
            # and no copy to be sent.
            taken = take_over(gradient) if absorbs else None
            part = Part(gradient if taken is None else taken, push.count, taken is not None)
            pushes.append(ShardPush(shard, version, part, self._room(ticket, shard)))
            self.store.check(ticket.who, pushes[-1])
        return pushes

    def _gradient(self, source: int, push: Push, shard: int) -> Float32:
        """A pushed gradient, from the message or from the worker's segment."""
        assert self._shards is not None
        begin, end = self._shards.span(shard)
        if not push.shared:
            assert self.store is not None
            return decoded(push, end - begin, self.store.shards[shard].segments)
        shared = self._lanes.gradient(source, push.lane, begin, end) if self._lanes else None
        if shared is None:
            raise BadPush("lane", f"lane {push.lane} of the sender is not attached")
        return shared

    def _take(self, ticket: Ticket, pushes: list[ShardPush]) -> None:
        """Apply a sound push, or keep it for its step; of a bad one there is nothing to apply."""
        assert self.store is not None
        push, who = ticket.push, ticket.who
        self._tickets.add(ticket)
        turned = self._wake(who, push.leg)
        if self._pacing is not None:
            self._pacing.note(who, push.pace)
        if ticket.bad:
            for shard, version in zip(push.shards, push.versions, strict=True):
                self.store.abstain(shard, who, version)
        else:
            self._apply(ticket, pushes)
        if turned:
            self._settle_all()
        else:
            for shard in push.shards:
                self._settle(shard)

    def _apply(self, ticket: Ticket, pushes: list[ShardPush]) -> None:
        assert self.store is not None
        for push, outcome in zip(pushes, self.store.push(ticket.who, pushes), strict=True):
            shard, late = push.shard, outcome.verdict is Verdict.LATE
            if not outcome.finite:
                detail = f"the push of shard {shard} holds NaN or infinity"
                ticket.bad = ticket.bad or BadPush("nonfinite", detail)
                ticket.spoilt.append(shard)
                continue
            ticket.staleness[shard] = -1 if late else outcome.staleness
            if push.copy_to is not None:
                ticket.delivered.add(shard)
            elif outcome.values is not None:
                ticket.values[shard] = outcome.values
            self.counters["late" if late else "pushes"] += 1
            self.counters["staleness"] += 0 if late else outcome.staleness
        sound = [push.shard for push in pushes if push.shard not in ticket.spoilt]
        self._suspects.cleared(ticket.who[0], sound)

    def _wake(self, who: Who, leg: int) -> bool:
        """A participant takes part in `leg`; whether that is a new one."""
        assert self.store is not None
        if who not in self.store.crowd:
            return False
        turned = self.store.crowd.turn(min(leg, self.cluster.leg + 1))
        if self.store.crowd.wake(who):
            self.store.join([who])
        return turned

    def _settle(self, shard: int) -> None:
        """Let all go on whom a shard keeps waiting no longer."""
        assert self.store is not None
        for who in self.store.settle(shard):
            ticket = self._tickets.release(who, shard)
            if ticket is None:
                continue
            # Others may go on with this shard before the last one of the push lets its sender go.
            ticket.versions[shard] = self.store.shards[shard].version
            if ticket.push.fetch and not ticket.bad:
                self.store.released(shard, who)
                if ticket.push.shared and shard not in ticket.delivered:
                    self._deliver(ticket.envelope.source, shard)
            if not ticket.left:
                self._answer_push(ticket)

    def _settle_all(self) -> None:
        assert self.store is not None
        for shard in self.store.shards:
            self._settle(shard)

    def _answer_push(self, ticket: Ticket) -> None:
        """All shards of a push have let its sender go on."""
        if ticket.bad:
            self._refuse_push(ticket.peer, ticket.envelope, ticket.bad, ticket.spoilt)
            return
        push = ticket.push
        steps = self._pacing.steps(ticket.who) if self._pacing is not None else 0
        reply: Message
        if push.shared or not push.fetch:
            staleness = [ticket.staleness[shard] for shard in push.shards]
            reply = self._pushed(push, staleness, ticket.versions, steps)
        else:
            (shard,) = push.shards
            stale = ticket.staleness[shard]
            reply = self._fresh(shard, push.fetch, ticket.values.get(shard), stale, steps)
        self.answer(ticket.peer, ticket.envelope, reply, remember=False)

    def _pushed(
        self, push: Push, staleness: list[int], versions: Mapping[int, int], steps: int = 0
    ) -> Pushed:
        assert self.store is not None
        minibatches = self.store.shards[push.shards[0]].minibatches
        at = [versions[shard] for shard in push.shards]
        return Pushed(push.shards, at, staleness, minibatches, steps)

    def _fresh(
        self,
        shard: int,
        encoding: str,
        values: Float32 | None = None,
        staleness: int = 0,
        steps: int = 0,
    ) -> Shard:
        """A shard to send: a copy, since a live view could tear under the next push, but of values
        that will not be written again.

        Raises:
            BadPush: there is no such encoding.
        """
        assert self.store is not None
        held = self.store.shards[shard]
        if encoding == "f32" and (values is not None or held.lent):
            payload: Array = held.values if values is None else values
        else:
            payload = encoded(encoding, held.values if values is None else values)
        late = staleness < 0
        stale = max(staleness, 0)
        return Shard(shard, held.version, held.minibatches, stale, late, steps, encoding, payload)

    def _absorbs(self, push: Push) -> bool:
        """Whether the gradient's memory may become the shard's."""
        plain = not push.shared and push.encoding == "f32"
        return plain and not modes.closes_steps(self._job) and self._job.train.mode != "easgd"

    def _room(self, ticket: Ticket, shard: int) -> Float32 | None:
        """Where a sender that shares memory wants its fresh values, if they are there at once."""
        push = ticket.push
        if not push.shared or not push.fetch or modes.waits(self._job) or self._lanes is None:
            return None
        assert self._shards is not None
        return self._lanes.parameters(ticket.who[0], *self._shards.span(shard))

    def _deliver(self, source: int, shard: int) -> None:
        """Write a shard into the memory that a worker shares."""
        assert self.store is not None
        assert self._lanes is not None
        assert self._shards is not None
        room = self._lanes.parameters(source, *self._shards.span(shard))
        if room is not None:
            np.copyto(room, self.store.shards[shard].values)

    def repeated(self, peer: Peer, envelope: Envelope) -> None:
        """A repeat of what was answered gets fresh values; it is not applied again. One that is
        still waited for says nothing new."""
        message = envelope.message
        if envelope.form is not Form.REQUEST or self._tickets.holds(envelope):
            return
        try:
            reply = self._again(envelope.source, message)
        except BadPush:
            return  # not what was answered before: whoever sent this keeps no order
        if reply is not None:
            self.counters["repeats"] += 1
            self.answer(peer, envelope, reply, remember=False)

    def _again(self, source: int, message: Message) -> Message | None:
        """The answer to a pull or push that was answered before; None for what is neither, or is
        of shards that are not here. Raises `BadPush` as at first."""
        known = self.store.shards if self.store is not None else {}
        if isinstance(message, Pull):
            here = message.shard in known
            return self._fresh(message.shard, message.encoding) if here else None
        if not isinstance(message, Push) or not all(shard in known for shard in message.shards):
            return None
        self._check_form(message)
        assert self.store is not None
        if message.fetch and not message.shared:
            (shard,) = message.shards
            return self._fresh(shard, message.fetch, self.store.again(shard, message.gradient))
        # Between two exchanges a worker that steps by itself may be far from what it was sent.
        if message.fetch and not modes.rounds(self._job):
            for shard in message.shards:
                self._deliver(source, shard)
        versions = {shard: known[shard].version for shard in message.shards}
        return self._pushed(message, [0] * len(message.shards), versions)

    def _on_rest(self, peer: Peer, envelope: Envelope) -> None:
        rest = envelope.message
        assert isinstance(rest, Rest)
        self.answer(peer, envelope, Ack())
        if self.store is not None:
            self.store.crowd.rest((envelope.source, rest.lane), rest.leg)
            self._settle_all()

    # Bad pushes.

    def _refuse_push(
        self, peer: Peer, envelope: Envelope, bad: BadPush, spoilt: Sequence[int] = ()
    ) -> None:
        """Say so to the sender, and where the job wants it, to the controller: `spoilt` are the
        shards that hold NaN or infinity."""
        member = self.cluster.member(envelope.source)
        who = member.name if member else f"{envelope.source:016x}"
        self.counters[f"refused:{bad.code}:{who}"] += 1
        if self.counters[f"refused:{bad.code}:{who}"] == 1:
            self.note("warning", f"refused a push of {who}: {bad}")
        self.refuse(peer, envelope, bad.code, f"{self.role}-{self.rank}: {bad}")
        train = self._job.train
        if self._suspects.accused(envelope.source, spoilt) and train.nonfinite != "skip":
            self.tell(Accuse(envelope.source, train.nonfinite_limit))
