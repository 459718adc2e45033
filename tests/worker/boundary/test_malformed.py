"""What a neighbour must not send: refused with the key, the value and what was expected, counted,
noted by name, and never more than that."""

from typing import Any

import numpy as np
import pytest
from cut_net import CutNet, job_of
from fake_part import Part
from hypothesis import given
from hypothesis import strategies as st
from lone_part import ABOVE, BELOW, Lone, activations

from dualshard.common.messages import (
    Ack,
    Activations,
    Copies,
    Gradients,
    Message,
    Samples,
    Settle,
    Targets,
)
from dualshard.common.types import Float32
from dualshard.worker.boundary.events import Ahead, Forward, Forwarded

EMPTY = np.empty(0, np.float32)
NAN = np.full((4, 2), np.nan, np.float32)


def targets(**fields: Any) -> Targets:
    said: dict[str, Any] = {"round": 1, "rho": 0.1, "encoding": "f32", "shape": [4, 3]}
    said |= {"values": np.ones(12, np.float32), "extra": EMPTY}
    return Targets(**(said | fields))


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"round": -1}, "round = -1: expected at least 0"),
        ({"leg": -1}, "leg = -1: expected at least 0"),
        ({"first": -4}, "first = -4: expected at least 0"),
        ({"minibatch": 2}, "first = 0: expected at least 8"),
        ({"batch": 0}, "batch = 0: expected 4 (data.batch_size)"),
        ({"piece": 1}, "pieces = 1: expected up to 1"),
        ({"pieces": 0}, "pieces = 0: expected up to 1"),
        ({"dual": float("nan")}, "dual = nan: expected a finite number, at least 0"),
        ({"encoding": "f16"}, "encoding = f16: expected f32"),
        ({"encoding": "topk"}, "encoding = topk: expected f32"),
        ({"shape": []}, "shape = []: expected 1 to 12 rows"),
        ({"shape": [0, 2]}, "shape = [0, 2]: expected 1 to 12 rows"),
        ({"shape": [13, 2]}, "shape = [13, 2]: expected 1 to 12 rows"),
        ({"shape": [4, -2]}, "shape = [4, -2]: expected sizes of at least 1"),
        ({"shape": [4, 1 << 60]}, "values = (8,): expected (4611686018427387904,)"),
        ({"shape": [4, 3]}, "values = (8,): expected (12,)"),
        ({"values": np.ones(8)}, "values = f32: payload is float64 (8,), expected float32 (8,)"),
        ({"values": np.ones((4, 2), np.float32)}, "values = (4, 2): expected (8,)"),
        ({"extra": np.ones(1, np.float32)}, "values = f32: extra is float32 (1,), expected"),
    ],
)
def test_activations_that_do_not_fit(fields: dict[str, Any], detail: str) -> None:
    part = Lone(job_of(3), 1)
    part.hear(activations(**fields))
    ((code, said),) = part.host.refusals
    assert code == "malformed"
    assert said.startswith(detail)
    assert part.host.notes == [f"Activations of part 0 (worker-0) refused: {said}"]
    assert +part.boundary.counters == {"boundary_malformed": 1}
    assert part.boundary.idle
    assert not part.host.answered
    part.hear(activations())
    assert part.host.answered == [(2, Ack())]
    assert isinstance(part.boundary.next(), Forward)


def test_rows_of_another_shape_than_the_part_takes() -> None:
    part = Lone(job_of(3), 1)
    part.boundary.takes = (3,)
    part.hear(activations())
    assert part.host.refusals == [("malformed", "shape = [4, 2]: expected rows of shape [3]")]


def test_a_round_that_is_here_already_and_one_beyond_the_credit() -> None:
    part = Lone(job_of(2, admm__wait=False, admm__ahead=2), 1)
    for number in (1, 1, 2, 3):
        part.hear(activations(round=number))
    assert part.host.refusals == [
        ("malformed", "round = 1: expected one that is not here yet"),
        ("crowded", "round = 3: expected no more than 2 at once"),
    ]


