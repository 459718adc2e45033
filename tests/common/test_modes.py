"""What a training mode means: how many minibatches are under way at once, and who waits."""

import pytest

from dualshard.common import modes
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


ADMM = {"train": {"mode": "admm"}}


@pytest.mark.parametrize("coupling", ["activations", "weights", "backprop", "replicas"])
def test_in_admm_every_worker_steps_by_itself_and_only_replicas_wait_for_each_other(
    coupling: str,
) -> None:
    job = Job.from_dict(ADMM | {"partition": {"coupling": coupling}})
    together = coupling == "replicas"
    assert (modes.closes_steps(job), modes.waits(job)) == (together, together)
    assert modes.rounds(job)
    assert modes.steps_locally(job)
    assert modes.told_the_end(job)
    assert modes.in_order(job) is not together, "there is one replica"
    assert not modes.paced(job)
    assert (modes.n_push(job), modes.n_fetch(job)) == (64, 64)
    assert (modes.participants(job), modes.in_flight(job)) == (1, 1)


def test_replicas_share_vectors_among_threads_as_local_does() -> None:
    settings = {"partition": {"coupling": "replicas"}, "worker": {"threads": 2}}
    job = Job.from_dict(ADMM | settings)
    assert (modes.lanes(job), modes.participants(job)) == (2, 1)
    assert merge_every(job) == MERGE_EVERY


@pytest.mark.parametrize(("mode", "quorum"), [("admm", 0.5), ("bsp", 0.9), ("local", 0.9)])
def test_the_quorum_is_the_one_of_the_section_that_the_mode_has(mode: str, quorum: float) -> None:
    job = Job.from_dict(
        {
            "train": {"mode": mode, "quorum": 0.9},
            "admm": {"quorum": 0.5},
            "partition": {"coupling": "replicas"},
        }
    )
    assert modes.quorum(job) == quorum


@pytest.mark.parametrize(("workers", "fixed"), [(2, True), (4, False)])
def test_replicas_of_a_cut_net_take_portions_as_they_become_free(workers: int, fixed: bool) -> None:
    job = Job.from_dict(ADMM | {"worker": {"count": workers}})
    assert modes.in_order(job) is fixed
