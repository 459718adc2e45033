"""A data server's portions, credits and leases, one message at a time."""

from itertools import chain
from typing import Any

import numpy as np

from dualshard.common.cluster import EMPTY, Cluster, make_view
from dualshard.common.delivery import Courier, Send, routing_id
from dualshard.common.job import Job
from dualshard.common.messages import (
    Ack,
    Backup,
    DataFacts,
    Done,
    Envelope,
    Fetch,
    Form,
    Message,
    Portion,
    Progress,
    Refused,
    Return,
    Serve,
    Welcome,
)
from dualshard.common.node import Action, Note
from dualshard.common.types import Member, Role
from dualshard.dataserver.events import Opened, Prepare, Prepared
from dualshard.dataserver.serving import AHEAD
from dualshard.dataserver.state import DataServer

BOSS, ONE, TWO = 1, 31, 32
CONTROLLER = "tcp://here:1"
FACTS = DataFacts(300, 20, 10, [2], 10)


class Bench:
    """A data server that has joined, its controller and its workers."""

    def __init__(self, *, opened: bool = True) -> None:
        self.state = DataServer(
            Courier(21),
            controller=CONTROLLER,
            address="tcp://there:21",
            host="host",
            pid=21,
            versions={},
        )
        self.now = 0.0
        self.actions: list[Action] = []
        self.prepared: list[Prepare] = []
        self.slow = False
        self._sequences: dict[int, int] = {}
        self.keep(self.state.start(self.now))
        self.reply_to_last(Welcome(0, {}, 5.0))
        self.view(members=[ONE, TWO])
        if opened:
            self.post(Opened(FACTS))

    def keep(self, actions: list[Action]) -> None:
        """Remember the actions, and read every portion that is wanted at once, if not `slow`."""
        self.actions += actions
        for action in actions:
            if isinstance(action, Prepare):
                self.prepared.append(action)
                if not self.slow:
                    self.read(action)

    def read(self, wanted: Prepare) -> None:
        """A portion is read; its values say of which one it is."""
        value = 1000 * wanted.leg + wanted.portion
        arrays = np.full((2, 2), value, np.float32), np.zeros(2, np.int64)
        self.post(Prepared(wanted, False, arrays, minibatches=wanted.minibatches))

    def post(self, event: object) -> None:
        self.keep(self.state.local(event, self.now))

    def reply_to_last(self, message: Message) -> None:
        asked = [a for a in self.actions if isinstance(a, Send) and a.envelope.form is Form.REQUEST]
        envelope = Envelope(BOSS, Form.REPLY, asked[-1].envelope.sequence, 0, message)
        self.keep(self.state.receive(CONTROLLER, envelope, self.now))

    def view(self, members: list[int], **changes: Any) -> None:
        """A new view in which these workers are members."""
        rows = tuple(
            Member(Role.WORKER, rank, incarnation, "", "host", incarnation)
            for rank, incarnation in enumerate(members)
        )
        number = self.state.cluster.number + 1
        values = {**vars(EMPTY), "number": number, "members": rows, "phase": "training", **changes}
        envelope = Envelope(BOSS, Form.NOTICE, 0, 0, make_view(Cluster(**values)))
        self.keep(self.state.receive(CONTROLLER, envelope, self.now))

    def say(
        self, source: int, message: Message, *, sequence: int = 0, floor: int = 0
    ) -> list[Message]:
        """A request; what was sent to its sender. With `sequence` it is a repeat."""
        number = sequence or self._sequences.get(source, 0) + 1
        self._sequences[source] = max(number, self._sequences.get(source, 0))
        before = len(self.actions)
        envelope = Envelope(source, Form.REQUEST, number, floor or 1, message)
        self.keep(self.state.receive(routing_id(source), envelope, self.now))
        return self.replies(source, before)

    def replies(self, source: int, since: int = 0) -> list[Message]:
        """What a peer has been answered."""
        sends = [a for a in self.actions[since:] if isinstance(a, Send)]
        return [s.envelope.message for s in sends if s.peer == routing_id(source)]

    def serve(self, leg: int, *portions: int, end: int = 0, begin: int = 50) -> None:
        """Leg L is the part of epoch L + 5 from position `begin` on."""
        assert self.say(BOSS, Serve(leg, leg + 5, begin, list(portions), end)) == [Ack()]

    def fetch(self, source: int) -> int | None:
        """A credit; the portion that came for it at once."""
        answers = self.say(source, Fetch(False, 0))
        assert len(answers) <= 1
        return answers[0].portion if answers else None  # type: ignore[attr-defined]

    def done(self, source: int, leg: int, portion: int, **measures: float) -> None:
        assert self.say(source, Done(leg, portion, measures)) == [Ack()]

    def reports(self) -> list[Progress]:
        """The reports to the controller, each acknowledged when it is seen."""
        found = []
        for action in list(self.actions):
            if isinstance(action, Send) and isinstance(action.envelope.message, Progress):
                found.append(action.envelope.message)
        self.actions = [
            a
            for a in self.actions
            if not (isinstance(a, Send) and isinstance(a.envelope.message, Progress))
        ]
        return found

    def acknowledge(self) -> None:
        """The controller has its last report."""
        sends = [a for a in self.actions if isinstance(a, Send)]
        sequence = [s for s in sends if isinstance(s.envelope.message, Progress)][
            -1
        ].envelope.sequence
        envelope = Envelope(BOSS, Form.REPLY, sequence, 0, Ack())
        self.keep(self.state.receive(CONTROLLER, envelope, self.now))