@pytest.mark.parametrize(
    ("fields", "code", "detail"),
    [
        ({"shape": [4, 2]}, "malformed", "shape = [4, 2]: expected [4, 3]"),
        ({"rho": -1.0}, "malformed", "rho = -1.0: expected a finite number, at least 0"),
        ({"rho": float("inf")}, "malformed", "rho = inf: expected a finite number, at least 0"),
        ({"values": np.ones(8)}, "malformed", "values = (8,): expected (12,)"),
        (
            {"values": np.full(12, np.inf, np.float32)},
            "nonfinite",
            "values = NaN or infinity: expected finite numbers",
        ),
    ],
)
def test_targets_that_do_not_fit(fields: dict[str, Any], code: str, detail: str) -> None:
    part = middle_with_a_round_up()
    part.hear(targets(**fields), ABOVE.incarnation)
    assert part.host.refusals == [(code, detail)]
    assert part.host.notes == [f"Targets of part 2 (worker-2) refused: {detail}"]
    part.hear(targets(), ABOVE.incarnation)
    assert len(part.host.refusals) == 1


def middle_with_a_round_up() -> Lone:
    part = Lone(job_of(3), 1)
    part.hear(activations(round=7))
    action = part.boundary.next()
    assert isinstance(action, Forward)
    part.boundary.happened(Forwarded(action.round, np.ones((4, 3), np.float32)))
    return part


def test_an_answer_nobody_waits_for_is_counted_and_acknowledged() -> None:
    part = middle_with_a_round_up()
    part.hear(targets(round=9), ABOVE.incarnation)
    part.hear(targets(), ABOVE.incarnation)
    part.hear(targets(), ABOVE.incarnation)
    assert +part.boundary.counters == {"boundary_late": 2}
    assert not part.host.refusals


@pytest.mark.parametrize("coupling", ["activations", "backprop", "weights"])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_kinds_that_are_not_for_the_part(coupling: str, rank: int) -> None:
    part = Lone(job_of(3, coupling), rank)
    down = {"activations": Targets, "backprop": Gradients, "weights": Copies}[coupling]
    plain = ("f32", [4, 3], np.ones(12, np.float32), EMPTY)
    kinds: list[Message] = [activations(), targets(), Gradients(1, *plain)]
    kinds.append(Copies(1, 0.1, np.ones(3, np.float32)))
    for message in kinds:
        for member, fits in ((BELOW, Activations), (ABOVE, down)):
            if member is (BELOW if rank == 0 else ABOVE if rank == 2 else None):
                continue
            both = coupling == "weights" and isinstance(message, Copies)
            before = len(part.host.refusals)
            part.hear(message, member.incarnation)
            refused = not (isinstance(message, fits) or both)
            assert len(part.host.refusals) - before == refused, (message, member)


def test_copies_that_do_not_fit() -> None:
    part = Lone(job_of(2, "weights"), 1)
    part.hear(Copies(1, 0.1, np.ones(3, np.float32)))
    wrong = [np.ones(4, np.float32), np.ones(3), np.ones((3, 1), np.float32), EMPTY]
    for values in (*wrong, np.full(3, np.nan, np.float32)):
        part.hear(Copies(2, 0.1, values))
    assert [code for code, _ in part.host.refusals] == ["malformed"] * 4 + ["nonfinite"]
    assert part.host.refusals[0][1] == "values = (4,): expected (3,)"


def test_strangers_wait_and_the_oldest_go_when_there_are_too_many() -> None:
    part = Lone(job_of(2), 1)
    for number in range(257):
        part.hear(activations(round=number), source=99)
    assert part.host.refusals == [("stranger", "its sender is no neighbour in the view")]
    assert part.boundary.idle
    for _ in range(8):
        part.boundary.meet(BELOW, None)
    assert len(part.host.refusals) == 257


def test_samples_that_are_none_end_the_worker_in_one_line() -> None:
    part = Lone(job_of(2), 1)
    part.hear(activations())
    ((ask),) = part.boundary.unknown()
    assert (ask.epoch, ask.begin, ask.labels) == (0, 0, True)
    part.boundary.know((0, 0), Samples(np.arange(4), np.arange(3)))
    assert part.host.failures == [
        (
            1,
            "worker-1, part 1 of the net: a data server sent labels = (3,): "
            "expected those of 4 samples",
        )
    ]
    assert part.boundary.next() is None


