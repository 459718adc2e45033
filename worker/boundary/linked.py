"""What all boundaries share: neighbours, checks of what they send, settling, refusals. Pure.

A worker is told by the view who holds the parts below and above its own. Views reach workers at
different times: what comes from somebody who is no neighbour yet waits (`early`), what comes from a
former one is dropped and counted.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from math import inf

from ...common.delivery import Open, Peer
from ...common.errors import UserError
from ...common.job import Job
from ...common.messages import (
    Ack,
    Activations,
    AskSamples,
    Copies,
    Envelope,
    Gradients,
    Message,
    Refused,
    Samples,
    Settle,
    Settled,
    Targets,
)
from ...common.partition import has_head, parts, place
from ...common.types import Float32, Member
from .boundary import Action, Boundary, Host, Key
from .early import Early
from .encoding import Coded, Misfit, encode, need
from .knowing import Knowing
from .measures import Sums

KINDS: tuple[type[Message], ...] = (Activations, Targets, Gradients, Copies, Settle)


class Linked(Boundary):
    """A part between its neighbours.

    Arguments:
        node: the worker's state.
        rank: of the worker.
        early: what has come before the job.
    """

    def __init__(self, node: Host, job: Job, rank: int, early: Early | None = None) -> None:
        self._node, self._job, self._rank = node, job, rank
        self.part, self._parts = place(job, rank)[1], parts(job)
        self.bottom, self.top = self.part == 0, self.part == self._parts - 1
        self.requests = dict.fromkeys(KINDS, self._arrived)
        self.replies = dict.fromkeys(KINDS, lambda request, reply: None)
        self.replies[Settle] = self._on_settled
        self.counters: Counter[str] = Counter()
        self.takes: tuple[int, ...] | None = None
        self._below: Member | None = None
        self._above: Member | None = None
        self._former: set[int] = set()
        self._early = early or Early(node)
        self._knowing = Knowing(has_head(job, self.part))
        self._sums = Sums(self.part, self._parts)
        self._sent_up = 0
        self._settles: list[tuple[Peer, Envelope]] = []
        self._asked_settle = self._settled_above = False
        self._failed = False

    # What a coupling fills in.

    def from_below(self, message: Message) -> None:
        """Take what the part below sent. Raises Misfit."""
        raise _not_for(message, "above")

    def from_above(self, message: Message) -> None:
        """Take what the part above sent. Raises Misfit."""
        raise _not_for(message, "below")

    def drop_below(self) -> None:
        """What has come from below and is not learnt matters no more."""

    def new_below(self) -> None:
        """There is a new part below; what was measured for the one before is lost."""
        self._sums.take()
        self.drop_below()

    def send_again(self) -> None:
        """There is a new part above, which knows of nothing."""

    def settled_above(self) -> None:
        """The part above has nothing under way from here."""

    @abstractmethod
    def compute(self) -> Action | None:
        """As `next`."""

    def in_use(self) -> list[Key]:
        """Portions whose samples are needed."""
        return []

    # Neighbours.

    def meet(self, below: Member | None, above: Member | None) -> None:
        if _life(below) != _life(self._below):
            self._leave(self._below)
            self._below = below
            self._settles.clear()
            self.new_below()
        if _life(above) != _life(self._above):
            self._leave(self._above)
            self._above = above
            self._asked_settle = self._settled_above = False
            if above is not None:
                self.send_again()
        for member in (below, above):
            if member is not None:
                for peer, envelope in self._early.take(member.incarnation):
                    self._arrived(peer, envelope)
        self._early.viewed()

    def _leave(self, member: Member | None) -> None:
        if member is not None:
            self._former.add(member.incarnation)
            self._early.take(member.incarnation)

    def _arrived(self, peer: Peer, envelope: Envelope) -> None:
        source, message = envelope.source, envelope.message
        try:
            if source == _life(self._below):
                if isinstance(message, Settle):
                    self._settles.append((peer, envelope))
                    self.drop_below()  # it says that nothing is under way
                    return
                self.from_below(message)
            elif source == _life(self._above):
                self.from_above(message)
            elif source in self._former:
                self.counters["boundary_stale"] += 1
                self._node.refuse(peer, envelope, "stranger", "its sender is out of the view")
                return
            else:
                self._early.hold(peer, envelope)
                return
        except Misfit as misfit:
            self._refuse(peer, envelope, misfit)
            return
        self._node.answer(peer, envelope, Ack())

    def _refuse(self, peer: Peer, envelope: Envelope, misfit: Misfit) -> None:
        who = self._below if envelope.source == _life(self._below) else self._above
        assert who is not None
        self.counters[f"boundary_{misfit.code}"] += 1
        part = self.part + (-1 if who is self._below else 1)
        kind = type(envelope.message).__name__
        self._node.note("warning", f"{kind} of part {part} ({who.name}) refused: {misfit}")
        self._node.refuse(peer, envelope, misfit.code, str(misfit))

    def refused(self, request: Open, reply: Refused) -> bool:
        message = request.message
        if not isinstance(message, KINDS):
            return False
        for who, part in ((self._below, self.part - 1), (self._above, self.part + 1)):
            if who is None or who.address != request.peer:
                continue
            if reply.code == "stranger":  # we are out of the view, and will be told
                self.counters["boundary_stranger"] += 1
                continue
            number = getattr(message, "round", -1)
            what = f"{type(message).__name__} of round {number}"
            self.fail(f"part {part} ({who.name}) refused its {what}: {reply.detail}")
        return True

    def late(self) -> None:
        """An answer that nobody waits for."""
        self.counters["boundary_late"] += 1

    def fail(self, why: str, status: int = 1) -> None:
        """The worker cannot go on, and says why in one line."""
        if not self._failed:
            self._failed = True
            self._node.fail(status, f"worker-{self._rank}, part {self.part} of the net: {why}")

    def diverged(self, what: str) -> None:
        """The worker has learnt numbers that are none. So would the next one that takes the part:
        it is the settings that do not fit, and nobody waits for another."""
        ref, rate = self._job.model.ref, self._job.optimizer.lr
        fix = f"lower optimizer.lr ({rate:g}) or set optimizer.clip"
        why = f"{what} hold NaN or infinity (model.ref = {ref}); {fix}"
        self.fail(why, UserError.exit_status)

    # Sending.

    def up(self, message: Activations | Copies) -> None:
        """Send to the part above, which is there."""
        assert self._above is not None
        self._sent_up += 1
        self._settled_above = False
        self._sums.above("boundary_up", payload(message))
        self._node.ask(self._above.address, message)

    def down(self, message: Message) -> None:
        """Send to the part below, which is there."""
        assert self._below is not None
        self._node.ask(self._below.address, message)

    def coded(self, what: str, number: int, array: Float32) -> Coded | None:
        """As it travels, None if it holds NaN or infinity: then the worker fails."""
        code = encode(self._job.partition.encoding, array)
        if code.finite:
            return code
        self.diverged(f"its {what} of round {number}")
        return None

    # Computing.

    def next(self) -> Action | None:
        return None if self._failed else self.compute()

    # Samples.

    def unknown(self) -> list[AskSamples]:
        return self._knowing.ask()

    def know(self, key: Key, samples: Samples) -> None:
        try:
            self._knowing.know(key, samples, self.in_use())
        except Misfit as misfit:
            self.fail(f"a data server sent {misfit}")

    def forget_asked(self, key: Key) -> None:
        self._knowing.forget_asked(key)

    # Settling.

    @property
    def settling(self) -> bool:
        return bool(self._settles)

    def settle(self, pushed: bool) -> bool:
        if not self.idle:
            return False
        if not self.top and not self._settled_above:
            if self._above is not None and not self._asked_settle:
                self._asked_settle = True
                self._node.ask(self._above.address, Settle(), self._sent_up)
            return False
        if not pushed:
            return False
        settles, self._settles = self._settles, []
        for peer, envelope in settles:
            self._node.answer(peer, envelope, Settled(self.take_measures()))
        return True

    def _on_settled(self, request: Open, reply: Message) -> None:
        assert isinstance(reply, Settled)
        if self._above is None or request.peer != self._above.address:
            return
        self._asked_settle = False
        self._sums.add_all(reply.measures)
        if request.tag == self._sent_up:  # else there was more to learn, meanwhile
            self._settled_above = True
            self.settled_above()

    def add(self, measures: Mapping[str, float]) -> None:
        self._sums.add_all(measures)

    def take_measures(self) -> dict[str, float]:
        return self._sums.take()


def payload(message: Activations | Targets | Gradients | Copies) -> int:
    """Bytes of the arrays that a message carries."""
    extra = 0 if isinstance(message, Copies) else message.extra.nbytes
    return message.values.nbytes + extra


def check_activations(message: Activations, job: Job, takes: tuple[int, ...] | None) -> None:
    """Raise Misfit unless numbers and shape can be those of a round; values are not looked at."""
    for key in ("round", "leg", "epoch", "begin", "first", "minibatch", "piece"):
        value = getattr(message, key)
        need(value >= 0, key, value, "at least 0")
    batch = job.data.batch_size
    need(message.batch == batch, "batch", message.batch, f"{batch} (data.batch_size)")
    lowest = message.minibatch * batch
    need(message.first >= lowest, "first", message.first, f"at least {lowest}")
    need(0 <= message.dual < inf, "dual", message.dual, "a finite number, at least 0")
    pieced = job.partition.coupling == "backprop"
    pieces = job.partition.micro_batches if pieced else 1
    need(message.piece < message.pieces <= pieces, "pieces", message.pieces, f"up to {pieces}")
    most = batch if pieced else max(batch, job.admm.macro_batch)
    rows = message.shape[0] if message.shape else 0
    need(0 < rows <= most, "shape", message.shape, f"1 to {most} rows")
    if takes is not None:
        found = tuple(message.shape[1:])
        need(found == takes, "shape", message.shape, f"rows of shape {list(takes)}")


def _not_for(message: Message, side: str) -> Misfit:
    return Misfit("kind", type(message).__name__, f"what a part {side} takes")


def _life(member: Member | None) -> int:
    return -1 if member is None else member.incarnation
