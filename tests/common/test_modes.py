"""What a training mode means: how many minibatches are under way at once."""

import pytest

from dualshard.common.job import Job
from dualshard.common.modes import MERGE_EVERY, in_flight, merge_every


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


@pytest.mark.parametrize(
    ("mode", "threads", "asked", "every"),
    [("local", 1, 0, 1), ("local", 1, 5, 1), ("local", 2, 0, MERGE_EVERY), ("easgd", 4, 3, 3),
     ("easgd", 2, 1, 1), ("async", 2, 5, 1), ("bsp", 2, 0, 1)],
)  # fmt: skip
def test_lanes_that_step_by_themselves_together_have_copies(
    mode: str, threads: int, asked: int, every: int
) -> None:
    settings = {"threads": threads, "merge_every": asked}
    assert merge_every(Job.from_dict({"train": {"mode": mode}, "worker": settings})) == every
