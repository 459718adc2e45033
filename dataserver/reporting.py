"""What a data server tells the controller of its share of a leg: one report at a time. Pure."""

from collections import Counter
from collections.abc import Mapping

from ..common.delivery import Courier, Open
from ..common.messages import DataFacts, Message, Progress
from ..common.session import Session


class Reporting(Session):
    """Gathers what has happened since the last report, and sends the newest state."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)  # type: ignore[arg-type]
        self.counters: Counter[str] = Counter()
        self._done: list[int] = []
        self._measures: Counter[str] = Counter()
        self._reissued: list[int] = []
        self._samples_reissued = 0
        self._skipped: list[str] = []
        self._reporting = False
        self._changed = False
        self.replies |= {DataFacts: lambda request, reply: None, Progress: self._on_reported}

    # What the state fills in.

    def standing(self) -> tuple[int, int, int, list[int]]:
        """The leg, -1 before the first; portions given to serve in it; those not handed out yet;
        and the workers that hold some, by incarnation."""
        return -1, 0, 0, []

    # What it uses.

    def note_done(self, portion: int) -> None:
        """A portion is done."""
        self._done.append(portion)

    def note_measures(self, measures: Mapping[str, float]) -> None:
        """Add to the leg's sums."""
        self._measures.update(measures)

    def note_reissued(self, portions: list[int], samples: int) -> None:
        """Portions of so many samples are handed out once more: some may have been trained on."""
        self._reissued += portions
        self._samples_reissued += samples
        self.counters["reissued"] += len(portions)

    def note_skipped(self, names: list[str]) -> None:
        """Damaged samples are left out; each is named once."""
        for name in names:
            self.note("warning", f"a damaged sample is left out: {name}")
        if names:
            self.counters["corrupt_skipped"] += len(names)
            self._skipped += names
            self.report_progress()

    def forget_noted(self) -> None:
        """Another leg begins: what was not reported of the old one is of no use."""
        self._done, self._measures = [], Counter()
        self._reissued, self._samples_reissued = [], 0

    def report_progress(self) -> None:
        """Tell the controller, now or once it has taken note of the last report."""
        leg, given, left, busy = self.standing()
        self._changed = True
        if self._reporting or leg < 0:
            return
        self._reporting, self._changed = True, False
        progress = Progress(
            leg,
            given,
            left,
            busy,
            self._done,
            self._reissued,
            dict(self._measures),
            self._samples_reissued,
            self._skipped,
        )
        self.tell(progress)
        self._skipped = []
        self.forget_noted()

    def _on_reported(self, request: Open, reply: Message) -> None:
        self._reporting = False
        if self._changed:
            self.report_progress()
