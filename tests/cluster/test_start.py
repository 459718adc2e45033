"""How a cluster starts, and what is said when it cannot."""

from pathlib import Path

import numpy as np
import pytest
from simulation import CONTROLLER, Simulation, make_job, one_hot

from dualshard.common.messages import PROTOCOL, Envelope, Form, Join, Refused
from dualshard.common.types import Role
from dualshard.common.wire import decode, encode

ROLES = ("paramserver-0", "paramserver-1", "dataserver-0", "worker-0", "worker-1")


@pytest.mark.parametrize("missing", [("paramserver-1",), ("dataserver-0", "worker-1")])
def test_missing_roles_end_the_start_and_are_named(tmp_path: Path, missing: tuple[str]) -> None:
    job = make_job(one_hot(tmp_path, 50), job__start_timeout="7s")
    sim = Simulation(job, absent=frozenset(missing))
    sim.run()
    sim.check(statuses=1)
    assert 7.0 < sim.clock.now() < 9.0
    expected = (
        f"missing after 7 s: {', '.join(missing)}; each is to reach the controller at "
        "10.0.0.1:7077: start it with --controller 10.0.0.1:7077, or allow more time with "
        "--start-timeout"
    )
    assert {actor.ended.reason for actor in sim.actors.values()} == {expected}
    assert sim.model is None


def test_without_a_controller_each_role_says_whom_it_tried(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 50), job__start_timeout="20s")
    sim = Simulation(job, absent=frozenset({"controller-0"}))
    sim.run()
    assert sorted(sim.actors) == sorted(ROLES)
    assert 20.0 < sim.clock.now() < 20.1
    for actor in sim.actors.values():
        assert actor.ended.status == 1
        tries = actor.ended.reason.split("(")[1].split()[0]
        assert int(tries) >= 3
        assert actor.ended.reason == (
            f"the controller did not answer: tried 10.0.0.1:7077 for 20 s ({tries} tries); "
            "start it there, or give its address with --controller HOST:PORT"
        )


def test_another_protocol_version_is_refused_with_a_table(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 50)), absent=frozenset({"worker-1"}))
    stranger = sim.network.transport(4711)
    versions = {"protocol": "99", "python": "9.9.9"}
    join = Join("worker", -1, "", "elsewhere", 77, versions)
    stranger.send(CONTROLLER, encode(Envelope(4711, Form.REQUEST, 1, 1, join, protocol=99)))
    sim.run_until(lambda: bool(stranger.inbox))
    reply = decode(stranger.inbox[0][1]).message
    assert isinstance(reply, Refused)
    assert reply.code == "protocol"
    title, header, *rows = reply.detail.splitlines()
    assert title == "protocol versions differ; install the same dualshard on both"
    assert header.split() == ["this", "role", "controller"]
    table = {row.split()[0]: row.split()[1:] for row in rows}
    assert table["protocol"] == ["99", str(PROTOCOL)]
    assert table["python"][0] == "9.9.9"
    assert table["numpy"] == ["-", np.__version__]
    expected = f"refused worker on elsewhere (pid 77): it speaks protocol 99, not {PROTOCOL}"
    assert expected in sim.events()
    sim.add(Role.WORKER, 1)
    sim.run()
    sim.check()


@pytest.mark.parametrize(
    ("wanted", "detail"),
    [
        (-1, "all 2 places of role worker are taken; raise worker.count to have more"),
        (0, "all 2 places of role worker are taken; raise worker.count to have more"),
    ],
)
def test_one_worker_too_many_is_refused(tmp_path: Path, wanted: int, detail: str) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 200)))
    sim.run_until(lambda: not sim.controller.roster.missing())
    late = sim.add(Role.WORKER, 2, wanted=wanted)
    sim.run_until(lambda: not late.running)
    assert late.ended.status == 2
    assert late.ended.reason == f"the controller at 10.0.0.1:7077 refused this role: {detail}"
    del sim.actors["worker-2"]
    sim.run()
    sim.check()
    np.testing.assert_array_equal(sim.model, np.full(200, 2.0, np.float32))


@pytest.mark.parametrize("wanted", [0, 7])
def test_a_rank_that_is_not_to_be_had_is_refused(tmp_path: Path, wanted: int) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 50)), absent=frozenset({"worker-1"}))
    sim.run_until(lambda: sim.controller.roster.missing() == ["worker-1"])
    clash = sim.add(Role.WORKER, 8, wanted=wanted)
    sim.run_until(lambda: not clash.running)
    assert clash.ended.status == 2
    assert clash.ended.reason == (
        f"the controller at 10.0.0.1:7077 refused this role: worker-{wanted} is taken or not one "
        "of the 2 that the job wants"
    )
    del sim.actors["worker-8"]
    sim.add(Role.WORKER, 1, wanted=-1)
    sim.run()
    sim.check()


