"""When an epoch ends, and that each portion counts once whatever happens."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualshard.common.messages import Progress
from dualshard.paramserver.controller.epochs import Ledger, Stretch, next_stretch

SIZE = 10
"""Samples of a portion."""


def ledger_of(portions: int, servers: list[int]) -> Ledger:
    """Of a leg that is a whole epoch, whose last portion is shorter."""
    samples = portions * SIZE - 3
    return Ledger(5, Stretch(2, 0, samples, samples, SIZE), servers)


def report(ledger: Ledger, server: int, **said: object) -> None:
    values = {
        "given": 1_000,
        "left": 0,
        "busy": [],
        "done": [],
        "reissued": [],
        "measures": {},
        **said,
    }
    ledger.progress(server, Progress(5, **values))  # type: ignore[arg-type]


def test_portions_are_dealt_in_turn() -> None:
    ledger = ledger_of(7, [70, 80, 90])
    assert ledger.share == {70: [0, 3, 6], 80: [1, 4], 90: [2, 5]}


def test_more_servers_than_portions() -> None:
    ledger = ledger_of(1, [70, 80])
    assert ledger.share == {70: [0], 80: []}
    report(ledger, 70, done=[0])
    assert ledger.ended([1], 1.0)


def test_a_whole_quorum_waits_for_every_portion() -> None:
    ledger = ledger_of(3, [70])
    report(ledger, 70, left=0, busy=[1], done=[0, 1])
    assert not ledger.ended([1, 2, 3, 4], 1.0)
    assert ledger.dropped == 1
    report(ledger, 70, left=0, busy=[], done=[2])
    assert ledger.ended([1, 2, 3, 4], 1.0)
    assert ledger.dropped == 0


@pytest.mark.parametrize(
    ("busy", "left", "ends"),
    [([1], 0, True), ([1, 2], 0, False), ([1], 1, False), ([], 0, False), ([99], 0, False)],
)
def test_three_of_four_idle_end_an_epoch(busy: list[int], left: int, ends: bool) -> None:
    """Adam's rule: nothing left to hand out, and 75 % of the present workers idle. When nobody is
    known to hold what is missing, it is on its way and is waited for."""
    ledger = ledger_of(3, [70])
    report(ledger, 70, left=left, busy=busy, done=[0])
    assert ledger.ended([1, 2, 3, 4], 0.75) is ends


def test_the_quorum_needs_all_servers_to_have_handed_out() -> None:
    ledger = ledger_of(4, [70, 80])
    report(ledger, 70, left=0, busy=[1], done=[0])
    assert not ledger.ended([1, 2, 3, 4], 0.75), "80 has not said anything yet"
    report(ledger, 80, left=0, busy=[1], done=[1])
    assert ledger.ended([1, 2, 3, 4], 0.75)
    assert ledger.dropped == 2


def test_what_an_heir_has_not_been_told_of_is_left() -> None:
    """Its report crosses the order to serve the portions of a server that is gone."""
    ledger = ledger_of(4, [70, 80])
    report(ledger, 70, given=2, left=0, busy=[1], done=[0])
    assert ledger.lose_server(80) == {70: [1, 3]}
    report(ledger, 70, given=2, left=0, busy=[1])
    assert not ledger.ended([1, 2, 3, 4], 0.75)
    report(ledger, 70, given=4, left=0, busy=[1], done=[1, 3])
    assert ledger.ended([1, 2, 3, 4], 0.75)
    assert ledger.dropped == 1


def test_a_lost_server_leaves_what_is_not_done_to_the_others() -> None:
    ledger = ledger_of(9, [70, 80, 90])
    report(ledger, 70, left=2, done=[3])
    assert ledger.lose_server(70) == {80: [0], 90: [6]}
    assert ledger.share == {80: [1, 4, 7, 0], 90: [2, 5, 8, 6]}
    assert ledger.measures["reissued"] == 0, "what it still had was in nobody's hands"
    assert ledger.lose_server(70) == {}
    report(ledger, 70, done=[0])
    assert ledger.done == {3}, "a server that is lost is not heard any more"


def test_what_a_lost_server_had_handed_out_may_be_done_twice() -> None:
    ledger = ledger_of(9, [70, 80])
    report(ledger, 70, left=2, busy=[1, 2], done=[0])
    ledger.lose_server(70)
    assert ledger.measures["reissued"] == 2, "of five portions one was done, two were left"
    assert ledger.measures["samples_reissued"] == 2 * SIZE


def test_the_last_server_has_no_heirs() -> None:
    ledger = ledger_of(4, [70])
    assert ledger.lose_server(70) == {}
    assert not ledger.ended([1], 1.0)


def test_a_portion_done_twice_counts_once_and_is_named() -> None:
    ledger = ledger_of(4, [70, 80])
    report(ledger, 70, done=[0])
    report(ledger, 80, done=[0, 1])
    assert ledger.done == {0, 1}
    assert ledger.repeated == [0]
    assert (ledger.measures["repeated"], ledger.measures["samples_repeated"]) == (1, SIZE)


def test_portions_that_do_not_exist_are_ignored() -> None:
    ledger = ledger_of(2, [70])
    report(ledger, 70, done=[-1, 2, 1_000_000])
    assert ledger.done == set()
    assert not ledger.ended([1], 1.0)


def test_measures_and_reissues_add_up() -> None:
    ledger = ledger_of(4, [70])
    report(
        ledger,
        70,
        left=3,
        done=[0],
        measures={"samples": 16.0, "loss": 2.5},
        reissued=[2],
        samples_reissued=10,
    )
    report(
        ledger,
        70,
        left=2,
        done=[1],
        measures={"samples": 12.0, "loss": 1.5},
        reissued=[1, 3],
        samples_reissued=17,
    )
    assert ledger.measures["samples"] == 28.0
    assert ledger.measures["loss"] == 4.0
    assert (ledger.measures["reissued"], ledger.measures["samples_reissued"]) == (3, 27)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_portion_counts_once_under_any_order_of_reports_and_losses(
    data: st.DataObject,
) -> None:
    """Servers finish what they have in any order, and are lost at any moment but for the last one:
    the epoch ends when, and only when, every portion is done, and each is in one share."""
    servers = list(range(10, 10 + data.draw(st.integers(1, 4), "servers")))
    portions = data.draw(st.integers(1, 12), "portions")
    ledger = ledger_of(portions, servers)
    has = {server: set(share) for server, share in ledger.share.items()}
    finished: set[int] = set()
    while not ledger.ended([1, 2], 1.0):
        assert ledger.done == finished
        assert ledger.dropped == portions - len(finished)
        shares = [portion for share in ledger.share.values() for portion in share]
        assert len(shares) == len(set(shares))
        assert set(shares) | finished == set(range(portions))
        server = data.draw(st.sampled_from(sorted(has)), "server")
        if len(has) > 1 and data.draw(st.booleans(), "lost"):
            for heir, more in ledger.lose_server(server).items():
                has[heir] |= set(more)
            del has[server]
        elif has[server]:
            done = data.draw(st.sets(st.sampled_from(sorted(has[server])), min_size=1), "done")
            has[server] -= done
            report(ledger, server, left=len(has[server]), done=sorted(done))
            finished |= done
    assert finished == ledger.done == set(range(portions))
    assert ledger.repeated == []


def test_it_is_time_for_backups_once_nothing_is_left_anywhere() -> None:
    ledger = ledger_of(4, [70, 80])
    report(ledger, 70, left=0, busy=[1])
    assert not ledger.back_up(), "80 has something left"
    report(ledger, 80, left=0, busy=[2])
    assert ledger.back_up()
    assert not ledger.back_up(), "said once"
    assert ledger.lose_server(80) == {70: [1, 3]}
    assert not ledger.back_up(), "an heir has them to hand out"
    report(ledger, 70, left=0, busy=[1])
    assert ledger.back_up()


@pytest.mark.parametrize(
    ("begin", "due", "workers", "stretch"),
    [
        (0, float("inf"), 2, (0, 95)),
        (0, 3.0, 2, (0, 95)),
        (0, 4.5, 2, (0, 95)),
        (0, 2.5, 1, (0, 50)),  # 47.5 samples are five portions
        (0, 2.5, 2, (0, 60)),  # as many for each worker
        (60, 3.0, 2, (60, 95)),
        (60, 2.75, 2, (60, 80)),
        (60, 2.25, 2, (60, 80)),  # past already: the shortest
        (80, 2.99, 4, (80, 95)),
    ],
)
def test_a_leg_ends_where_a_checkpoint_is_due(
    begin: int, due: float, workers: int, stretch: tuple[int, int]
) -> None:
    found = next_stretch(2, begin, 95, SIZE, due, workers)
    assert (found.begin, found.end) == stretch
    assert found.ends_epoch is (stretch[1] == 95)


@given(
    samples=st.integers(1, 500),
    size=st.integers(1, 60),
    workers=st.integers(1, 5),
    every=st.floats(0.01, 3.0),
)
def test_the_legs_of_an_epoch_hold_each_position_once(
    samples: int, size: int, workers: int, every: float
) -> None:
    begin, due, spans = 0, 2 + every, []
    while begin < samples:
        stretch = next_stretch(2, begin, samples, size, due, workers)
        spans += [stretch.span(portion) for portion in range(stretch.portions)]
        begin = stretch.end
        while due <= 2 + begin / samples + 1e-9:
            due += every
    assert spans[0][0] == 0
    assert spans[-1][1] == samples
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert all(0 < end - start <= size for start, end in spans)
