"""Messages to frames and back. Pure: bytes in, checked data out.

A message is one msgpack header frame and one raw frame an array. Nothing is unpickled, no object
hook runs, and kinds, types, sizes, dtypes and shapes are checked against limits before anything
is allocated or viewed. What a header claims is believed only once its bytes are there: memory is
bounded by what has arrived, never by a number in it. The header is

    [protocol, kind, source, form, sequence, floor, fields, arrays]

with the scalar fields in the order of the dataclass and arrays as [dtype, dimension, ...].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import Any, cast, get_type_hints

import msgpack
import numpy as np

from . import messages
from .errors import RemoteError, RoleError
from .messages import PROTOCOL, Envelope, Form, Message
from .types import Array

Frame = bytes | memoryview
Frames = list[Frame]

HEADER_LIMIT = 4 << 20
"""Bytes of a header frame."""
PAYLOAD_LIMIT = 1 << 30
"""Bytes of all arrays of one message."""
DIMENSIONS_LIMIT = 8
DEPTH_LIMIT = 8
"""Lists and dictionaries within each other in one field."""
DTYPES = ("<f4", "<f2", "<i8", "<i4", "|u1")
ANY_PROTOCOL = ("Join", "Refused")


class MalformedFrame(RemoteError):
    """Frames that are no message: counted, logged and dropped by whoever received them."""


class ProtocolMismatch(RemoteError):
    """A message of another protocol version."""

    def __init__(self, theirs: int) -> None:
        self.theirs = theirs
        super().__init__(f"protocol {theirs} received, this side speaks protocol {PROTOCOL}")


def encode(envelope: Envelope) -> Frames:
    """The frames of a message. Arrays must be contiguous; their frames are views, not copies:
    whoever sends them lends the buffers until the reply returns.

    Raises:
        RoleError: no peer would take the message: it is over a limit, or of a foreign dtype.
    """
    kind = type(envelope.message)
    schema = _SCHEMAS[kind.__name__]
    arrays = [getattr(envelope.message, name) for name in schema.arrays]
    rows = [[array.dtype.str, *array.shape] for array in arrays]
    for name, (dtype, *_) in zip(schema.arrays, rows, strict=True):
        if dtype not in DTYPES:
            raise RoleError(f"{kind.__name__}.{name}: cannot send dtype {dtype}, only {DTYPES}")
    size = sum(array.nbytes for array in arrays)
    if size > PAYLOAD_LIMIT:
        raise RoleError(f"{kind.__name__} of {size} bytes: one message carries {PAYLOAD_LIMIT}")
    header = [
        envelope.protocol,
        kind.__name__,
        envelope.source,
        int(envelope.form),
        envelope.sequence,
        envelope.floor,
        [getattr(envelope.message, name) for name, _ in schema.scalars],
        rows,
    ]
    packed = cast(bytes, msgpack.packb(header))
    if len(packed) > HEADER_LIMIT:
        raise RoleError(f"{kind.__name__} with {len(packed)} bytes of header: {HEADER_LIMIT} fit")
    return [packed, *map(_frame, arrays)]


def decode(frames: Sequence[Frame]) -> Envelope:
    """The message in `frames`, with arrays as read-only views of its frames.

    Raises:
        ProtocolMismatch: a well-formed header of another version.
        MalformedFrame: anything else that is no message.
    """
    header = _header(frames)
    protocol, kind, source, form, sequence, floor, scalars, shapes = header
    numbers = (protocol, source, form, sequence, floor)
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise MalformedFrame("header numbers are not natural numbers below 2^63")
    if protocol != PROTOCOL and kind not in ANY_PROTOCOL:
        raise ProtocolMismatch(protocol)
    schema = _SCHEMAS.get(kind) if isinstance(kind, str) else None
    if schema is None:
        raise MalformedFrame(f"unknown kind {_name(kind)}")
    if form not in _FORMS:
        raise MalformedFrame(f"{kind}: form {form} is not 0, 1 or 2")
    values = dict(zip(schema.arrays, _arrays(kind, schema, shapes, frames[1:]), strict=True))
    if not isinstance(scalars, list) or len(scalars) != len(schema.scalars):
        raise MalformedFrame(f"{kind}: expected {len(schema.scalars)} fields")
    for (name, fits), value in zip(schema.scalars, scalars, strict=True):
        if not fits(value):
            raise MalformedFrame(f"{kind}.{name}: a {type(value).__name__} does not fit")
        values[name] = value
    return Envelope(source, _FORMS[form], sequence, floor, schema.kind(**values), protocol)


def _frame(array: Array) -> Frame:
    """The bytes of a contiguous array, viewed."""
    assert array.flags.c_contiguous
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _header(frames: Sequence[Frame]) -> list[Any]:
    """The unpacked header frame, a list of eight."""
    if not frames or not 0 < len(frames[0]) <= HEADER_LIMIT:
        raise MalformedFrame("no header frame, or one over the limit")
    try:
        # Unpacking makes room for as many elements as a list claims; skipping makes none, and
        # fails unless each of them is there.
        skimmer = msgpack.Unpacker(max_buffer_size=len(frames[0]))
        skimmer.feed(frames[0])
        skimmer.skip()
        header = msgpack.unpackb(frames[0], strict_map_key=True, max_ext_len=0)
    except Exception as broken:  # msgpack raises a dozen unrelated types on random bytes
        raise MalformedFrame(f"header is no msgpack: {type(broken).__name__}") from None
    if not isinstance(header, list) or len(header) != 8:
        raise MalformedFrame("header is not a list of eight")
    return header


def _arrays(kind: str, schema: "_Schema", shapes: object, frames: Sequence[Frame]) -> list[Array]:
    """The array fields of a message, each checked against its frame before it is viewed."""
    count = len(schema.arrays)
    if not isinstance(shapes, list) or len(shapes) != count or len(frames) != count:
        raise MalformedFrame(f"{kind}: expected {count} arrays and frames, got {len(frames)}")
    if sum(len(frame) for frame in frames) > PAYLOAD_LIMIT:
        raise MalformedFrame(f"{kind}: payload over {PAYLOAD_LIMIT} bytes")
    return [
        _array(f"{kind}.{name}", row, frame)
        for name, row, frame in zip(schema.arrays, shapes, frames, strict=True)
    ]


def _array(name: str, row: object, frame: Frame) -> Array:
    """One array as a view of its frame."""
    if not isinstance(row, list) or not 2 <= len(row) <= 1 + DIMENSIONS_LIMIT:
        raise MalformedFrame(f"{name}: no dtype and shape")
    dtype, shape = row[0], row[1:]
    if dtype not in DTYPES:
        raise MalformedFrame(f"{name}: dtype {_name(dtype)} is not one of {DTYPES}")
    if not all(type(size) is int and 0 <= size <= PAYLOAD_LIMIT for size in shape):
        raise MalformedFrame(f"{name}: bad shape")
    if prod(size for size in shape if size) > PAYLOAD_LIMIT:
        raise MalformedFrame(f"{name}: shape {shape} is over the limit")
    expected = prod(shape) * np.dtype(dtype).itemsize
    if expected != len(frame):
        raise MalformedFrame(
            f"{name}: shape {shape} of {dtype} takes {expected} bytes, the frame holds {len(frame)}"
        )
    return np.frombuffer(frame, dtype=dtype).reshape(shape)


def _name(value: object) -> str:
    """A peer's value for a log line; of a text its start, of anything else its type alone."""
    return repr(value[:40]) if isinstance(value, str) else f"of type {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class _Schema:
    """How one kind of message is packed: its scalar fields with their checks, and its arrays."""

    kind: type[Message]
    scalars: list[tuple[str, Callable[[Any], bool]]]
    arrays: list[str]


