"""A data server's portions, credits and leases, one message at a time."""

from itertools import chain

import numpy as np
from serving_bench import BOSS, FACTS, ONE, TWO, Bench

from dualshard.common.job import Job
from dualshard.common.messages import (
    Ack,
    Backup,
    Done,
    Fetch,
    Portion,
    Progress,
    Refused,
    Return,
)
from dualshard.common.node import Note
from dualshard.dataserver.events import Opened, Prepare, Prepared
from dualshard.dataserver.serving import AHEAD


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
