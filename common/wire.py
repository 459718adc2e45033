"""Messages to frames and back. Pure: bytes in, checked data out.

A message is one msgpack header frame and one raw frame an array, but for empty ones at the end.
Nothing is unpickled, no object hook runs, and kinds, types, sizes, dtypes and shapes are checked
against limits before anything is allocated or viewed. What a header claims is believed only once
its bytes are there: memory is bounded by what has arrived, never by a number in it. The header is

    [protocol, kind, source, form, sequence, floor, fields, arrays]

with the scalar fields in the order of the dataclass and arrays as [dtype, dimension, ...].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import prod
from operator import attrgetter
from typing import Any, get_type_hints

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
DTYPES = ("<f4", "<f2", "<i8", "<i4", "|i1", "|u1", "<u2", "<u4")
CLAIMS_LITTLE = 128
"""Bytes of a header in which lists within each other cannot claim more than 50 kB."""
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
    message = envelope.message
    schema = _SCHEMAS[type(message).__name__]
    rows: list[list[Any]] = []
    frames: Frames = [b""]
    size = 0
    for name in schema.arrays:
        array: Array = getattr(message, name)
        dtype = array.dtype.str
        if dtype not in DTYPES:
            raise RoleError(f"{schema.name}.{name}: cannot send dtype {dtype}, only {DTYPES}")
        rows.append([dtype, *array.shape])
        frames.append(_frame(array))
        size += array.nbytes
    if size > PAYLOAD_LIMIT:
        raise RoleError(f"{schema.name} of {size} bytes: one message carries {PAYLOAD_LIMIT}")
    frames[0] = _packed(envelope, schema, rows)
    if bare := _bare(rows):
        del frames[-bare:]
    return frames


def _packed(envelope: Envelope, schema: "_Schema", rows: list[list[Any]]) -> bytes:
    """The header frame."""
    packed = _pack(
        (
            envelope.protocol,
            schema.name,
            envelope.source,
            int(envelope.form),
            envelope.sequence,
            envelope.floor,
            schema.values(envelope.message),
            rows,
        )
    )
    if len(packed) > HEADER_LIMIT:
        raise RoleError(f"{schema.name} with {len(packed)} bytes of header: {HEADER_LIMIT} fit")
    return packed


def decode(frames: Sequence[Frame]) -> Envelope:
    """The message in `frames`, with arrays as read-only views of its frames.

    Raises:
        ProtocolMismatch: a well-formed header of another version.
        MalformedFrame: anything else that is no message.
    """
    protocol, kind, source, form, sequence, floor, scalars, rows = _header(frames)
    if not all(map(_natural, (protocol, source, form, sequence, floor))):
        raise MalformedFrame("header numbers are not natural numbers below 2^63")
    if protocol != PROTOCOL and kind not in ANY_PROTOCOL:
        raise ProtocolMismatch(protocol)
    schema = _SCHEMAS.get(kind) if isinstance(kind, str) else None
    if schema is None:
        raise MalformedFrame(f"unknown kind {_name(kind)}")
    if form not in _FORMS:
        raise MalformedFrame(f"{kind}: form {form} is not 0, 1 or 2")
    arrays = _arrays(schema, rows, frames)
    schema.check(scalars)
    message = schema.build(scalars, arrays)
    return Envelope(source, _FORMS[form], sequence, floor, message, protocol)


def take_over(array: Array) -> Array | None:
    """The memory of a received array, to be written over and sent back, without a copy on either
    way; None where it is not the receiver's to write (the frame is bytes, or holds more).

    Only for the one whom the message was for, once, and only while nobody else was given the
    array: what has been sent on from this memory may still be on its way.
    """
    frame = _came_in(array)
    if frame is None or frame.readonly:
        return None
    return np.frombuffer(frame, array.dtype).reshape(array.shape)


def _natural(number: object) -> bool:
    return type(number) is int and 0 <= number < 1 << 63


def _frame(array: Array) -> Frame:
    """The bytes of a contiguous array, viewed; of a received one the frame that it came in."""
    assert array.flags.c_contiguous
    return _came_in(array) or (array.data.cast("B") if array.size else b"")


def _came_in(array: Array) -> memoryview | None:
    """The frame that a received array fills; None for any other array, or an empty one."""
    base: object = array.base
    if isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview) and base.nbytes == array.nbytes and base.format == "B":
        return base
    return None


def _header(frames: Sequence[Frame]) -> list[Any]:
    """The unpacked header frame, a list of eight."""
    if not frames or not 0 < len(frames[0]) <= HEADER_LIMIT:
        raise MalformedFrame("no header frame, or one over the limit")
    try:
        # Unpacking makes room for as many elements as a list claims; skipping makes none, and
        # fails unless each of them is there. In few bytes not much can be claimed.
        if len(frames[0]) > CLAIMS_LITTLE:
            skimmer = msgpack.Unpacker(max_buffer_size=len(frames[0]))
            skimmer.feed(frames[0])
            skimmer.skip()
        header = msgpack.unpackb(frames[0], strict_map_key=True, max_ext_len=0)
    except Exception as broken:  # msgpack raises a dozen unrelated types on random bytes
        raise MalformedFrame(f"header is no msgpack: {type(broken).__name__}") from None
    if not isinstance(header, list) or len(header) != 8:
        raise MalformedFrame("header is not a list of eight")
    return header


def _arrays(schema: "_Schema", rows: object, frames: Sequence[Frame]) -> list[Array]:
    """The array fields of a message, each checked against its frame before it is viewed."""
    count, came = len(schema.arrays), len(frames) - 1
    if type(rows) is not list or len(rows) != count or not came <= count <= came + _bare(rows):
        raise MalformedFrame(f"{schema.name}: expected {count} arrays and frames, got {came}")
    if not count:
        return []
    if sum(map(len, frames)) - len(frames[0]) > PAYLOAD_LIMIT:
        raise MalformedFrame(f"{schema.name}: payload over {PAYLOAD_LIMIT} bytes")
    carried = [*frames[1:], *[b""] * (count - came)]
    return [_array(schema.labels[at], rows[at], carried[at]) for at in range(count)]


def _bare(rows: list[Any]) -> int:
    """How many arrays at the end are empty: those have no frame."""
    count = 0
    for row in reversed(rows):
        if type(row) is not list or row[1:] != [0]:
            break
        count += 1
    return count


def _array(name: str, row: object, frame: Frame) -> Array:
    """One array as a view of its frame."""
    if row == _NO_ROW and not frame:
        return _NOTHING
    if type(row) is not list or not 2 <= len(row) <= 1 + DIMENSIONS_LIMIT:
        raise MalformedFrame(f"{name}: no dtype and shape")
    dtype = _DTYPES.get(row[0]) if type(row[0]) is str else None
    if dtype is None:
        raise MalformedFrame(f"{name}: dtype {_name(row[0])} is not one of {DTYPES}")
    if len(row) > 2 or type(row[1]) is not int or row[1] * dtype.itemsize != len(frame):
        _check_shape(name, row, dtype.itemsize, len(frame))
    array = np.frombuffer(frame, dtype)
    array.setflags(write=False)
    return array if len(row) == 2 else array.reshape(row[1:])


def _check_shape(name: str, row: list[Any], itemsize: int, size: int) -> None:
    """Raises `MalformedFrame` unless a shape fills a frame of `size` bytes."""
    shape = row[1:]
    if not all(type(size) is int and 0 <= size <= PAYLOAD_LIMIT for size in shape):
        raise MalformedFrame(f"{name}: bad shape")
    if prod(size for size in shape if size) > PAYLOAD_LIMIT:
        raise MalformedFrame(f"{name}: shape {shape} is over the limit")
    expected = prod(shape) * itemsize
    if expected != size:
        raise MalformedFrame(
            f"{name}: shape {shape} of {row[0]} takes {expected} bytes, the frame holds {size}"
        )


def _name(value: object) -> str:
    """A peer's value for a log line; of a text its start, of anything else its type alone."""
    return repr(value[:40]) if isinstance(value, str) else f"of type {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class _Schema:
    """How one kind of message is packed: its scalar fields with their checks, and its arrays.

    `values` reads the scalar fields off a message. `types` are theirs, of which one comparison
    spares most checks; what remains are the places of `whole` numbers, for their range, and of
    lists and dictionaries (`nested`). `ordered`: no scalar field stands behind an array.
    """

    name: str
    kind: type[Message]
    scalars: list[tuple[str, Callable[[Any], bool]]]
    arrays: list[str]
    labels: list[str]
    values: Callable[[Message], Sequence[Any]]
    types: tuple[type, ...]
    whole: list[int]
    nested: list[int]
    ordered: bool

    def check(self, scalars: object) -> None:
        """Raises `MalformedFrame` unless these are the scalar fields, each of its type."""
        if type(scalars) is not list or len(scalars) != len(self.scalars):
            raise MalformedFrame(f"{self.name}: expected {len(self.scalars)} fields")
        if (
            (*map(type, scalars),) == self.types
            # Below -2^63 msgpack has nothing.
            and all(scalars[at] < 1 << 63 for at in self.whole)
            and all(self.scalars[at][1](scalars[at]) for at in self.nested)
        ):
            return
        for (name, fits), value in zip(self.scalars, scalars, strict=True):
            if not fits(value):
                what = type(value).__name__
                raise MalformedFrame(f"{self.name}.{name}: a {what} does not fit")

    def build(self, scalars: list[Any], arrays: list[Array]) -> Message:
        """The message of checked fields."""
        if self.ordered:
            return self.kind(*scalars, *arrays)
        values = dict(zip(self.arrays, arrays, strict=True))
        names = (name for name, _ in self.scalars)
        return self.kind(**values, **dict(zip(names, scalars, strict=True)))