def test_portions_go_out_in_order_to_whoever_asks() -> None:
    bench = Bench()
    bench.serve(0, 3, 1, 2)
    assert [bench.fetch(ONE), bench.fetch(TWO), bench.fetch(ONE)] == [3, 1, 2]
    assert bench.fetch(TWO) is None
    assert bench.state.report()["leases"] == 3
    assert bench.state.report()["credits"] == 1


def test_a_credit_waits_until_there_is_something() -> None:
    bench = Bench()
    assert bench.fetch(ONE) is None
    bench.serve(0, 5)
    answer = bench.replies(ONE)[-1]
    assert isinstance(answer, Portion)
    assert (answer.leg, answer.portion, answer.epoch) == (0, 5, 5)


def test_only_a_few_are_prepared_ahead() -> None:
    bench = Bench()
    bench.serve(0, *range(20))
    assert [action.portion for action in bench.prepared] == list(range(AHEAD))
    bench.fetch(ONE)
    assert len(bench.prepared) == AHEAD + 1


def test_each_further_thread_prepares_one_more() -> None:
    bench = Bench()
    bench.state.configure(Job.from_dict({"dataserver": {"threads": 3}}))
    bench.serve(0, *range(20))
    assert len(bench.prepared) == AHEAD + 2


def test_the_next_leg_is_prepared_once_nothing_is_left_of_this_one() -> None:
    bench = Bench()
    bench.serve(0, *range(6), end=300)
    assert {action.leg for action in bench.prepared} == {0}
    for portion in range(6):
        assert bench.fetch(ONE) == portion
    early = [action for action in bench.prepared if action.leg == 1]
    assert early == [Prepare(False, 1, portion, 6, 0) for portion in range(AHEAD)]
    asked = [bench.fetch(worker) for worker in (ONE, TWO)]
    assert asked == [None, None]
    assert [action.portion for action in bench.prepared if action.leg == 1] == list(range(6))
    bench.serve(1, *range(6), begin=0)
    assert len(bench.prepared) == 12
    for source, portion in ((ONE, 0), (TWO, 1)):
        answer = bench.replies(source)[-1]
        assert isinstance(answer, Portion)
        assert (answer.leg, answer.portion, answer.inputs[0, 0]) == (1, portion, 1000 + portion)
    assert [bench.fetch(ONE) for _ in range(5)] == [2, 3, 4, 5, None]


def test_what_is_served_again_comes_before_the_next_leg() -> None:
    bench = Bench()
    bench.serve(0, 0, 1, end=300)
    assert [bench.fetch(ONE), bench.fetch(TWO)] == [0, 1]
    assert [action.leg for action in bench.prepared] == [0, 0, 1, 1]
    bench.view(members=[TWO])
    assert bench.fetch(TWO) == 0
    assert bench.state.report()["leases"] == 2


def test_a_portion_of_the_next_leg_may_be_on_its_way_when_that_begins() -> None:
    bench = Bench()
    bench.slow = True
    bench.serve(0, 0, end=300)
    now, early = bench.prepared
    bench.read(now)
    assert bench.fetch(ONE) == 0
    bench.serve(1, 0, 4, begin=0)
    assert [action.portion for action in bench.prepared[2:]] == [4]
    assert bench.fetch(ONE) is None
    bench.read(early)
    answer = bench.replies(ONE)[-1]
    assert isinstance(answer, Portion)
    assert (answer.leg, answer.portion) == (1, 0)


