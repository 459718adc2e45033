"""A parameter server is killed: without copies its shards are gone, and the job says so."""

from pathlib import Path

from simulation import Simulation, make_job, one_hot


def test_the_job_ends_and_everyone_knows_why(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300)))
    sim.run_until(lambda: sim.pushes() > 20)
    sim.kill("paramserver-1")
    killed_at = sim.clock.now()
    sim.run()
    sim.check(statuses=1, leases=False)
    expected = (
        "lost paramserver-1 on memory (pid 101) and the shards it held: nothing heard for 5.0 s"
    )
    for name in ("controller-0", "paramserver-0", "dataserver-0", "worker-0", "worker-1"):
        assert sim.actors[name].ended.reason == expected
    assert sim.events()[-1] == f"stopping: {expected}"
    assert sim.model is None
    assert sim.clock.now() < killed_at + 8.0