def test_rows_that_the_portion_does_not_have() -> None:
    part = Lone(job_of(2), 1)
    part.hear(activations())
    part.boundary.unknown()
    part.boundary.know((0, 0), Samples(np.arange(3), np.arange(3)))
    assert part.boundary.next() is None
    ((status, reason),) = part.host.failures
    assert status == 1
    assert reason.endswith("the part below sent rows = 0 to 4: expected up to 3")


# NaN and infinity.


def test_the_part_that_computes_nan_fails_and_names_itself() -> None:
    net = CutNet(job_of(3), portions=4)

    def spoiler(part: Part, outputs: Float32) -> Float32:
        return np.full_like(outputs, np.nan) if part.rank == 1 else outputs

    net.spoiler = spoiler
    net.run(until=lambda: any(part.failure for part in net.living))
    assert [part.failure for part in net.living] == [
        "",
        "worker-1, part 1 of the net: its outputs of round 1 hold NaN or infinity "
        "(model.ref = mlp); lower optimizer.lr (0.002) or set optimizer.clip",
        "",
    ]


@pytest.mark.parametrize("coupling", ["activations", "backprop"])
def test_nan_that_comes_all_the_same_is_refused_and_ends_its_sender(coupling: str) -> None:
    part = Lone(job_of(3, coupling), 1)
    part.hear(activations(NAN))
    detail = "values = NaN or infinity: expected finite numbers"
    assert part.host.refusals == [("nonfinite", detail)]
    assert +part.boundary.counters == {"boundary_nonfinite": 1}
    part.hear(activations())
    action = part.boundary.next()
    assert isinstance(action, Forward | Ahead)
    part.boundary.happened(Forwarded(action.round, np.ones((4, 3), np.float32)))
    assert part.refuse(0, "nonfinite", detail)
    assert part.host.failures == [
        (
            1,
            "worker-1, part 1 of the net: part 2 (worker-2) refused its Activations of round 1: "
            f"{detail}",
        )
    ]


def test_a_refusal_of_somebody_elses_request_is_not_the_boundarys() -> None:
    part = Lone(job_of(2), 1)
    part.host.asked.append((BELOW.address, Samples(EMPTY, EMPTY), None))
    assert not part.refuse(0, "any", "thing")
    part.host.asked.append((BELOW.address, targets(), None))
    assert part.refuse(1, "stranger", "out of the view")
    assert not part.host.failures
    assert +part.boundary.counters == {"boundary_stranger": 1}


NUMBERS = st.integers(-2, 20)


@given(
    st.sampled_from(["activations", "backprop", "weights"]),
    st.integers(0, 2),
    st.lists(
        st.tuples(
            st.sampled_from([Activations, Targets, Gradients, Copies, Settle]),
            st.sampled_from([BELOW.incarnation, ABOVE.incarnation, 99]),
            *[NUMBERS] * 5,
        ),
        max_size=12,
    ),
)
def test_whatever_neighbours_say_nothing_is_raised(
    coupling: str, rank: int, said: list[Any]
) -> None:
    part = Lone(job_of(3, coupling, partition__micro_batches=2), rank)
    for kind, source, number, rows, width, minibatch, piece in said:
        values = np.ones(max(0, rows * width), np.float32)
        plain = (number, "f32", [rows, width], values, EMPTY)
        message: Message = Settle()
        if kind is Activations:
            fields = {"round": number, "shape": [rows, width], "values": values, "piece": piece}
            fields |= {"minibatch": minibatch, "first": 4 * minibatch, "pieces": width}
            message = activations(**fields)
        elif kind is Targets:
            message = Targets(plain[0], float(width), *plain[1:])
        elif kind is Gradients:
            message = Gradients(*plain)
        elif kind is Copies:
            message = Copies(number, float(width), values)
        part.hear(message, source)
        part.boundary.settle(pushed=True)
        part.compute()