def test_a_leg_that_was_not_foreseen_is_prepared_anew() -> None:
    bench = Bench()
    bench.slow = True
    bench.serve(0, 0, end=300)
    _, early = bench.prepared
    bench.serve(1, 0, 1, begin=20)
    bench.read(early)
    assert bench.fetch(ONE) is None
    assert bench.prepared[2] == Prepare(False, 1, 0, 6, 20)
    bench.read(bench.prepared[2])
    answer = bench.replies(ONE)[-1]
    assert isinstance(answer, Portion)
    assert (answer.leg, answer.portion) == (1, 0)


def test_nothing_is_prepared_before_the_data_is_open() -> None:
    bench = Bench(opened=False)
    bench.serve(0, 0, 1)
    bench.say(ONE, Fetch(True, 0))
    assert bench.fetch(ONE) is None
    assert bench.prepared == []
    bench.post(Opened(FACTS))
    assert [(action.test, action.portion) for action in bench.prepared] == [
        (True, 0),
        (False, 0),
        (False, 1),
    ]
    kinds = [type(message) for message in bench.replies(ONE)]
    assert kinds == [Portion, Portion]


def test_a_repeated_credit_stands_for_the_same_portion() -> None:
    bench = Bench()
    bench.serve(0, 0, 1, 2)
    assert bench.fetch(ONE) == 0
    for _ in range(2):
        (again,) = bench.say(ONE, Fetch(False, 0), sequence=1)
        assert isinstance(again, Portion)
        assert again.portion == 0
        assert again.inputs[0, 0] == 0
    assert bench.state.report()["leases"] == 1
    assert bench.fetch(TWO) == 1
    assert bench.state.counters["resent"] == 2


def test_a_repeated_credit_that_still_waits_is_one_credit() -> None:
    bench = Bench()
    bench.fetch(ONE)
    assert bench.say(ONE, Fetch(False, 0), sequence=1) == []
    assert bench.state.report()["credits"] == 1
    bench.serve(0, 0, 1)
    assert bench.state.report()["leases"] == 1


def test_a_repeat_after_the_portion_is_done_is_ignored() -> None:
    """A copy that the network held back: the worker has long had its answer."""
    bench = Bench()
    bench.serve(0, 0, 1)
    bench.fetch(ONE)
    bench.done(ONE, 0, 0)
    assert bench.say(ONE, Fetch(False, 0), sequence=1) == []
    assert bench.state.report()["leases"] == 0


def test_a_credit_whose_leg_is_over_comes_back_empty() -> None:
    bench = Bench()
    bench.serve(0, 0)
    bench.fetch(ONE)
    bench.serve(1, 0, 1)
    (empty,) = bench.say(ONE, Fetch(False, 0), sequence=1)
    assert isinstance(empty, Portion)
    assert (empty.leg, len(empty.labels)) == (0, 0)
    assert bench.state.report()["leases"] == 0
    # Once the worker says that it has that answer, the credit is forgotten.
    bench.say(ONE, Fetch(False, 0), sequence=2, floor=2)
    assert bench.say(ONE, Fetch(False, 0), sequence=1, floor=2) == []


def test_what_a_lost_worker_held_is_served_again_first() -> None:
    bench = Bench()
    bench.serve(0, *range(8))
    assert [bench.fetch(ONE), bench.fetch(TWO), bench.fetch(ONE)] == [0, 1, 2]
    bench.view(members=[TWO])
    assert bench.state.counters["reissued"] == 2
    left = [bench.fetch(TWO) for _ in range(7)]
    assert sorted(portion for portion in left if portion is not None) == [0, 2, 3, 4, 5, 6, 7]
    bench.done(ONE, 0, 0)
    assert bench.state.counters["late"] == 1


def test_a_lost_worker_gets_nothing_more() -> None:
    """A credit of a worker that is gone may still come, after the view that puts it out."""
    bench = Bench()
    bench.fetch(ONE)
    bench.view(members=[TWO])
    assert bench.state.report()["credits"] == 0
    assert bench.fetch(ONE) is None
    bench.serve(0, 0)
    assert bench.state.report()["leases"] == 0
    assert bench.fetch(TWO) == 0


