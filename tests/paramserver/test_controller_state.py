"""The controller's decisions, one message at a time."""

from typing import Any

import pytest
from desk import DATA, FACTS, LAYOUT, ONE, SERVER, TWO, Desk

from dualshard.common.delivery import Send, routing_id
from dualshard.common.job import Job
from dualshard.common.messages import (
    Ack,
    AskStatus,
    DataFacts,
    Describe,
    Envelope,
    Evaluate,
    Form,
    Heartbeat,
    Join,
    Leave,
    Message,
    Progress,
    Refused,
    Serve,
    Status,
    Stop,
    View,
    Welcome,
)
from dualshard.common.node import Exit, Failed
from dualshard.common.transport.contract import Seen


def test_a_join_is_welcomed_with_rank_job_and_lease() -> None:
    desk = Desk(job={"lease": "3s"})
    welcome = desk.join(TWO, "worker", 1)
    assert isinstance(welcome, Welcome)
    assert (welcome.rank, welcome.lease) == (1, 3.0)
    assert Job.from_dict(welcome.job) == desk.controller.job
    assert set(desk.sent(View)) == {routing_id(TWO)}
    assert desk.phase == "joining"


@pytest.mark.parametrize(
    ("role", "code", "detail"),
    [
        ("chef", "role", "there is no role 'chef'"),
        ("controller", "role", "there is no role 'controller'"),
    ],
)
def test_a_role_that_there_is_not_is_refused(role: str, code: str, detail: str) -> None:
    assert Desk().join(77, role) == Refused(code, detail)


def test_training_begins_when_data_models_and_shards_are_ready() -> None:
    desk = Desk()
    desk.prepare()
    assert desk.phase == "training"
    assert desk.sent(Serve) == {routing_id(DATA): Serve(0, 0, 0, [0, 1, 2, 3, 4, 5], 100)}
    views = desk.sent(View)
    assert set(views) == {routing_id(source) for source in (SERVER, DATA, ONE, TWO)}
    assert len({view.number for view in views.values()}) == 1  # type: ignore[attr-defined]


def test_data_servers_that_disagree_end_the_job() -> None:
    desk = Desk(dataserver={"count": 2})
    desk.join(DATA, "dataserver")
    desk.join(DATA + 1, "dataserver")
    desk.say(DATA, FACTS)
    desk.say(DATA + 1, DataFacts(99, 20, 10, [8, 8], 17))
    assert (desk.phase, desk.controller.cluster.status) == ("stopped", 2)
    assert desk.controller.cluster.reason.startswith("the data servers hold different data: ")
    assert desk.controller.cluster.reason.endswith("; give each the same data.source")


@pytest.mark.parametrize(
    ("layout", "difference"),
    [
        (
            [["weight", True, False, 64, 9], ["bias", False, False, 9]],
            "parameter weight [64, 9], the first worker's is weight [64, 10]",
        ),
        ([["weight", True, False, 64, 10]], "1 parameters, the first worker's has 2"),
    ],
)
def test_workers_that_build_another_model_end_the_job(
    layout: list[list[Any]], difference: str
) -> None:
    desk = Desk()
    desk.join(SERVER, "paramserver")
    desk.join(DATA, "dataserver")
    desk.join(ONE, "worker")
    desk.join(TWO, "worker")
    desk.say(ONE, Describe(LAYOUT))
    reason = (
        f"worker-1 built another model: {difference}; give all the same model.ref and model.args"
    )
    assert desk.say(TWO, Describe(layout)) == Refused("layout", reason)
    assert (desk.controller.cluster.status, desk.controller.cluster.reason) == (2, reason)


def test_a_malformed_layout_is_refused_and_harms_nobody() -> None:
    desk = Desk()
    desk.join(ONE, "worker")
    refused = desk.say(ONE, Describe([["weight", True, False, 0]]))
    assert refused == Refused("layout", "malformed layout: a parameter with an empty dimension")
    assert desk.phase == "joining"


