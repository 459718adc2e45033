"""Tickets of open pushes, and what pushes carry."""

from dataclasses import replace

import numpy as np
import pytest

from dualshard.common.codecs import CODECS
from dualshard.common.messages import Envelope, Form, Push
from dualshard.common.rates import Segment
from dualshard.common.types import Array, Float32
from dualshard.paramserver.consistency import Who
from dualshard.paramserver.pushes import (
    Suspects,
    Ticket,
    Tickets,
    check_values,
    decoded,
    encoded,
)
from dualshard.paramserver.store import BadPush

ME: Who = (31, 0)
NOTHING: Float32 = np.empty(0, np.float32)
VALUES = np.random.default_rng(3).normal(size=40).astype(np.float32)


def push(
    encoding: str = "f32",
    gradient: Array = VALUES,
    extra: Array = NOTHING,
    pieces: list[list[int]] | None = None,
    shards: tuple[int, ...] = (7,),
    averaged: Float32 = NOTHING,
) -> Push:
    versions = [0] * len(shards)
    shared = len(shards) > 1
    where = (1, list(shards), versions, 0, 0, 1, 0.0, shared, "f32")
    return Push(*where, encoding, pieces or [], gradient, extra, averaged)


def ticket(sequence: int, *shards: int, who: Who = ME) -> Ticket:
    message = push(shards=shards)
    envelope = Envelope(who[0], Form.REQUEST, sequence, 1, message)
    return Ticket(b"peer", envelope, message, who, set(shards))


def test_a_ticket_is_held_until_its_last_shard_lets_go() -> None:
    tickets, mine = Tickets(), ticket(5, 1, 2)
    tickets.add(mine)
    assert tickets.holds(mine.envelope)
    assert tickets.release(ME, 1) is mine
    assert mine.left == {2}
    assert tickets.holds(mine.envelope)
    assert tickets.release(ME, 2) is mine
    assert not mine.left
    assert not tickets.holds(mine.envelope)
    assert tickets.release(ME, 2) is None


def test_only_the_very_same_request_is_held() -> None:
    tickets, mine = Tickets(), ticket(5, 1)
    tickets.add(mine)
    again = Envelope(ME[0], Form.REQUEST, 5, 4, mine.push)
    assert tickets.holds(again), "a repeat may name a later floor"
    assert not tickets.holds(ticket(6, 1).envelope)
    assert not tickets.holds(ticket(5, 1, who=(32, 0)).envelope)


def test_lanes_and_shards_are_apart() -> None:
    tickets = Tickets()
    lane, other = ticket(1, 1), ticket(2, 1, who=(31, 1))
    tickets.add(lane)
    tickets.add(other)
    assert tickets.release((31, 1), 1) is other
    assert tickets.release(ME, 3) is None
    assert tickets.release(ME, 1) is lane


def test_the_tickets_of_one_that_has_gone_are_forgotten() -> None:
    tickets, mine, other = Tickets(), ticket(1, 1, 2), ticket(2, 1, who=(32, 0))
    tickets.add(mine)
    tickets.add(other)
    tickets.forget(ME)
    assert not tickets.holds(mine.envelope)
    assert tickets.release(ME, 2) is None
    assert tickets.release((32, 0), 1) is other


def test_a_plain_gradient_is_not_copied() -> None:
    assert decoded(push(), 40) is VALUES


@pytest.mark.parametrize("name", ["f16", "bf16", "int8", "topk"])
def test_what_a_codec_wrote_is_read(name: str) -> None:
    codec = CODECS[name]
    code = codec.encode(VALUES, codec.buffers(40), None)
    expected = np.empty(40, np.float32)
    codec.decode(code.payload, code.extra, expected)
    found = decoded(push(name, code.payload, code.extra), 40)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["f16", "bf16", "int8", "topk"])