_DTYPES = {name: np.dtype(name) for name in DTYPES}
# Most pushes have arrays that hold nothing: one of them serves all.
_NO_ROW = ["<f4", 0]
_NOTHING: Array = np.frombuffer(b"", np.float32)
# One packer for all: it keeps its buffer. It never runs Python code, so that threads take turns.
_pack: Callable[[object], bytes] = msgpack.Packer(autoreset=True).pack
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
    arrays = [name for name in names if _is_array(hints[name])]
    scalars = [name for name in names if not _is_array(hints[name])]
    types = tuple(getattr(hints[name], "__origin__", hints[name]) for name in scalars)
    return _Schema(
        kind.__name__,
        kind,
        [(name, _fits(hints[name])) for name in scalars],
        arrays,
        [f"{kind.__name__}.{name}" for name in arrays],
        _reader(scalars),
        types,
        [at for at, of in enumerate(types) if of is int],
        [at for at, of in enumerate(types) if of not in _PLAIN],
        names == [*scalars, *arrays],
    )


def _reader(names: list[str]) -> Callable[[Message], Sequence[Any]]:
    """What reads these fields off a message, as a sequence."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: [getattr(message, name) for name in names]


_SCHEMAS = {
    name: _schema(kind)
    for name, kind in vars(messages).items()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
}