def test_a_stranger_is_refused() -> None:
    desk = Desk()
    refused = desk.say(99, Heartbeat(0, "training", {}))
    assert refused == Refused("unknown", "its lease of 5 s had run out, or it never joined")
    assert desk.say(99, Describe(LAYOUT)) == Refused("unknown", "this worker is not a member")


def test_a_heartbeat_brings_the_newest_view_to_who_has_an_old_one() -> None:
    desk = Desk()
    desk.join(ONE, "worker")
    number = desk.controller.cluster.number
    view = desk.say(ONE, Heartbeat(number - 1, "joining", {}))
    assert isinstance(view, View)
    assert view.number == number
    assert isinstance(desk.say(ONE, Heartbeat(number, "joining", {})), Ack)


def test_a_member_that_has_changed_its_key_is_shown_to_all_with_the_new_one() -> None:
    desk = Desk()
    keys = {routing_id(who): Seen("", f"key of {who}") for who in (SERVER, DATA, ONE, TWO)}
    desk.controller.seen = keys.__getitem__
    desk.prepare()
    number = desk.controller.cluster.number
    desk.say(ONE, Heartbeat(number, "training", {}))
    assert desk.controller.cluster.number == number
    keys[routing_id(ONE)] = Seen("", "a fresh key")
    desk.say(ONE, Heartbeat(number, "training", {}))
    view = desk.sent(View)[routing_id(SERVER)]
    assert isinstance(view, View)
    assert view.number == number + 1
    shown = {member[2]: member[6] for member in view.members}
    assert shown == {**{who: f"key of {who}" for who in (SERVER, DATA, TWO)}, ONE: "a fresh key"}


OTHER_LAYOUT = [["weight", True, False, 64, 9], ["bias", False, False, 9]]


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (Leave(2, "bad input"), "bad input"),
        (
            Describe(OTHER_LAYOUT),
            "worker-0 built another model: parameter weight [64, 9], the first worker's is weight "
            "[64, 10]; give all the same model.ref and model.args",
        ),
    ],
)
@pytest.mark.parametrize("keyed", [True, False])
def test_with_keys_no_worker_ends_a_training_that_runs(
    harm: Message, why: str, keyed: bool
) -> None:
    """Its key may be stolen. Without keys its word is believed, and the job ends."""
    desk = Desk()
    if keyed:
        desk.controller.seen = lambda peer: Seen("", "a key")
    desk.prepare()
    desk.say(ONE, harm)
    if keyed:
        assert desk.phase == "training"
        assert desk.events()[-1] == f"lost worker-0 on host (pid 31): {why}"
        refused = desk.say(ONE, Heartbeat(99, "training", {}))
        assert isinstance(refused, Refused)
        desk.say(TWO, harm)
    assert desk.phase == "stopped"
    assert desk.controller.cluster.status == (1 if keyed else 2)


def test_with_keys_a_worker_that_will_not_measure_is_put_out_and_another_asked() -> None:
    desk = Desk()
    desk.controller.seen = lambda peer: Seen("", "a key")
    desk.prepare()
    desk.controller._evaluate()
    (asked,) = [one for one in desk.controller.take() if isinstance(one, Send)]
    assert asked.peer == routing_id(ONE)
    refusal = Envelope(ONE, Form.REPLY, asked.envelope.sequence, 0, Refused("no", "I will not"))
    desk.actions = desk.controller.receive(asked.peer, refusal, desk.now)
    assert list(desk.sent(Evaluate)) == [routing_id(TWO)]
    assert desk.phase == "training"
    assert desk.events()[-1] == (
        "lost worker-0 on host (pid 31): the evaluation failed: I will not"
    )


def test_nobody_joins_at_the_address_of_a_member_with_another_key() -> None:
    desk = Desk()
    keys = {routing_id(SERVER): Seen("", "the server's"), routing_id(ONE): Seen("", "a thief's")}
    desk.controller.seen = keys.__getitem__
    desk.join(SERVER, "paramserver")
    refused = desk.say(ONE, Join("worker", -1, f"tcp://there:{SERVER}", "host", 1, {}))
    assert refused == Refused("full", "its address is that of paramserver-0, whose key is another")


