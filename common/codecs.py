"""Codecs: a slice of a float32 vector in fewer bytes, for pushed gradients and pulled values. Pure.

    f32    as it is                                                           4 bytes an element
    f16    IEEE half precision; a finite value beyond ±65,504 becomes that    2
    bf16   the upper half of a float32, rounded half to even                  2
    int8   blocks of 256 share a scale, max|x| / 127; rounded to the nearest  1.02
    topk   a fraction, `ratio`, of the entries: those of largest magnitude    8 ratio

**Error feedback** (Seide et al. 2014, "1-bit stochastic gradient descent"; Stich, Cordonnier and
Jaggi 2018, "Sparsified SGD with memory", algorithm 1; Karimireddy et al. 2019, "Error feedback
fixes SignSGD", algorithm 2): what a code C leaves out is kept and added to the next gradient,

    x = g + e;  c = C(x);  e = x - decode(c).

The rate is not part of e, as in Seide et al. and unlike the other two: the server chooses it. What
was sent and the residual e add up to the sum of all gradients; without feedback a biased code
(`topk`) ends beside the optimum. Values that are pulled are no sums, and so have no feedback.

**NaN and infinity** are never hidden. A gradient that holds one is flagged (`Encoded.finite`), its
whole slice travels as NaN (f32: as it is), and the residual stays as it was: the sender may drop
the push and count it, or send it and have it refused.

Names, lengths and what is refused live here, the loops in `codec_kernels`. Importing this module
imports numba (about a second): a process that only checks a job file does not.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from . import codec_kernels as kernels
from .rule_kernels import finite, read_only
from .sharding import Shards
from .types import Array, Float32

BLOCK = 256
"""Elements that share a scale in `int8`."""
RATIO = 0.01
"""The fraction of the entries that `topk` keeps unless told otherwise."""

Buffers = tuple[Array, Array]
"""The payload and the extra array that a codec writes: `Codec.buffers`."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A slice on its way: `name`, `payload` and `extra` travel.

    The arrays are the encoder's buffers, or for `f32` the gradient itself. With `finite` false the
    receiver decodes NaN or infinity, or refuses to decode.
    """

    name: str
    payload: Array
    extra: Array
    finite: bool

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.payload.nbytes + self.extra.nbytes


@dataclass(frozen=True)
class Codec(ABC):
    """One way to write n float32 elements as an array `payload` and an array `extra`.

    Immutable; any thread may use it, on buffers of its own.
    """

    name: ClassVar[str]
    payload_dtype: ClassVar[type[np.generic]]
    extra_dtype: ClassVar[type[np.generic]] = np.float32

    def lengths(self, n: int) -> tuple[int, int]:
        """Elements of `payload` and of `extra` for a slice of `n`."""
        return n, 0

    def buffers(self, n: int) -> Buffers:
        """Fresh buffers for slices of `n` elements."""
        payload, extra = self.lengths(n)
        return np.empty(payload, self.payload_dtype), np.empty(extra, self.extra_dtype)

    @abstractmethod
    def encode(self, gradient: Float32, buffers: Buffers, residual: Float32 | None) -> Encoded:
        """Write the code of `gradient` (n,), or of gradient + residual, into `buffers`.

        Arguments:
            gradient: contiguous float32; only read.
            buffers: made by `buffers(n)`; written, and lent to the result.
            residual: contiguous float32 (n,), zero before the first call: what earlier calls left
                out. Advanced, unless the sum holds NaN or infinity. None: nothing is kept.
        """

    @abstractmethod
    def write(self, values: Float32, buffers: Buffers) -> Array:
        """Write the code of contiguous float32 values into `buffers`; the payload that travels."""

    def decode(self, payload: Array, extra: Array, out: Float32) -> None:
        """Write the slice that was encoded into all of `out` (n,), contiguous float32.

        `payload` and `extra` may be anything, but must not change meanwhile. NaN and infinity in
        float payloads pass through.

        Raises:
            ValueError: they are no code of n elements. One line; nothing was written.
        """
        assert out.dtype == np.float32
        lengths = self._accepted(payload, out.size)
        self._check("payload", payload, self.payload_dtype, lengths[0])
        self._check("extra", extra, self.extra_dtype, lengths[1])
        self._read(_readable(payload), _readable(extra), out)

    def _accepted(self, payload: Array, n: int) -> tuple[int, int]:
        """The lengths that a peer's arrays must have for a slice of `n`."""
        return self.lengths(n)

    def _check(self, what: str, array: Array, dtype: type[np.generic], length: int) -> None:
        if array.dtype != dtype or array.shape != (length,):
            expected = f"{np.dtype(dtype)} {(length,)}"
            raise ValueError(
                f"{self.name}: {what} is {array.dtype} {array.shape}, expected {expected}"
            )

    @abstractmethod
    def _read(self, payload: Array, extra: Array, out: Float32) -> None:
        """Decode arrays of the right dtypes and lengths, or raise before anything is written."""


