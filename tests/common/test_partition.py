"""What a cut net means, and every sentence that refuses one."""

from typing import Any

import pytest

from dualshard.common import partition
from dualshard.common.errors import UserError
from dualshard.common.job import Job

COUPLINGS = ("activations", "weights", "backprop")


def job(
    workers: int = 2, *, mode: str = "admm", cut: dict[str, Any] | None = None, **sections: Any
) -> Job:
    """A job of `[partition]` `cut`; other sections by name."""
    worker = {"count": workers, **sections.pop("worker", {})}
    train = {"mode": mode, **sections.pop("train", {})}
    return Job.from_dict({"train": train, "worker": worker, "partition": cut or {}, **sections})


def refused(workers: int = 2, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        job(workers, **settings)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp", "local", "easgd"])
def test_other_modes_have_whole_nets(mode: str) -> None:
    plain = job(3, mode=mode)
    assert not partition.is_cut(plain)
    assert not partition.is_consensus(plain)
    assert (partition.parts(plain), partition.replicas(plain)) == (1, 3)
    assert [partition.place(plain, rank) for rank in range(3)] == [(0, 0), (1, 0), (2, 0)]
    assert all(partition.takes_data(plain, rank) for rank in range(3))
    assert partition.has_head(plain, 0)


def test_replicas_in_consensus_are_whole_nets_of_any_number() -> None:
    made = job(3, cut={"coupling": "replicas"})
    assert partition.is_consensus(made)
    assert not partition.is_cut(made)
    assert (partition.parts(made), partition.replicas(made)) == (1, 3)
    assert partition.has_head(made, 0)
    assert all(partition.takes_data(made, rank) for rank in range(3))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(
    ("cut", "parts"), [({}, 2), ({"parts": 3}, 3), ({"cuts": ["relu1"], "parts": 5}, 2),
                       ({"cuts": ["a", "b", "c"]}, 4)],
)  # fmt: skip
def test_ranks_are_dealt_replica_by_replica_from_the_bottom_up(
    coupling: str, cut: dict[str, Any], parts: int
) -> None:
    made = job(3 * parts, cut={**cut, "coupling": coupling})
    assert partition.is_cut(made)
    assert not partition.is_consensus(made)
    assert (partition.parts(made), partition.replicas(made)) == (parts, 3)
    places = [partition.place(made, rank) for rank in range(3 * parts)]
    assert places == [(replica, part) for replica in range(3) for part in range(parts)]
    takers = [rank for rank in range(3 * parts) if partition.takes_data(made, rank)]
    assert takers == [0, parts, 2 * parts]


@pytest.mark.parametrize(
    ("coupling", "head", "heads"),
    [
        ("activations", True, [False, False, True]),
        ("backprop", True, [False, False, True]),
        ("weights", True, [True, True, True]),
        ("weights", False, [False, False, True]),
    ],
)
def test_who_needs_labels(coupling: str, head: bool, heads: list[bool]) -> None:
    made = job(3, cut={"parts": 3, "coupling": coupling}, admm={"head": head})
    assert [partition.has_head(made, part) for part in range(3)] == heads


@pytest.mark.parametrize(
    ("coupling", "admm", "first", "cap"),
    [
        ("activations", {}, 1e-4, 0.01),
        ("activations", {"schedule": "x10"}, 1e-4, 0.01),
        ("activations", {"schedule": "fixed"}, 0.01, 0.01),
        ("activations", {"schedule": "residual"}, 0.01, 0.01),
        ("activations", {"rho": 0.03, "cap": 0.5}, 0.03, 0.5),
        ("weights", {}, 0.1, 0.1),
        ("replicas", {"schedule": "fixed"}, 0.1, 0.1),
        ("replicas", {"rho": 2.0, "cap": 3.0}, 2.0, 3.0),
    ],
)
def test_rho_follows_from_what_agrees(
    coupling: str, admm: dict[str, Any], first: float, cap: float
) -> None:
    made = job(cut={"coupling": coupling}, admm=admm)
    assert (partition.first_rho(made), partition.rho_cap(made)) == (first, cap)


@pytest.mark.parametrize(("wait", "ahead", "most"), [(True, 4, 1), (False, 4, 4), (False, 1, 1)])
def test_rounds_under_way(wait: bool, ahead: int, most: int) -> None:
    assert partition.under_way(job(admm={"wait": wait, "ahead": ahead})) == most


@pytest.mark.parametrize(
    ("coupling", "macro", "batches"),
    [("activations", 1024, 32), ("weights", 1024, 32), ("activations", 1055, 32),
     ("activations", 31, 1), ("backprop", 1024, 5), ("replicas", 1024, 5)],
)  # fmt: skip
def test_a_portion_is_a_macro_batch_where_admm_couples_parts(
    coupling: str, macro: int, batches: int
) -> None:
    made = job(cut={"coupling": coupling}, admm={"macro_batch": macro}, dataserver={"portion": 5})
    assert made.data.batch_size == 32
    assert partition.portion_batches(made) == batches


def test_macro_batches_are_of_cut_nets_alone() -> None:
    made = job(mode="async", admm={"macro_batch": 64}, dataserver={"portion": 5})
    assert partition.portion_batches(made) == 5


# What is refused.


@pytest.mark.parametrize("mode", ["async", "bsp", "local"])
def test_cuts_in_another_mode(mode: str) -> None:
    assert refused(mode=mode, cut={"cuts": ["relu1"]}) == (
        f'partition.cuts = ["relu1"]: expected none in mode {mode}; write train.mode = admm, with '
        "partition.coupling = backprop for exact gradients"
    )


def test_cuts_between_replicas() -> None:
    assert refused(cut={"cuts": ["relu1"], "coupling": "replicas"}) == (
        'partition.cuts = ["relu1"]: expected none with coupling replicas; leave them out, or '
        "choose another partition.coupling"
    )


@pytest.mark.parametrize(
    "cuts", [["relu1", "relu2", "relu1"], [f"relu{number}" for number in range(8)]]
)
def test_cuts_twice_or_too_many(cuts: list[str]) -> None:
    shown = ", ".join(f'"{cut}"' for cut in cuts)
    assert refused(8, cut={"cuts": cuts}) == (
        f"partition.cuts = [{shown}]: expected different layers, at most 7; leave the others out"
    )


def test_the_most_parts() -> None:
    cuts = [f"relu{number}" for number in range(7)]
    assert partition.parts(job(8, cut={"cuts": cuts})) == 8
    assert partition.parts(job(8, cut={"parts": 8})) == 8


@pytest.mark.parametrize(
    ("workers", "cut", "parts", "right"),
    [(1, {}, 2, 2), (3, {}, 2, 4), (4, {"parts": 3}, 3, 6), (5, {"cuts": ["a", "b", "c"]}, 4, 8)],
)
def test_workers_that_leave_a_net_incomplete(
    workers: int, cut: dict[str, Any], parts: int, right: int
) -> None:
    assert refused(workers, cut=cut) == (
        f"worker.count = {workers}: expected a multiple of {parts}, the parts of the net; "
        f"write worker.count = {right}"
    )


@pytest.mark.parametrize(
    ("sections", "key", "value", "wanted"),
    [
        ({"worker": {"threads": 2}}, "worker.threads", "2", "1"),
        ({"worker": {"device": "cuda:0"}}, "worker.device", '"cuda:0"', '"cpu"'),
        ({"worker": {"device": "auto"}}, "worker.device", '"auto"', '"cpu"'),
        ({"worker": {"at_least": 3}}, "worker.at_least", "3", "2"),
        ({"worker": {"at_least": 1}}, "worker.at_least", "1", "0"),
        ({"job": {"epoch_quorum": 0.5}}, "job.epoch_quorum", "0.5", "1.0"),
        ({"job": {"warm_start": 9}}, "job.warm_start", "9", "0"),
        ({"dataserver": {"backup": True}}, "dataserver.backup", "true", "false"),
    ],
)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_what_parts_that_work_hand_in_hand_cannot_do(
    coupling: str, sections: dict[str, Any], key: str, value: str, wanted: str
) -> None:
    assert refused(4, cut={"coupling": coupling}, **sections) == (
        f"{key} = {value}: expected {wanted} with a cut net; parts of one net work hand in hand: "
        "leave it out, or choose another train.mode"
    )


def test_whole_nets_in_consensus_may_do_all_that() -> None:
    made = job(
        3,
        cut={"coupling": "replicas"},
        worker={"threads": 2, "at_least": 1},
        job={"epoch_quorum": 0.5, "warm_start": 9},
        dataserver={"backup": True},
    )
    assert partition.is_consensus(made)


def test_complete_nets_may_be_waited_for() -> None:
    assert job(4, worker={"at_least": 2}).worker.at_least == 2
