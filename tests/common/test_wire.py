"""Messages to frames and back: every kind, every fault in a frame, and limits on what is believed.

The oracle for a round trip is the message itself; for malformed frames, that nothing but
`MalformedFrame` and `ProtocolMismatch` is ever raised, whatever the bytes.
"""

import dataclasses
import tracemalloc
from typing import Any, get_args, get_type_hints

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from dualshard.common import messages, wire
from dualshard.common.errors import RoleError
from dualshard.common.messages import (
    PROTOCOL,
    Ack,
    Envelope,
    Fetch,
    Form,
    Heartbeat,
    Join,
    Leave,
    Message,
    Portion,
    Pull,
    Refused,
    Start,
    Status,
    Welcome,
)
from dualshard.common.wire import MalformedFrame, ProtocolMismatch, decode, encode

KINDS = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
]
NUMBERS = st.integers(0, 2**63 - 1)
ARRAYS = nps.arrays(
    st.sampled_from([np.dtype(name) for name in wire.DTYPES]),
    nps.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values that fit an annotated field."""
    origin = getattr(hint, "__origin__", hint)
    if origin is np.ndarray:
        return ARRAYS
    if origin is list:
        return st.lists(values_of(get_args(hint)[0]), max_size=4)
    if origin is dict:
        return st.dictionaries(st.text(), values_of(get_args(hint)[1]), max_size=4)
    return {
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(),
        bool: st.booleans(),
        str: st.text(),
        bytes: st.binary(),
        Any: PLAIN.filter(lambda value: depth(value) < wire.DEPTH_LIMIT - 2),
    }[hint]


def depth(value: object) -> int:
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    nested = isinstance(value, list | dict)
    return nested + max((depth(item) for item in inner), default=0)


@st.composite
def envelopes(draw: st.DrawFn, kinds: list[type[Message]] = KINDS) -> Envelope:
    kind = draw(st.sampled_from(kinds))
    hints = get_type_hints(kind)
    message = kind(
        **{item.name: draw(values_of(hints[item.name])) for item in dataclasses.fields(kind)}
    )
    form = draw(st.sampled_from(Form))
    return Envelope(draw(NUMBERS), form, draw(NUMBERS), draw(NUMBERS), message)


def same(one: object, other: object) -> bool:
    """Equality by bits, so that NaN equals itself and 1 is not 1.0."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        equal = (one.dtype, one.shape) == (other.dtype, other.shape)
        return equal and one.tobytes() == other.tobytes()
    return msgpack.packb(one) == msgpack.packb(other)


def over_the_network(envelope: Envelope) -> list[bytes]:
    return [bytes(frame) for frame in encode(envelope)]


def check_same(one: Envelope, other: Envelope) -> None:
    assert (one.source, one.form, one.sequence, one.floor, one.protocol) == (
        (other.source, other.form, other.sequence, other.floor, other.protocol)
    )
    assert type(one.message) is type(other.message)
    for item in dataclasses.fields(one.message):
        assert same(getattr(one.message, item.name), getattr(other.message, item.name)), item.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_every_kind_comes_back_as_it_was(kind: type[Message], data: st.DataObject) -> None:
    envelope = data.draw(envelopes([kind]))
    check_same(envelope, decode(over_the_network(envelope)))


def header(envelope: Envelope, **changes: object) -> bytes:
    """The header frame with some of its eight places changed."""
    places = ("protocol", "kind", "source", "form", "sequence", "floor", "fields", "arrays")
    values = msgpack.unpackb(encode(envelope)[0])
    for place, value in changes.items():
        values[places.index(place)] = value
    return msgpack.packb(values)


PULL = Envelope(7, Form.REQUEST, 3, 1, Pull(2, 5))
START = Envelope(7, Form.REQUEST, 3, 1, Start(2, 5, np.arange(6, dtype="f4")))


def test_arrays_are_views_without_a_copy_on_both_sides() -> None:
    gradient = np.arange(6, dtype=np.float32)
    frames = encode(Envelope(1, Form.REQUEST, 1, 1, Start(0, 0, gradient)))
    assert np.shares_memory(np.frombuffer(frames[1], np.float32), gradient)
    decoded = decode(frames).message
    assert isinstance(decoded, Start)
    assert np.shares_memory(decoded.values, gradient)


def test_what_is_received_cannot_be_written_to() -> None:
    decoded = decode(over_the_network(START)).message
    assert isinstance(decoded, Start)
    with pytest.raises(ValueError, match="read-only"):
        decoded.values[0] = 1.0


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_the_memory_of_a_received_array_can_be_taken_over(shape: tuple[int, ...]) -> None:
    frames: list[wire.Frame] = [
        *encode(Envelope(1, Form.REQUEST, 1, 1, Start(0, 0, np.ones(shape, np.float32))))
    ]
    frames[1] = memoryview(bytearray(frames[1]))  # as a transport hands it over
    received = decode(frames).message
    assert isinstance(received, Start)
    ours = wire.take_over(received.values)
    assert ours is not None
    assert ours.shape == shape
    ours[:] = 7.0
    assert (received.values == 7.0).all()
    assert encode(Envelope(1, Form.REPLY, 1, 0, Start(0, 1, ours)))[1].obj is frames[1].obj


def test_memory_that_is_not_the_receivers_alone_is_not_taken_over() -> None:
    in_bytes = decode(over_the_network(START)).message
    assert isinstance(in_bytes, Start)
    assert wire.take_over(in_bytes.values) is None
    frame = memoryview(bytearray(over_the_network(START)[1]))
    whole = np.frombuffer(frame, np.float32)
    assert wire.take_over(whole) is not None
    assert wire.take_over(whole[1:]) is None
    assert wire.take_over(np.frombuffer(frame.toreadonly(), np.float32)) is None
    assert wire.take_over(np.ones(6, np.float32)) is None
    assert wire.take_over(np.ones((2, 3), np.float32).reshape(6)) is None


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 6), np.float32)[2],
        np.frombuffer(bytearray(24), np.float32)[2:],
        np.frombuffer(memoryview(bytearray(24)).cast("I"), np.float32),
        np.zeros((2, 3, 4), np.int8),
    ],
    ids=["row", "part of a buffer", "buffer of another type", "three dimensions"],
)
def test_the_frame_of_an_array_is_its_bytes(array: np.ndarray) -> None:
    array[...] = np.arange(array.size).reshape(array.shape)
    frame = encode(Envelope(1, Form.REPLY, 1, 0, Start(0, 1, array)))[1]
    assert bytes(frame) == array.tobytes()
    assert len(frame) == array.nbytes


