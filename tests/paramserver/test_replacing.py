"""A part of a cut net is lost: waited for, taken again, or given up; one message at a time."""

from typing import Any

import pytest
from desk import DATA, FACTS, LAYOUT, ONE, SERVER, TWO, Desk

from dualshard.common.delivery import routing_id
from dualshard.common.messages import (
    Ack,
    Describe,
    Evaluate,
    Heartbeat,
    Leave,
    Message,
    Progress,
    Refused,
    View,
    Welcome,
)

STARTS = [0, 640]
CUT = Describe(LAYOUT, "", STARTS)
FOUR = (31, 32, 33, 34)
NEW = 41
LOST = Leave(1, "it broke")
MISSING = (
    "part 1 of replica 0 is missing; whoever takes it within 60 s goes on with it: dualshard "
    "worker --controller here:1 --rank 1"
)


def desk(workers: int = 2, **job: Any) -> Desk:
    """A controller whose job cuts the net in two."""
    settings: dict[str, dict[str, Any]] = {
        "train": {"mode": "admm"},
        "worker": {"count": workers},
        "job": {"lease": "1h", **job},
    }
    return Desk(**settings)


def training(workers: int = 2, **job: Any) -> Desk:
    """The same, with everyone at work."""
    made = desk(workers, **job)
    made.prepare(FOUR[:workers], STARTS)
    assert made.phase == "training"
    return made


def rank_of(answer: Message) -> int:
    assert isinstance(answer, Welcome)
    return answer.rank


# ---- where the net is cut


def test_everyone_is_told_where_the_parts_begin() -> None:
    made = training()
    cluster = made.controller.cluster
    assert cluster.starts == (0, 640)
    shards = cluster.shards(1024, 8)
    assert [shards.of_part(part) for part in range(2)] == [range(3), range(3, 4)]
    answer = made.say(ONE, Heartbeat(0, "idle", {}))
    assert isinstance(answer, View)
    assert answer.starts == STARTS


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        (
            [0, 320],
            "into parts from elements [0, 320] on, expected parts from elements [0, 640] on, as "
            "the first worker's",
        ),
        ([0, 320, 640], "into parts from elements [0, 320, 640] on, expected 2 parts"),
        ([], "nowhere, expected 2 parts"),
    ],
)
def test_a_worker_that_cuts_the_net_elsewhere_ends_the_job(starts: list[int], words: str) -> None:
    made = desk()
    made.join(ONE, "worker")
    made.join(TWO, "worker")
    made.say(ONE, CUT)
    reason = f"worker-1 cut the net {words}; install the same dualshard on all"
    assert made.say(TWO, Describe(LAYOUT, "", starts)) == Refused("layout", reason)
    assert (made.controller.cluster.status, made.controller.cluster.reason) == (2, reason)


def test_a_net_that_is_not_to_be_cut_is_not() -> None:
    made = Desk()
    made.join(ONE, "worker")
    reason = (
        "worker-0 cut the net into parts from elements [0, 640] on, expected a whole one; install "
        "the same dualshard on all"
    )
    assert made.say(ONE, CUT) == Refused("layout", reason)


def test_parts_that_cannot_be_are_refused_and_harm_nobody() -> None:
    made = desk()
    made.join(ONE, "worker")
    refused = made.say(ONE, Describe(LAYOUT, "", [0, 650]))
    assert refused == Refused("layout", "malformed layout: part 1 begins at element 650 of 650")
    assert made.phase == "joining"


# ---- a lost part


def test_a_lost_part_is_waited_for_and_people_are_told_how_to_start_it() -> None:
    made = training()
    made.say(TWO, LOST)
    assert made.phase == "training"
    assert made.events()[-2:] == ["lost worker-1 on host (pid 32): it broke", MISSING]
    made.wait(59.0)
    assert rank_of(made.join(NEW, "worker", 1)) == 1
    assert made.events()[-1] == "worker-1 holds part 1 of replica 0 again"
    assert isinstance(made.say(NEW, CUT), Ack)
    made.wait(600.0)
    assert made.phase == "training"