def test_a_portion_is_done_by_its_holder_alone() -> None:
    bench = Bench()
    bench.serve(0, 0, 1)
    bench.fetch(ONE)
    bench.done(TWO, 0, 0)
    bench.done(ONE, 7, 0)
    bench.done(ONE, 0, 1)
    assert bench.state.counters["late"] == 3
    assert bench.state.report()["leases"] == 1
    bench.done(ONE, 0, 0)
    assert bench.state.counters["late"] == 3
    assert bench.state.report()["leases"] == 0


def test_a_worker_that_was_thought_to_be_gone_may_have_done_its_portion() -> None:
    """Its word comes after the view that puts it out: nobody else does what it has done."""
    bench = Bench()
    bench.serve(0, 0, 1)
    assert [bench.fetch(ONE), bench.fetch(ONE)] == [0, 1]
    bench.view(members=[TWO])
    bench.done(ONE, 0, 1, samples=10.0)
    assert [bench.fetch(TWO), bench.fetch(TWO)] == [0, None]
    bench.acknowledge()
    report = bench.reports()[-1]
    assert (report.done, report.measures) == ([1], {"samples": 10.0})
    assert bench.state.counters["late"] == 1


def test_a_lost_workers_samples_are_counted_and_named() -> None:
    bench = Bench()
    bench.serve(0, 0, 24, 1)
    assert [bench.fetch(ONE) for _ in range(3)] == [0, 24, 1]
    bench.view(members=[TWO])
    bench.acknowledge()
    report = bench.reports()[-1]
    assert (report.reissued, report.samples_reissued) == ([0, 1, 24], 30)
    notes = [action.text for action in bench.actions if isinstance(action, Note)]
    assert notes[-1] == (
        "the portions at 50, 60, 290 of epoch 5 were held by a worker that is gone; "
        "they are served again"
    )


def test_a_worker_that_leaves_hands_back_minibatches() -> None:
    """Of one portion two are left, another has not been touched, the third was on its way."""
    bench = Bench()
    bench.serve(0, *range(9))
    assert [bench.fetch(ONE), bench.fetch(TWO), bench.fetch(ONE)] == [0, 1, 2]
    assert bench.fetch(ONE) == 3
    returned = Return(0, [0, 2], [[1, 3], [0, 1, 2, 3]], [{"samples": 4.0}, {}])
    assert bench.say(ONE, returned) == [Ack()]
    bench.view(members=[TWO])
    bench.acknowledge()
    report = bench.reports()[-1]
    assert (report.reissued, report.measures, report.busy) == ([], {"samples": 4.0}, [TWO])
    assert [bench.fetch(TWO) for _ in range(3)] == [4, 5, 6], "these were prepared before"
    answers = [bench.say(TWO, Fetch(False, 0))[0] for _ in range(5)]
    held = [(a.portion, a.minibatches) for a in answers if isinstance(a, Portion)]
    assert sorted(held) == [(0, [1, 3]), (2, [0, 1, 2, 3]), (3, []), (7, []), (8, [])]
    assert bench.fetch(ONE) is None, "it has said that it takes nothing more"


def test_what_is_left_of_a_portion_stays_so_when_its_next_worker_dies() -> None:
    bench = Bench()
    bench.serve(0, 0)
    assert bench.fetch(ONE) == 0
    bench.say(ONE, Return(0, [0], [[2]], [{}]))
    assert bench.fetch(TWO) == 0
    bench.view(members=[33])
    (answer,) = bench.say(33, Fetch(False, 0))
    assert isinstance(answer, Portion)
    assert answer.minibatches == [2]
    bench.acknowledge()
    assert bench.reports()[-1].samples_reissued == 10, "one minibatch of 32 is more than there is"


def test_what_one_returns_that_is_not_ones_own_changes_nothing() -> None:
    bench = Bench()
    bench.serve(0, 0, 1)
    assert bench.fetch(ONE) == 0
    bench.say(TWO, Return(0, [0, 7], [[1], [0]], [{"samples": 9.0}, {}]))
    bench.say(33, Return(4, [0], [[1]], [{"samples": 9.0}]))
    assert bench.state.report()["leases"] == 1
    bench.done(ONE, 0, 0, samples=10.0)
    bench.acknowledge()
    assert bench.reports()[-1].measures == {"samples": 10.0}