@pytest.mark.parametrize("shape", [(0,), (0, 3), (1,), (1, 1, 1)])
def test_edge_shapes(shape: tuple[int, ...]) -> None:
    portion = Portion(1, 2, True, np.zeros(shape, "f4"), np.zeros(shape[:1], "i8"))
    decoded = decode(over_the_network(Envelope(1, Form.REPLY, 1, 0, portion))).message
    assert isinstance(decoded, Portion)
    assert decoded.inputs.shape == shape
    assert decoded.labels.dtype == np.int64


# What is no message.


def check_only_protocol_errors(frames: list[bytes]) -> None:
    try:
        envelope = decode(frames)
    except (MalformedFrame, ProtocolMismatch):
        return
    assert isinstance(envelope.message, Message)


@given(st.lists(st.binary(max_size=200), max_size=3))
@example([])
@example([b""])
@example([b"\x98" + b"\x00" * 8])
def test_random_bytes(frames: list[bytes]) -> None:
    check_only_protocol_errors(frames)


@given(st.lists(PLAIN, min_size=8, max_size=8))
def test_random_values_in_a_header(values: list[object]) -> None:
    check_only_protocol_errors([msgpack.packb(values)])


@settings(max_examples=300)
@given(envelopes(), st.data())
def test_mutations_of_valid_frames(envelope: Envelope, data: st.DataObject) -> None:
    frames = over_the_network(envelope)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(frames) - 1))
        frame, at = bytearray(frames[index]), data.draw(st.integers(0, len(frames[index])))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "drop", "repeat"])):
            case "flip" if at < len(frame):
                frame[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del frame[at:]
            case "insert":
                frame[at:at] = data.draw(st.binary(min_size=1, max_size=6))
            case "drop" if len(frames) > 1:
                frames.pop(index)
                continue
            case "repeat":
                frames.insert(index, frames[index])
        frames[index] = bytes(frame)
    check_only_protocol_errors(frames)


def example_of(kind: type[Message]) -> Envelope:
    """A small message of a kind, with something in each field."""
    values = {
        int: 3,
        float: 1.5,
        bool: True,
        str: "text",
        bytes: b"bytes",
        dict[str, Any]: {"key": [1, None, {"inner": 2.5}]},
        dict[str, float]: {"key": 1.5},
        dict[str, str]: {"key": "text"},
        list[int]: [1, 2],
        list[float]: [1.5, 2.0],
        list[str]: ["one", "two"],
        list[list[int]]: [[1], []],
        list[dict[str, float]]: [{"key": 1.5}],
        list[list[int]]: [[1, 2], []],
        list[list[Any]]: [["row", 1], [True]],
    }
    hints = get_type_hints(kind)
    made = {
        name: np.arange(6, dtype="f4") if wire._is_array(hint) else values[hint]
        for name, hint in hints.items()
    }
    return Envelope(2**62 + 1, Form.REQUEST, 300, 299, kind(**made))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_flipped_bit_and_every_cut_of_a_message(kind: type[Message]) -> None:
    """Each is refused, or still a message; and none makes room for more than a small message."""
    whole = over_the_network(example_of(kind))
    damaged: list[list[bytes]] = []
    for index, frame in enumerate(whole):
        for at in range(len(frame)):
            for bit in range(8):
                flipped = bytes((*frame[:at], frame[at] ^ 1 << bit, *frame[at + 1 :]))
                damaged.append([*whole[:index], flipped, *whole[index + 1 :]])
            damaged.append([*whole[:index], frame[:at], *whole[index + 1 :]])
        damaged.append([*whole[:index], *whole[index + 1 :]])
    check_same(decode(whole), example_of(kind))
    tracemalloc.start()
    try:
        for frames in damaged:
            check_only_protocol_errors(frames)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 17


@settings(max_examples=200)
@given(envelopes(), st.integers(0, 7), PLAIN)
def test_any_value_in_any_place_of_a_header(envelope: Envelope, place: int, value: object) -> None:
    frames = over_the_network(envelope)
    values = msgpack.unpackb(frames[0])
    values[place] = value
    check_only_protocol_errors([msgpack.packb(values), *frames[1:]])


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        ([], "no header frame"),
        ([b"\xc1"], "header is no msgpack"),
        ([msgpack.packb([1, 2])], "not a list of eight"),
        ([msgpack.packb({"a": 1})], "not a list of eight"),
        ([encode(PULL)[0] + b"\x00"], "header is no msgpack: ExtraData"),
        ([header(PULL, kind="Nonsense")], "unknown kind 'Nonsense'"),
        ([header(PULL, kind=["Pull"])], "unknown kind of type list"),
        ([header(PULL, kind="Message")], "unknown kind 'Message'"),
        ([header(PULL, kind="Envelope")], "unknown kind 'Envelope'"),
        ([header(PULL, form=3)], "form 3 is not 0, 1 or 2"),
        ([header(PULL, form=True)], "not natural numbers"),
        ([header(PULL, source=-1)], "not natural numbers"),
        ([header(PULL, source=2**63)], "not natural numbers"),
        ([header(PULL, sequence=1.0)], "not natural numbers"),
        ([header(PULL, fields=[2])], "Pull: expected 5 fields"),
        ([header(PULL, fields=[2, 5, 6])], "Pull: expected 5 fields"),
        ([header(PULL, fields=[2, "5", "f32", -1, -1])], "Pull.shard: a str does not fit"),
        ([header(PULL, fields=[2, True, "f32", -1, -1])], "Pull.shard: a bool does not fit"),
        ([header(PULL, fields=[2, 2**63, "f32", -1, -1])], "Pull.shard: a int does not fit"),
        ([encode(PULL)[0], b"more"], "Pull: expected 0 arrays and frames, got 1"),
        ([encode(START)[0]], "Start: expected 1 arrays and frames, got 0"),
        ([encode(START)[0], b"\x00" * 23], "takes 24 bytes, the frame holds 23"),
        ([header(START, arrays=[]), b"\x00" * 24], "Start: expected 1 arrays"),
        ([header(START, arrays=[["<f4"]]), b""], "no dtype and shape"),
        ([header(START, arrays=[["<f4"] + [1] * 9]), b"\x00" * 4], "no dtype and shape"),
        ([header(START, arrays=[["<f8", 3]]), b"\x00" * 24], "dtype '<f8' is not one of"),
        ([header(START, arrays=[["|O", 3]]), b"\x00" * 24], "dtype '|O' is not one of"),
        ([header(START, arrays=[[["<f4"], 3]]), b"\x00" * 24], "dtype of type list"),
        ([header(START, arrays=[["<f4", -6]]), b"\x00" * 24], "bad shape"),
        ([header(START, arrays=[["<f4", 6.0]]), b"\x00" * 24], "bad shape"),
    ],
)
def test_what_is_wrong_is_said(frames: list[bytes], complaint: str) -> None:
    with pytest.raises(MalformedFrame) as refused:
        decode(frames)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        msgpack.ExtType(5, b""),
        msgpack.Timestamp(1),
        {1: 2},
        {b"key": 1},
        [[[[[[[[[]]]]]]]]],
    ],
    ids=["extension", "timestamp", "integer key", "bytes key", "nested deeply"],
)
def test_free_values_are_plain(value: object) -> None:
    report = header(Envelope(1, Form.REPLY, 1, 0, Status({"a": 1})), fields=[{"a": value}])
    with pytest.raises(MalformedFrame):
        decode([report])


