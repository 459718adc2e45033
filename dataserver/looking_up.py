"""A data server's end of those who see no inputs: which samples make a portion, and their labels.

Pure. Whoever trains an upper part of a cut net asks for the portions that the bottom part of its
replica fetches, of this server or another. Answers depend on the order of the epoch alone, whatever
leg is served, and are looked up anew for a request that comes again.
"""

from ..common.delivery import Courier, Peer
from ..common.job import Job
from ..common.messages import AskSamples, DataFacts, Envelope, Samples
from .events import Credit, LookedUp, LookUp
from .reporting import Reporting


class LookingUp(Reporting):
    """Tells which samples make a portion."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self._job = Job()
        self._facts: DataFacts | None = None  # once the data is open
        self._early: list[Credit] = []
        self._wondering: dict[LookUp, list[Credit]] = {}
        self.requests[AskSamples] = self._on_ask_samples

    def opened(self, facts: DataFacts) -> None:
        """The data is open: what was asked before can be answered."""
        self._facts = facts
        early, self._early = self._early, []
        for credit in early:
            self._look_up(credit)

    def _on_ask_samples(self, peer: Peer, envelope: Envelope) -> None:
        if self._facts is None:
            self._early.append(Credit(peer, envelope))
        else:
            self._look_up(Credit(peer, envelope))

    def _look_up(self, credit: Credit) -> None:
        """Have the answer looked up, once for all who wait for the same."""
        asked = credit.envelope.message
        assert isinstance(asked, AskSamples)
        if wrong := self._nowhere(asked):
            self.refuse(credit.peer, credit.envelope, "portion", wrong)
            return
        wanted = LookUp(asked.epoch, asked.begin, asked.labels)
        if wanted not in self._wondering:
            self.do(wanted)
        self._wondering.setdefault(wanted, []).append(credit)

    def _nowhere(self, asked: AskSamples) -> str:
        """What is wrong with where a portion is to begin, in words; empty: nothing."""
        assert self._facts is not None
        epochs, samples = self._job.job.epochs, self._facts.samples
        if not 0 <= asked.epoch < epochs:
            return f"there is no epoch {asked.epoch}, expected one of 0 to {epochs - 1}"
        if not 0 <= asked.begin < samples:
            return (
                f"no portion begins at position {asked.begin}, "
                f"expected one of 0 to {samples - 1}, the order of an epoch"
            )
        return ""

    def looked_up(self, event: LookedUp) -> None:
        """An answer is here, for all who wait for it."""
        for credit in self._wondering.pop(event.wanted, []):
            self.counters["looked_up"] += 1
            reply = Samples(event.indices, event.labels)
            self.answer(credit.peer, credit.envelope, reply, remember=False)

    def repeated(self, peer: Peer, envelope: Envelope) -> None:
        """A question came again: its answer was lost, unless it is still to be given."""
        if not isinstance(envelope.message, AskSamples):
            return
        credit = Credit(peer, envelope)
        waiting = [*self._early, *(one for some in self._wondering.values() for one in some)]
        if credit.key not in {one.key for one in waiting}:
            self._look_up(credit)