@dataclass(frozen=True)
class F32(Codec):
    """The identity: encoding lends the gradient itself, copies nothing and leaves nothing out."""

    name: ClassVar[str] = "f32"
    payload_dtype: ClassVar[type[np.generic]] = np.float32

    def buffers(self, n: int) -> Buffers:
        """Empty ones."""
        return np.empty(0, np.float32), np.empty(0, np.float32)

    def encode(self, gradient: Float32, buffers: Buffers, residual: Float32 | None) -> Encoded:
        """As `Codec.encode`; there is no residual."""
        assert residual is None
        return Encoded(self.name, gradient, buffers[1], finite(gradient))

    def write(self, values: Float32, buffers: Buffers) -> Array:
        """The values themselves."""
        return values

    def _read(self, payload: Array, extra: Array, out: Float32) -> None:
        np.copyto(out, payload)


class Lossy(Codec):
    """A codec that leaves something out, which a residual may keep."""

    def encode(self, gradient: Float32, buffers: Buffers, residual: Float32 | None) -> Encoded:
        """As `Codec.encode`."""
        payload, extra = buffers
        assert (payload.size, extra.size) == self.lengths(gradient.size)
        gradient = read_only(gradient)
        if residual is None:
            good = finite(gradient)
        else:
            assert residual.dtype == np.float32
            assert residual.shape == gradient.shape
            good = kernels.finite_sum(gradient, read_only(residual))
        if not good:
            self._spoil(buffers)
        elif residual is None:
            self.write(gradient, buffers)
        else:
            self._feed(gradient, residual, buffers)
        return Encoded(self.name, payload, extra, good)

    @abstractmethod
    def _feed(self, gradient: Float32, residual: Float32, buffers: Buffers) -> None:
        """Write the code of gradient + residual into `buffers`, what it leaves out in `residual`.

        The sums are finite.
        """

    def _spoil(self, buffers: Buffers) -> None:
        """Write a code of NaN alone."""
        buffers[0].fill(np.nan)


@dataclass(frozen=True)
class F16(Lossy):
    """IEEE half precision: relative error 2^-11 from 6.2e-5 to 65,504, below that 3e-8 absolute."""

    name: ClassVar[str] = "f16"
    payload_dtype: ClassVar[type[np.generic]] = np.float16

    def write(self, values: Float32, buffers: Buffers) -> Array:
        """As `Codec.write`. NaN and infinity stay what they are."""
        kernels.encode_f16(read_only(values), buffers[0].view(np.uint16))
        return buffers[0]

    def _feed(self, gradient: Float32, residual: Float32, buffers: Buffers) -> None:
        kernels.feed_f16(gradient, residual, buffers[0].view(np.uint16))

    def _read(self, payload: Array, extra: Array, out: Float32) -> None:
        kernels.decode_f16(payload.view(np.uint16), out)