def test_free_values_may_be_nested_to_the_limit() -> None:
    value: object = 1
    for _ in range(wire.DEPTH_LIMIT - 2):
        value = [value]
    envelope = Envelope(1, Form.REPLY, 1, 0, Status({"a": value}))
    check_same(envelope, decode(over_the_network(envelope)))


# Limits: nothing is believed before it is there.


def test_lists_nested_a_thousandfold_do_no_harm() -> None:
    deep = b"\x91" * 1000 + b"\xc0"
    packed = msgpack.packb([PROTOCOL, "X", 1, 1, 1, 1, [], []]).replace(b"\xa1X", deep)
    with pytest.raises(MalformedFrame):
        decode([packed])
    endless = b"\x91" * (1 << 20)
    with pytest.raises(MalformedFrame):
        decode([endless])


@pytest.mark.parametrize(
    "lists", [b"\xdd\x00\x0f\xff\xff", b"\xdc\xff\xff", b"\xdf\x00\x07\xff\xff"]
)
def test_claimed_lengths_allocate_nothing(lists: bytes) -> None:
    """A list header claims a million elements in five bytes; a hundred of them, within each
    other, would take a gigabyte."""
    frame = lists * 100 + b"\x00" * (1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedFrame):
            decode([frame])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("lists", [b"\xdc\x00\x80", b"\xdd\x00\x00\x00\x80", b"\xde\x00\x80\xa0"])
