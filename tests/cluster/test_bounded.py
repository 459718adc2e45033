"""Fast workers and a slow server: what waits anywhere stays under a bound that can be stated."""

from pathlib import Path

from simulation import Simulation, make_job, one_hot

from dualshard.common.gathering import AT_ONCE
from dualshard.dataserver.serving import AHEAD
from dualshard.worker.feeding import CREDITS

HEADER = 400
"""Bytes of a message beside its arrays, generously."""


def test_a_minute_with_a_slow_server_grows_nothing(tmp_path: Path) -> None:
    workers, threads = 3, 2
    job = make_job(
        one_hot(tmp_path, 300),
        worker__count=workers,
        worker__threads=threads,
        paramserver__shard_bytes=600,
        job__epochs=100,
    )
    slow = {"paramserver-0": 0.08, "paramserver-1": 0.08}
    sim = Simulation(job, compute=lambda rank: 0.0001, pace=slow, watch=True)
    sim.run_until(lambda: sim.clock.now() >= 5)
    early = {name: dict(table) for name, table in vars(sim.peaks).items()}
    sim.run_until(lambda: sim.clock.now() >= 60)
    assert sim.pushes() > 1000
    shards = sim.shards()
    assert shards == 2

    # A worker: each lane one exchange, each data server its credits and as many goodbyes to
    # portions, one evaluation, one heartbeat and one other word to the controller.
    exchange = threads * shards
    bound = exchange + 2 * CREDITS + AT_ONCE + 1 + 2
    peaks = sim.peaks
    for rank in range(workers):
        assert exchange <= peaks.open_requests[f"worker-{rank}"] <= bound
    # A server: what all workers may have open, the controller's view, and repeats of both.
    for rank in range(2):
        name = f"paramserver-{rank}"
        assert 4 <= peaks.inbox[name] <= 2 * workers * bound
        assert peaks.inbox_bytes[name] <= 2 * workers * bound * (600 + HEADER)
        assert peaks.remembered[name] <= workers * bound
    assert peaks.remembered["dataserver-0"] <= workers * bound + 2
    dataserver = sim.dataservers()[0]
    assert len(dataserver._ready) + len(dataserver._preparing) <= AHEAD
    assert dataserver.report()["leases"] <= CREDITS * workers
    # A minute is no worse than its first seconds.
    for name, table in vars(peaks).items():
        for role, peak in table.items():
            assert peak <= 1.5 * early[name][role] + 8 * (HEADER if "bytes" in name else 1), (
                name,
                role,
            )