def test_a_role_that_dies_before_the_start_can_be_started_again(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 50)), absent=frozenset({"dataserver-0"}))
    sim.run_until(lambda: sim.controller.roster.missing() == ["dataserver-0"])
    sim.kill("paramserver-1")
    sim.run_until(lambda: "paramserver-1" in sim.controller.roster.missing())
    sim.add(Role.PARAMSERVER, 1, life=1)
    sim.add(Role.DATASERVER, 0)
    sim.run()
    sim.check()
    np.testing.assert_array_equal(sim.model, np.full(50, 2.0, np.float32))


def test_roles_may_start_before_the_controller(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 50)), absent=frozenset({"controller-0"}))
    sim.at(10.0, sim.start_controller)
    sim.run()
    sim.check()
    np.testing.assert_array_equal(sim.model, np.full(50, 2.0, np.float32))


@pytest.mark.parametrize("last", ROLES)
def test_any_role_may_come_last(tmp_path: Path, last: str) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 200)), absent=frozenset({last}))
    role, _, rank = last.partition("-")
    sim.at(5.0, lambda: sim.add(Role(role), int(rank)))
    sim.run()
    sim.check()
    np.testing.assert_array_equal(sim.model, np.full(200, 2.0, np.float32))
    assert [server.report()["shards"] for server in sim.servers()] == [2, 2]


def test_training_waits_for_data_that_opens_slowly(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 200), dataserver__count=2))
    sim.opening["dataserver-1"] = 3.0
    sim.run_until(lambda: sim.clock.now() > 2.9)
    assert sim.controller.cluster.phase == "preparing"
    assert sim.pushes() == 0
    sim.run()
    sim.check()
    np.testing.assert_array_equal(sim.model, np.full(200, 2.0, np.float32))
    assert sim.clock.now() < 4.0


def test_both_parameter_servers_may_come_last(tmp_path: Path) -> None:
    servers = frozenset({"paramserver-0", "paramserver-1"})
    sim = Simulation(make_job(one_hot(tmp_path, 200)), absent=servers)
    for rank in range(2):
        sim.at(5.0 + rank, lambda rank=rank: sim.add(Role.PARAMSERVER, rank))
    sim.run()
    sim.check()
    assert [server.report()["shards"] for server in sim.servers()] == [2, 2]


@pytest.mark.parametrize("wanted", [-1, 0])
def test_whoever_is_started_in_the_stead_of_a_dead_role_waits_for_its_lease(
    tmp_path: Path, wanted: int
) -> None:
    """The place counts as taken once its holder has been heard of since, and no sooner."""
    sim = Simulation(make_job(one_hot(tmp_path, 300), worker__count=2))
    sim.run_until(lambda: sim.controller.ledger is not None and len(sim.controller.ledger.done) > 2)
    sim.kill("worker-0")
    killed_at = sim.clock.now()
    fresh = sim.add(Role.WORKER, 0, life=1, wanted=wanted)
    other = sim.add(Role.WORKER, 8, wanted=1)  # whose holder is alive
    sim.run_until(lambda: not other.running)
    assert other.ended.reason == (
        "the controller at 10.0.0.1:7077 refused this role: all 2 places of role worker are taken; "
        "raise worker.count to have more"
    )
    assert sim.clock.now() - killed_at < 1.0
    del sim.actors["worker-8"]
    sim.run_until(lambda: fresh.node.rank == 0)
    assert 4.0 < sim.clock.now() - killed_at < 6.0
    sim.run()
    sim.check()
    assert [row["samples"] for row in sim.epochs()] == [300, 300]


@pytest.mark.parametrize("role", [Role.WORKER, Role.DATASERVER])
def test_the_last_one_is_followed_by_whoever_waits_at_the_door(tmp_path: Path, role: Role) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300), worker__count=1, dataserver__count=1))
    sim.run_until(lambda: sim.controller.ledger is not None and len(sim.controller.ledger.done) > 2)
    sim.kill(f"{role}-0")
    sim.add(role, 0, life=1)
    sim.run()
    sim.check()
    assert [row["samples"] for row in sim.epochs()] == [300, 300]


def test_who_waits_at_the_door_when_the_job_ends_is_told(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300), job__epochs=1, worker__count=2))
    sim.run_until(lambda: sim.controller.ledger is not None and len(sim.controller.ledger.done) > 2)
    sim.kill("worker-0")
    fresh = sim.add(Role.WORKER, 0, life=1, wanted=0)
    sim.controller.stop(0, "")
    sim.run()
    assert fresh.ended.reason.endswith("refused this role: the job is over")