@dataclass(frozen=True)
class BF16(Lossy):
    """bfloat16, carried as uint16: the range of float32, relative error 2^-8.

    A finite value beyond the largest, 3.39e38, becomes that.
    """

    name: ClassVar[str] = "bf16"
    payload_dtype: ClassVar[type[np.generic]] = np.uint16

    def write(self, values: Float32, buffers: Buffers) -> Array:
        """As `Codec.write`. NaN and infinity stay what they are."""
        kernels.encode_bf16(read_only(values), buffers[0])
        return buffers[0]

    def _feed(self, gradient: Float32, residual: Float32, buffers: Buffers) -> None:
        kernels.feed_bf16(gradient, residual, buffers[0])

    def _read(self, payload: Array, extra: Array, out: Float32) -> None:
        kernels.decode_bf16(payload, out)

    def _spoil(self, buffers: Buffers) -> None:
        buffers[0].fill(0x7FC0)


@dataclass(frozen=True)
class Int8(Lossy):
    """A byte an element and a float32 scale a block: an error of half a scale, max|x| / 254.

    A block whose scale would be denormal (max|x| below 1.5e-36) counts as zero.
    """

    name: ClassVar[str] = "int8"
    payload_dtype: ClassVar[type[np.generic]] = np.int8

    def lengths(self, n: int) -> tuple[int, int]:
        """`n`, and one scale a block."""
        return n, -(-n // BLOCK)

    def write(self, values: Float32, buffers: Buffers) -> Array:
        """As `Codec.write`. The values must be finite."""
        kernels.encode_int8(read_only(values), *buffers, BLOCK)
        return buffers[0]

    def _feed(self, gradient: Float32, residual: Float32, buffers: Buffers) -> None:
        kernels.feed_int8(gradient, residual, *buffers, BLOCK)

    def _read(self, payload: Array, extra: Array, out: Float32) -> None:
        if not finite(extra):
            raise ValueError("int8: a scale is NaN or infinite")
        kernels.decode_int8(payload, extra, out, BLOCK)

    def _spoil(self, buffers: Buffers) -> None:
        buffers[0].fill(0)
        buffers[1].fill(np.nan)


@dataclass(frozen=True)
class TopK(Lossy):
    """The k = max(1, ratio n) entries of largest magnitude; of equal ones those of lower index.

    `payload` holds their values (k,), `extra` their indices (k,), ascending. Any k is decoded.
    """

    name: ClassVar[str] = "topk"
    payload_dtype: ClassVar[type[np.generic]] = np.float32
    extra_dtype: ClassVar[type[np.generic]] = np.uint32

    ratio: float = RATIO

    def lengths(self, n: int) -> tuple[int, int]:
        """k twice; 0 for an empty slice."""
        k = min(n, max(1, round(self.ratio * n)))
        return k, k

    def write(self, values: Float32, buffers: Buffers) -> Array:
        """As `Codec.write`. The values must be finite."""
        kernels.encode_topk(read_only(values), *buffers)
        return buffers[0]

    def _feed(self, gradient: Float32, residual: Float32, buffers: Buffers) -> None:
        kernels.feed_topk(gradient, residual, *buffers)

    def _accepted(self, payload: Array, n: int) -> tuple[int, int]:
        k = min(payload.size, n)
        return k, k

    def _read(self, payload: Array, extra: Array, out: Float32) -> None:
        if out.size and not extra.size:
            raise ValueError("topk: nothing was kept")
        if not kernels.ascending(extra):
            raise ValueError("topk: the indices do not ascend")
        if extra.size and extra[-1] >= out.size:
            raise ValueError(f"topk: index {extra[-1]} in a slice of {out.size} elements")
        kernels.decode_topk(payload, extra, out)

    def _spoil(self, buffers: Buffers) -> None:
        super()._spoil(buffers)
        buffers[1][:] = np.arange(buffers[1].size)


CODECS: dict[str, Codec] = {codec.name: codec for codec in (F32(), F16(), BF16(), Int8(), TopK())}
"""All codecs by name; what they read does not depend on `ratio`."""
PULLED = ("f32", "f16", "bf16")
"""The codecs that values may be pulled in."""


def make_codec(name: str, ratio: float = RATIO) -> Codec:
    """The codec called `name`; `ratio`, above 0 and up to 1, is for `topk` alone."""
    assert 0 < ratio <= 1
    return TopK(ratio) if name == "topk" else CODECS[name]


def encoded_bytes(name: str, n: int, ratio: float = RATIO) -> int:
    """Bytes of a slice of `n` elements on its way, without the message's header."""
    codec = make_codec(name, ratio)
    payload, extra = codec.lengths(n)
    return (
        payload * np.dtype(codec.payload_dtype).itemsize
        + extra * np.dtype(codec.extra_dtype).itemsize
    )


def decode(name: str, payload: Array, extra: Array, out: Float32) -> None:
    """As `Codec.decode`, for a name that a peer sent: ValueError also where there is no such codec.

    Any thread may call it, each with its own `out`.
    """
    codec = CODECS.get(name)
    if codec is None:
        raise ValueError(f"no codec {name[:40]!r}, only {', '.join(CODECS)}")
    codec.decode(payload, extra, out)


def encode_values(name: str, values: Float32, buffers: Buffers) -> Array:
    """The payload of values (n,) that are pulled, NaN and infinity included; `extra` is empty.

    `name` is one of `PULLED`, and `buffers` are that codec's; the result lies in them (f32: in
    `values`).
    """
    assert name in PULLED
    return CODECS[name].write(values, buffers)


def warm_up_codec(name: str) -> None:
    """Load a codec's kernels, so that nobody waits for them later."""
    codec, gradient = CODECS[name], np.zeros(BLOCK, np.float32)
    kept = np.zeros(BLOCK, np.float32) if isinstance(codec, Lossy) else None
    for residual in (None, kept):
        code = codec.encode(gradient, codec.buffers(gradient.size), residual)
        decode(name, code.payload, code.extra, gradient)


class Encoder:
    """The pushes of one lane: buffers for each shard, and what was left out of them.

    A shard's buffers are lent with each `Encoded` until its reply is there, so that a shard must
    not be encoded again while its push is open; a push that is sent once more (another owner, no
    answer) is the same `Encoded`, for the residual has moved on. One thread at a time may call it.

    Arguments:
        numbers: the shards that are pushed, one behind the other; None: all.
    Attributes:
        residual: float32, theirs, zero at first; empty without feedback (and for `f32`).
    """

    def __init__(
        self, codec: Codec, shards: Shards, feedback: bool, numbers: range | None = None
    ) -> None:
        self.codec, self.shards = codec, shards
        self.feedback = feedback and isinstance(codec, Lossy)
        spans = {n: shards.span(n) for n in (range(shards.count) if numbers is None else numbers)}
        self._begin = min((begin for begin, _ in spans.values()), default=0)
        size = sum(end - begin for begin, end in spans.values())
        self.residual = np.zeros(size if self.feedback else 0, np.float32)
        self._buffers = {n: codec.buffers(end - begin) for n, (begin, end) in spans.items()}

    def encode(self, shard: int, gradient: Float32) -> Encoded:
        """The code of a shard's gradient, contiguous float32 of the shard's size; only read."""
        begin, end = self.shards.span(shard)
        assert gradient.shape == (end - begin,)
        kept = self.residual[begin - self._begin : end - self._begin]
        residual = kept if self.feedback else None
        return self.codec.encode(gradient, self._buffers[shard], residual)


def _readable(array: Array) -> Any:
    """What the kernels are compiled for, of an array that lies anywhere in a frame."""
    return read_only(np.require(array, requirements=("C", "A")))