def test_without_another_replica_the_job_ends_when_nobody_comes() -> None:
    made = training()
    made.say(TWO, LOST)
    assert made.controller.wake_at() <= made.now + 60.0
    made.wait(59.9)
    assert made.phase == "training"
    made.wait(0.2)
    cluster = made.controller.cluster
    reason = "nobody took part 1 of replica 0 within 60 s, and no other replica is whole"
    assert (cluster.phase, cluster.status, cluster.reason) == ("stopped", 1, reason)


def test_when_all_workers_are_lost_all_may_come_back() -> None:
    made = training()
    made.say(TWO, LOST)
    made.say(ONE, LOST)
    assert made.phase == "training"
    assert rank_of(made.join(NEW, "worker", 1)) == 1
    assert rank_of(made.join(NEW + 1, "worker")) == 0
    made.wait(600.0)
    assert made.phase == "training"


def test_with_another_replica_the_rest_of_the_broken_one_is_put_out() -> None:
    made = training(workers=4)
    made.say(32, LOST)
    made.wait(60.1)
    assert made.phase == "training"
    why = "nobody took part 1 of replica 0 within 60 s"
    assert made.events()[-1] == f"goes on without replica 0: {why}; put out: worker-0"
    ranks = [member.rank for member in made.controller.cluster.members if member.role == "worker"]
    assert ranks == [2, 3]
    assert made.say(31, Heartbeat(0, "training", {})) == Refused("unknown", why)
    made.wait(600.0)
    assert made.phase == "training"
    made.say(33, LOST)
    made.wait(60.1)
    reason = "nobody took part 0 of replica 1 within 60 s, and no other replica is whole"
    assert made.controller.cluster.reason == reason


def test_two_broken_replicas_are_not_put_together() -> None:
    made = training(workers=4)
    made.say(32, LOST)
    made.say(33, LOST)
    made.wait(60.1)
    assert made.controller.cluster.status == 1


def test_bad_input_of_a_part_ends_the_job_at_once() -> None:
    made = training()
    made.say(TWO, Leave(2, "layer relu9: expected one of the net"))
    assert (made.phase, made.controller.cluster.status) == ("stopped", 2)


def test_a_whole_net_still_ends_with_its_last_worker() -> None:
    made = Desk()
    made.prepare()
    made.say(ONE, LOST)
    made.say(TWO, LOST)
    reason = "lost the last worker, worker-1 on host (pid 32): it broke"
    assert made.controller.cluster.reason == reason


def test_a_part_that_is_lost_before_training_begins_is_waited_for() -> None:
    made = desk()
    made.join(SERVER, "paramserver")
    made.join(DATA, "dataserver")
    made.join(ONE, "worker")
    made.join(TWO, "worker")
    assert made.phase == "preparing"
    made.say(TWO, LOST)
    assert made.events()[-1] == MISSING
    made.join(NEW, "worker", 1)
    for source, message in ((DATA, FACTS), (ONE, CUT), (NEW, CUT)):
        assert isinstance(made.say(source, message), Ack)
    assert made.phase == "preparing"


# ---- what goes on beside


def test_a_measurement_is_made_by_one_who_has_a_model() -> None:
    made = training()
    made.say(ONE, LOST)
    made.join(NEW, "worker", 0)
    assert end_of_an_epoch(made) == {routing_id(TWO)}


def test_a_measurement_of_one_who_is_lost_goes_to_another() -> None:
    made = training()
    assert end_of_an_epoch(made) == {routing_id(ONE)}
    made.say(ONE, LOST)
    assert set(made.sent(Evaluate)) == {routing_id(TWO)}


def end_of_an_epoch(made: Desk) -> set[bytes]:
    """Who is asked to measure then."""
    made.say(DATA, Progress(0, 6, 0, [], list(range(6)), [], {"samples": 100.0}))
    return set(made.sent(Evaluate))


def test_the_status_tells_who_holds_which_part() -> None:
    made = training(workers=4)
    roles = made.controller.status()["roles"]
    parts = [(role["replica"], role["part"]) for role in roles if role["role"] == "worker"]
    assert parts == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all("part" not in role for role in roles if role["role"] != "worker")
    whole = Desk()
    whole.prepare()
    assert all("part" not in role for role in whole.controller.status()["roles"])
