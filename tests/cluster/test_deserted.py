"""The last worker, or data server, is killed: the job waits for another one, if it is told to."""

from pathlib import Path

import pytest
from simulation import Simulation, make_job, one_hot

from dualshard.common.types import Role

VACANCY = 20.0


def start(tmp_path: Path, **settings: object) -> Simulation:
    """One worker and one data server in the middle of the first epoch; in `local`, which pushes at
    its end, at the beginning."""
    done = 0 if settings.get("train__mode") == "local" else 3
    settings = {"worker__count": 1, "dataserver__count": 1, "job__vacancy": VACANCY, **settings}
    sim = Simulation(make_job(one_hot(tmp_path, 300), **settings))
    sim.run_until(
        lambda: sim.controller.ledger is not None and len(sim.controller.ledger.done) >= done
    )
    return sim


def replace(sim: Simulation, role: Role, wanted: int | None = None) -> None:
    """Kill the only one of a role, and start another once that is known."""
    sim.kill(f"{role}-0")
    sim.run_until(lambda: f"{role}-0" in sim.controller.roster.missing())
    sim.add(role, 0, life=1, wanted=wanted)
    sim.run()


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp", "local"])
@pytest.mark.parametrize("role", [Role.WORKER, Role.DATASERVER])
def test_another_one_goes_on(tmp_path: Path, role: Role, mode: str) -> None:
    sim = start(tmp_path, train__mode=mode)
    replace(sim, role)
    sim.check()
    assert [row["samples"] for row in sim.epochs()] == [300, 300]
    assert sim.model is not None
    if mode != "local":  # where the servers get means
        assert sim.model.min() >= 2.0
        assert sim.model.sum() - 600 <= 2 * 2 * 32, "what was in flight, twice at most"
    events = sim.events()
    left = next(event for event in events if event.startswith(f"there is no {role} left"))
    assert left == (
        f"there is no {role} left; the job goes on with whoever joins within 20 s: "
        f"dualshard {role} --controller 10.0.0.1:7077"
    )
    assert f"there is a {role} again" in events


@pytest.mark.parametrize("role", [Role.WORKER, Role.DATASERVER])
def test_nobody_comes(tmp_path: Path, role: Role) -> None:
    sim = start(tmp_path)
    sim.kill(f"{role}-0")
    sim.run_until(lambda: f"{role}-0" in sim.controller.roster.missing())
    lost_at = sim.clock.now()
    sim.run()
    sim.check(statuses=1, leases=False)
    reason = sim.actors["controller-0"].ended.reason
    assert reason == f"no {role} has joined within 20 s"
    assert VACANCY <= sim.clock.now() - lost_at < VACANCY + 5.0


def test_both_are_gone_at_once(tmp_path: Path) -> None:
    sim = start(tmp_path)
    for role in (Role.WORKER, Role.DATASERVER):
        sim.kill(f"{role}-0")
    sim.run_until(lambda: len(sim.controller.roster.missing()) == 2)
    for role in (Role.DATASERVER, Role.WORKER):
        sim.add(role, 0, life=1)
    sim.run()
    sim.check()
    assert [row["samples"] for row in sim.epochs()] == [300, 300]


def test_the_one_that_warms_up_is_another(tmp_path: Path) -> None:
    """Two places, one worker: it warms up alone when it dies, and another takes the other place."""
    sim = start(tmp_path, worker__count=2, worker__at_least=1, job__warm_start=40)
    assert sim.controller.cluster.active == 0
    for rank in (0, 1):
        sim.kill(f"worker-{rank}")
    sim.run_until(lambda: not sim.controller.roster.of_role(Role.WORKER))
    before = sim.controller.cluster.active
    sim.add(Role.WORKER, 1 - before, life=1, wanted=1 - before)
    sim.run_until(lambda: sim.controller.roster.of_role(Role.WORKER) != [])
    assert sim.controller.cluster.active == 1 - before
    sim.run()
    sim.check()
    assert [row["samples"] for row in sim.epochs()] == [300, 300]


def test_a_server_that_is_lost_ends_the_job_all_the_same(tmp_path: Path) -> None:
    sim = start(tmp_path, paramserver__count=1)
    sim.kill("paramserver-0")
    sim.run()
    sim.check(statuses=1, leases=False)
    assert "and the shards it held" in sim.actors["controller-0"].ended.reason