@pytest.mark.parametrize("more", [0, 1])
def test_short_headers_claim_little(lists: bytes, more: int) -> None:
    """Up to `CLAIMS_LITTLE` bytes a header is unpacked at once, without being skimmed before."""
    frame = (lists * wire.CLAIMS_LITTLE)[: wire.CLAIMS_LITTLE + more]
    tracemalloc.start()
    try:
        with pytest.raises(MalformedFrame):
            decode([frame])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 16


@pytest.mark.parametrize(
    "row",
    [["<f4", 1 << 28], ["<f4", 1 << 30, 1 << 30], ["<f4", 0, 1 << 30, 1 << 30, 1 << 30]],
)
def test_claimed_shapes_allocate_nothing(row: list[object]) -> None:
    frames = [header(START, arrays=[row]), b""]
    tracemalloc.start()
    try:
        with pytest.raises(MalformedFrame):
            decode(frames)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 17


def test_a_header_over_the_limit_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = encode(PULL)[0]
    monkeypatch.setattr(wire, "HEADER_LIMIT", len(frame))
    assert decode([frame]) == PULL
    monkeypatch.setattr(wire, "HEADER_LIMIT", len(frame) - 1)
    with pytest.raises(MalformedFrame, match="over the limit"):
        decode([frame])
    with pytest.raises(RoleError, match=f"^Pull with {len(frame)} bytes of header: "):
        encode(PULL)