def test_averaged_elements_travel_beside_the_code(name: str) -> None:
    codec, segments = CODECS[name], (Segment(0, 9), Segment(9, 12, averaged=True), Segment(12, 40))
    code = codec.encode(VALUES, codec.buffers(40), None)
    expected = np.empty(40, np.float32)
    codec.decode(code.payload, code.extra, expected)
    expected[9:12] = VALUES[9:12]
    sent = push(name, code.payload, code.extra, averaged=VALUES[9:12])
    np.testing.assert_array_equal(decoded(sent, 40, segments), expected)
    for wrong in (NOTHING, VALUES[:2], VALUES[:3].astype(np.float16), VALUES[:3].reshape(1, 3)):
        with pytest.raises(BadPush, match=r"averaged elements are .*, expected float32 \(3,\)"):
            decoded(replace(sent, averaged=wrong), 40, segments)
    with pytest.raises(BadPush, match=r"averaged elements are .*, expected float32 \(0,\)"):
        decoded(sent, 40)


def test_factors_are_multiplied() -> None:
    left, right = VALUES[:6].reshape(1, 6), VALUES[6:13].reshape(1, 7)
    payload = np.concatenate([VALUES[20:25], left.ravel(), right.ravel()])
    found = decoded(push("factors", payload, pieces=[[5, 0, 0, 0], [42, 7, 0, 1]]), 47)
    np.testing.assert_array_equal(found[:5], VALUES[20:25])
    np.testing.assert_allclose(found[5:], (left.T @ right).ravel(), rtol=1e-6)


HALF = VALUES.astype(np.float16)


@pytest.mark.parametrize(
    ("bad", "code", "detail"),
    [
        (push(gradient=VALUES.astype(float)), "dtype", "shard 7 takes float32, not float64"),
        (push(gradient=VALUES.astype(">f4")), "dtype", "shard 7 takes float32, not >f4"),
        (
            push("f16", HALF[:-1]),
            "encoding",
            "shard 7 as f16: f16: payload is float16 (39,), expected float16 (40,)",
        ),
        (
            push("f16", HALF, HALF),
            "encoding",
            "shard 7 as f16: f16: extra is float16 (40,), expected float32 (0,)",
        ),
        (
            push("gzip"),
            "encoding",
            "shard 7 as gzip: no codec 'gzip', only f32, f16, bf16, int8, topk",
        ),
        (
            push("topk", VALUES[:1], np.array([40], np.uint32)),
            "encoding",
            "shard 7 as topk: topk: index 40 in a slice of 40 elements",
        ),
        (
            push("factors", VALUES, pieces=[[39, 0, 0, 0]]),
            "encoding",
            "shard 7 as factors: pieces of 39 elements in all: expected 40, the shard's",
        ),
    ],
)
def test_what_is_no_code_is_refused_by_name(bad: Push, code: str, detail: str) -> None:
    with pytest.raises(BadPush) as refused:
        decoded(bad, 40)
    assert refused.value.code == code
    assert str(refused.value) == detail


@pytest.mark.parametrize("encoding", ["f32", "f16", "bf16"])
def test_values_travel_as_a_copy(encoding: str) -> None:
    payload = encoded(encoding, VALUES)
    assert not np.shares_memory(payload, VALUES)
    assert payload.nbytes == 40 * (4 if encoding == "f32" else 2)


@pytest.mark.parametrize("encoding", ["int8", "topk", "factors", "", "x" * 50])
def test_values_travel_in_no_other_encoding(encoding: str) -> None:
    detail = f"values go as f32, f16, bf16, not as {encoding[:20]!r}"
    for ask in (lambda: check_values(encoding), lambda: encoded(encoding, VALUES)):
        with pytest.raises(BadPush) as refused:
            ask()
        assert (refused.value.code, str(refused.value)) == ("encoding", detail)


def test_so_many_bad_pushes_in_a_row_accuse_once() -> None:
    suspects = Suspects(3)
    assert [suspects.accused(1, [7]) for _ in range(2)] == [False, False]
    assert not suspects.accused(2, [7]), "each worker is counted for itself"
    assert not suspects.accused(1, [8]), "and each of its shards"
    suspects.cleared(1, [7])
    suspects.cleared(9, [7])
    assert [suspects.accused(1, [7]) for _ in range(5)] == [False, False, True, False, False]


def test_a_push_of_several_shards_accuses_once() -> None:
    suspects = Suspects(2)
    assert [suspects.accused(1, [3, 4, 5]) for _ in range(3)] == [False, True, False]
    suspects.cleared(1, [3, 4, 5])
    assert not suspects.accused(1, [3])
    suspects.cleared(1, [4])
    assert suspects.accused(1, [3, 4]), "shard 3 was bad twice in a row"