def test_silence_longer_than_the_lease_is_a_loss() -> None:
    desk = Desk()
    desk.prepare()
    desk.wait(3.0)
    for source in (SERVER, DATA, TWO):
        desk.say(source, Heartbeat(99, "", {}))
    desk.wait(2.5)
    assert [seat.member.name for seat in desk.controller.roster.seats.values()] == [
        "paramserver-0",
        "dataserver-0",
        "worker-1",
    ]
    event = desk.controller.board.events[-1]["text"]
    assert event == "lost worker-0 on host (pid 31): nothing heard for 5.5 s"
    assert desk.phase == "training"


def test_an_epoch_ends_with_its_last_portion_and_the_next_begins() -> None:
    desk = Desk(job={"epochs": 2})
    desk.prepare()
    desk.say(DATA, Progress(0, 6, 0, [ONE], [0, 1, 2, 3, 4], [], {"samples": 90.0}))
    assert desk.controller.cluster.leg == 0
    desk.say(DATA, Progress(0, 6, 0, [], [5], [], {"samples": 10.0}))
    assert desk.controller.cluster.leg == 1
    assert desk.sent(Serve) == {routing_id(DATA): Serve(1, 1, 0, [0, 1, 2, 3, 4, 5], 100)}
    assert desk.sent(Evaluate) == {routing_id(ONE): Evaluate(1)}
    desk.say(DATA, Progress(0, 6, 0, [], [5], [], {"samples": 10.0}))
    assert desk.controller.ledger is not None
    assert desk.controller.ledger.done == set(), "a late report of the epoch before is ignored"
    desk.say(DATA, Progress(1, 6, 0, [], [0, 1, 2, 3, 4, 5], [], {"samples": 100.0}))
    assert desk.phase == "finishing"
    assert [row["samples"] for row in desk.controller.board.epochs] == [100, 100]


def test_a_role_with_bad_input_ends_the_job_with_its_words() -> None:
    desk = Desk()
    desk.prepare()
    desk.say(DATA, Leave(2, "data.source = x: expected y; z"))
    cluster = desk.controller.cluster
    assert (cluster.phase, cluster.status) == ("stopped", 2)
    assert cluster.reason == "data.source = x: expected y; z"


def test_it_exits_when_all_have_said_goodbye() -> None:
    desk = Desk()
    desk.prepare()
    assert isinstance(desk.say(999, Stop(0, "")), Ack)
    assert desk.phase == "stopped"
    for source in (SERVER, DATA, ONE):
        desk.say(source, Leave(0, ""))
        assert desk.exit() is None
    desk.say(TWO, Leave(0, ""))
    assert desk.exit() == Exit(0, "")


def test_it_does_not_wait_for_ever_for_goodbyes() -> None:
    desk = Desk()
    desk.prepare()
    desk.say(999, Stop(3, "because"))
    desk.wait(2.0)
    assert desk.exit() is None
    desk.wait(1.5)
    assert desk.exit() == Exit(3, "because")


def test_nobody_joins_a_job_that_is_over() -> None:
    desk = Desk()
    desk.prepare()
    desk.say(999, Stop(0, ""))
    assert desk.join(33, "worker") == Refused("over", "the job is over")


def test_its_own_failure_stops_the_job() -> None:
    desk = Desk()
    desk.prepare()
    desk.actions = desk.controller.local(Failed(130, "stopped by SIGINT"), desk.now)
    views = desk.sent(View)
    assert len(views) == 4
    assert {(view.phase, view.status, view.reason) for view in views.values()} == {  # type: ignore[attr-defined]
        ("stopped", 130, "stopped by SIGINT")
    }


def test_the_status_is_plain_and_complete() -> None:
    desk = Desk()
    desk.join(SERVER, "paramserver")
    status = desk.say(999, AskStatus())
    assert isinstance(status, Status)
    report = status.report
    assert report["phase"] == "joining"
    assert report["missing"] == ["dataserver-0", "worker-0", "worker-1"]
    assert [role["name"] for role in report["roles"]] == ["paramserver-0"]
    assert report["address"] == "here:1"
    assert report["last_epoch"] == {}