def test_a_payload_over_the_limit_is_neither_sent_nor_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = over_the_network(START)
    monkeypatch.setattr(wire, "PAYLOAD_LIMIT", 24)
    check_same(decode(frames), START)
    monkeypatch.setattr(wire, "PAYLOAD_LIMIT", 23)
    with pytest.raises(MalformedFrame, match=r"^Start: payload over 23 bytes$"):
        decode(frames)
    with pytest.raises(RoleError, match=r"^Start of 24 bytes: one message carries 23$"):
        encode(START)


def test_a_message_that_could_not_be_packed_leaves_nothing_for_the_next() -> None:
    with pytest.raises(TypeError):
        encode(Envelope(1, Form.REPLY, 1, 0, Status({"a": 1, "b": object()})))
    with pytest.raises(OverflowError):
        encode(Envelope(1, Form.REQUEST, 1, 1, Pull(2, 1 << 64)))
    assert decode(encode(PULL)) == PULL


def test_a_foreign_dtype_is_not_sent() -> None:
    start = Start(0, 0, np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(RoleError, match=r"^Start.values: cannot send dtype <f8, only \('<f4', "):
        encode(Envelope(1, Form.REQUEST, 1, 1, start))


# Versions.

JOIN = Join("worker", -1, "", "host", 12, {"protocol": "99"})


@pytest.mark.parametrize("message", [JOIN, Refused("protocol", "table")])
def test_joining_and_its_refusal_are_understood_in_any_version(message: Message) -> None:
    envelope = Envelope(1, Form.REQUEST, 1, 1, message, protocol=PROTOCOL + 98)
    assert decode(over_the_network(envelope)) == envelope


@pytest.mark.parametrize(
    "message",
    [Ack(), Leave(0, ""), Fetch(False, 0), Heartbeat(1, "", {}), Welcome(0, {}, 1.0)],
    ids=lambda message: type(message).__name__,
)
def test_all_else_of_another_version_is_a_mismatch(message: Message) -> None:
    envelope = Envelope(1, Form.REQUEST, 1, 1, message, protocol=PROTOCOL + 98)
    with pytest.raises(ProtocolMismatch) as refused:
        decode(over_the_network(envelope))
    assert refused.value.theirs == PROTOCOL + 98
    assert str(refused.value) == (
        f"protocol {PROTOCOL + 98} received, this side speaks protocol {PROTOCOL}"
    )


def test_a_kind_that_only_another_version_knows_is_a_mismatch() -> None:
    with pytest.raises(ProtocolMismatch):
        decode([header(PULL, protocol=PROTOCOL + 1, kind="Teleport", fields=[1])])


def test_values_keep_their_bits() -> None:
    odd = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    decoded = decode(over_the_network(Envelope(1, Form.REPLY, 1, 0, Start(0, 1, odd)))).message
    assert isinstance(decoded, Start)
    assert decoded.values.dtype == np.float32
    assert decoded.values.tobytes() == odd.tobytes()
