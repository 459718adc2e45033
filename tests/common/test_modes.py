"""What a training mode means: how many minibatches are under way at once."""

import pytest

from dualshard.common.job import Job
from dualshard.common.modes import in_flight


@pytest.mark.parametrize(
    ("workers", "threads", "wanted", "lanes"),
    [(1, 1, 0, 1), (2, 1, 0, 2), (1, 2, 0, 2), (8, 1, 0, 2), (9, 1, 0, 1), (4, 4, 0, 1),
     (1, 1, 2, 2), (16, 1, 3, 3), (2, 1, 1, 1)],
)  # fmt: skip
def test_lanes_of_a_thread(workers: int, threads: int, wanted: int, lanes: int) -> None:
    job = Job.from_dict(
        {"worker": {"count": workers, "threads": threads}, "train": {"in_flight": wanted}}
    )
    assert in_flight(job) == lanes