def test_backups_go_to_idle_workers_and_the_first_wins() -> None:
    bench = Bench()
    bench.serve(0, 0, 1)
    assert [bench.fetch(ONE), bench.fetch(ONE)] == [0, 1]
    assert bench.fetch(TWO) is None
    assert bench.say(BOSS, Backup(0)) == [Ack()]
    answer = bench.replies(TWO)[-1]
    assert isinstance(answer, Portion)
    assert answer.portion == 0, "the one that has been held for longest"
    assert bench.fetch(TWO) is None, "one at a time"
    assert bench.fetch(ONE) is None, "it has work"
    _, answer = bench.say(TWO, Done(0, 0, {"samples": 10.0}))
    assert isinstance(answer, Portion)
    assert answer.portion == 1, "the next one"
    bench.done(ONE, 0, 0, samples=10.0)
    bench.done(ONE, 0, 1)
    bench.acknowledge()
    bench.acknowledge()
    done = [report.done for report in bench.reports()]
    assert sorted(chain(*done)) == [0, 0, 1], "what was done twice is said twice"
    assert bench.state.report()["leases"] == 0


def test_a_backup_whose_first_holder_dies_is_nobody_elses() -> None:
    bench = Bench()
    bench.serve(0, 0)
    assert bench.fetch(ONE) == 0
    bench.fetch(TWO)
    bench.say(BOSS, Backup(0))
    bench.view(members=[TWO, 33])
    assert bench.state.counters["reissued"] == 1, "the backup itself"
    assert bench.fetch(33) == 0, "again one holder, again a backup"


def test_backups_end_when_there_is_more_to_do() -> None:
    bench = Bench()
    bench.serve(0, 0)
    assert bench.fetch(ONE) == 0
    bench.say(BOSS, Backup(0))
    bench.serve(0, 1, 2)
    assert [bench.fetch(TWO), bench.fetch(TWO), bench.fetch(TWO)] == [1, 2, None]
    bench.say(BOSS, Backup(7))
    bench.done(TWO, 0, 1)
    bench.done(TWO, 0, 2)
    assert len(bench.replies(TWO)) == 4, "two portions and two acknowledgements"


def test_reports_come_one_at_a_time_and_add_up() -> None:
    bench = Bench()
    bench.serve(0, 0, 1, 2)
    for portion in range(3):
        assert bench.fetch(ONE) == portion
        bench.done(ONE, 0, portion, samples=10.0)
    bench.acknowledge()
    first, second = bench.reports()
    assert (first.left, first.done, first.busy) == (3, [], [])
    assert (second.left, second.done, second.busy) == (0, [0, 1, 2], [])
    assert second.measures == {"samples": 30.0}


def test_a_report_names_who_still_works() -> None:
    bench = Bench()
    bench.serve(0, 0, 1, 2)
    for worker in (ONE, TWO, ONE):
        bench.fetch(worker)
    bench.acknowledge()
    assert bench.reports()[-1] == Progress(0, 3, 0, [ONE, TWO], [], [], {})


def test_a_new_leg_drops_the_old_one() -> None:
    bench = Bench()
    bench.serve(0, *range(8))
    bench.fetch(ONE)
    bench.serve(1, 6, 7)
    bench.serve(0, 3)
    bench.done(ONE, 0, 0)
    assert bench.state.counters["late"] == 1
    assert [bench.fetch(TWO), bench.fetch(TWO), bench.fetch(TWO)] == [6, 7, None]


def test_another_share_of_the_same_leg_is_added() -> None:
    bench = Bench()
    bench.serve(0, 0)
    bench.serve(0, 4)
    assert [bench.fetch(ONE), bench.fetch(ONE)] == [0, 4]


def test_test_portions_are_answered_as_often_as_asked() -> None:
    bench = Bench()
    for sequence in (1, 1, 2):
        (answer,) = bench.say(ONE, Fetch(True, 4), sequence=sequence)
        assert isinstance(answer, Portion)
        assert answer.portion == 4
    assert bench.state.report()["leases"] == 0
    refused = bench.say(ONE, Fetch(True, -1))
    assert refused == [Refused("portion", "there is no test portion -1")]


def test_what_the_cache_has_counted_is_reported_as_it_stands() -> None:
    bench = Bench()
    arrays = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
    for hits in (3, 8):
        counts = {"cache_hits": hits, "cache_misses": 4}
        bench.post(Prepared(Prepare(False, 0, 0), False, arrays, counts=counts))
    report = bench.state.report()
    assert (report["cache_hits"], report["cache_misses"]) == (8, 4)