_FORMS = {int(form): form for form in Form}
_PLAIN: dict[type, Callable[[Any], bool]] = {
    int: lambda value: type(value) is int and -(1 << 63) <= value < 1 << 63,
    float: lambda value: type(value) is float or type(value) is int,
    bool: lambda value: type(value) is bool,
    str: lambda value: type(value) is str,
    bytes: lambda value: type(value) is bytes,
}


def _fits(annotation: Any) -> Callable[[Any], bool]:
    """The check for one annotated field, all the way down."""
    origin = getattr(annotation, "__origin__", None)
    if origin is list:
        (inner,) = (_inner(argument) for argument in annotation.__args__)
        return lambda value: type(value) is list and all(map(inner, value))
    if origin is dict:
        inner = _inner(annotation.__args__[1])
        return lambda value: (
            type(value) is dict
            and all(type(key) is str for key in value)
            and all(map(inner, value.values()))
        )
    return _PLAIN[annotation]


def _inner(annotation: Any) -> Callable[[Any], bool]:
    return _plain if annotation is Any else _fits(annotation)


def _plain(value: Any, depth: int = 1) -> bool:
    """Whether a value is what JSON could hold, or bytes, and not nested without end."""
    if type(value) in (int, float, str, bool, bytes, type(None)):
        return True
    if depth >= DEPTH_LIMIT:
        return False
    if type(value) is list:
        return all(_plain(item, depth + 1) for item in value)
    return type(value) is dict and all(
        type(key) is str and _plain(item, depth + 1) for key, item in value.items()
    )


def _is_array(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is np.ndarray


def _schema(kind: type[Message]) -> _Schema:
    hints = get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    return _Schema(
        kind,
        [(name, _fits(hints[name])) for name in names if not _is_array(hints[name])],
        [name for name in names if _is_array(hints[name])],
    )


_SCHEMAS = {
    name: _schema(kind)
    for name, kind in vars(messages).items()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
}
