"""Sealed messages: session keys that two roles agree on, and frames under AES-GCM. Pure.

Both ends of a connection that already hides what it carries (CURVE) add 32 random bytes each;
HKDF-SHA256 (RFC 5869) makes of them an AES-128 key for each direction, as strong as CURVE's, and a
number that names the lane. Every agreement makes new ones: none ever serves two lives of a role.

Each frame of a message is sealed by itself under AES-GCM (NIST SP 800-38D), with its tag behind it;
only before the first one stand 16 bytes in the clear:

    first frame          = prefix | sealed: acknowledged counter (8 bytes), header
    prefix               = number of the lane (8 bytes) | counter of the message (8 bytes)
    nonce of a frame     = counter (8 bytes) | place of the frame in the message (4 bytes)
    bound to the first   = prefix | how many frames there are (4 bytes)
    bound to an array    = the whole first frame

What is acknowledged is the last counter that the sender has opened, the other way.

A counter is given out once and a key has one `Sealer`, so no nonce comes twice under a key. An
`Opener` takes growing counters alone: what comes again, or late, is refused. Gaps are allowed:
messages may be lost. Neither is thread-safe; AES runs without Python's lock.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import RemoteError
from .wire import Frame, Frames

HALF = 32
"""Random bytes that each end adds."""
TAG = 16
"""Bytes by which a frame grows."""
LANE = 8
"""Bytes of a lane's number."""
LAST = 1 << 32
"""Messages under one key: at 1 MiB each, 2^48 blocks, with which AES-GCM is still told from
randomness with a chance below 2^-32."""
FRAMES_LIMIT = 64
"""Frames of one message, the header included."""

_PREFIX = struct.Struct(">8sQ")
_NONCE = struct.Struct(">QI")
_ACKNOWLEDGED = struct.Struct(">Q")
_COUNT = struct.Struct(">I")
_KEY = 16
PREFIX = _PREFIX.size
LEAST = PREFIX + _ACKNOWLEDGED.size + TAG
"""Bytes of the first frame of any sealed message."""


class Unsealed(RemoteError):
    """Frames that this key has not sealed, or that somebody has changed."""


class Replayed(RemoteError):
    """A message that comes again, or behind a later one."""


class Spent(Exception):
    """All counters of this key have been given out: a new one must be agreed on."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of an agreement: the name of this life of the role (`delivery.routing_id`), its
    public key (Z85), and the bytes that it adds, `HALF` of them."""

    name: bytes
    key: str
    half: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """What both ends know in the end. The keys are secret; the lane's number is seen by all."""

    lane: bytes
    asker_key: bytes
    answerer_key: bytes


def agree(asker: End, answerer: End) -> Session:
    """The session of these two ends: the same for both, and another one if a single byte differs.

    Arguments:
        asker: whoever has connected; it seals with `asker_key`.
    """
    assert len(asker.half) == len(answerer.half) == HALF
    parties = [asker.name, asker.key.encode(), answerer.name, answerer.key.encode()]
    # With its length before each, no two lists of parts read the same.
    info = b"".join(_COUNT.pack(len(part)) + part for part in (b"dualshard lane 1", *parties))
    length = LANE + 2 * _KEY
    made = HKDF(SHA256(), length, None, info).derive(asker.half + answerer.half)
    return Session(made[:LANE], made[LANE : LANE + _KEY], made[LANE + _KEY :])


class Sealer:
    """Seals messages of one direction, under a key that nobody else seals with."""

    def __init__(self, key: bytes, lane: bytes) -> None:
        self._cipher, self._lane = AESGCM(key), lane
        self.counter = 0
        """Of the last message; 0 before the first."""

    def seal(
        self, frames: Sequence[Frame], acknowledged: int, room: Callable[[int], memoryview]
    ) -> Iterator[Frame]:
        """The sealed frames of a message, one by one; its counter is used up even if not all of
        them are taken. The frames must not change before they are sealed.

        Arguments:
            room: gives memory for so many bytes of a sealed array; it may give the same again for
                the next one, if whoever takes the frames is done with each before taking another.
        Raises:
            Spent: at once, if there are no counters left.
        """
        if self.counter >= LAST:
            raise Spent
        self.counter += 1
        return self._frames(self.counter, frames, acknowledged, room)

    def _frames(
        self,
        counter: int,
        frames: Sequence[Frame],
        acknowledged: int,
        room: Callable[[int], memoryview],
    ) -> Iterator[Frame]:
        prefix = _PREFIX.pack(self._lane, counter)
        header, *arrays = frames
        clear = _ACKNOWLEDGED.pack(acknowledged) + header
        bound = prefix + _COUNT.pack(len(frames))
        first = prefix + self._cipher.encrypt(_NONCE.pack(counter, 0), clear, bound)
        yield first
        for place, array in enumerate(arrays, 1):
            sealed = room(len(array) + TAG)
            self._cipher.encrypt_into(_NONCE.pack(counter, place), array, first, sealed)
            yield sealed


class Opener:
    """Opens messages of one direction."""

    def __init__(self, key: bytes, lane: bytes) -> None:
        self._cipher, self._lane = AESGCM(key), lane
        self.counter = 0
        """Of the last message that was opened; 0 before the first."""
        self.acknowledged = 0
        """What that message has acknowledged."""

    def open(self, frames: Sequence[Frame]) -> Frames:
        """The frames of a sealed message: the header as bytes, and each array in the memory that
        it came in, less the tag's, where that can be written (else in memory of its own).

        Raises:
            Replayed: its counter is none that is still to come.
            Unsealed: anything else is not as it was sealed. Arrays may have been written over.
        """
        if not 0 < len(frames) <= FRAMES_LIMIT or lane_of(frames[0]) != self._lane:
            raise Unsealed("no message of this lane")
        first, arrays = bytes(frames[0]), frames[1:]
        prefix, sealed = first[:PREFIX], first[PREFIX:]
        counter = int(_PREFIX.unpack(prefix)[1])
        if counter <= self.counter:
            raise Replayed(f"message {counter} after message {self.counter}")
        bound = prefix + _COUNT.pack(len(frames))
        try:
            clear = self._cipher.decrypt(_NONCE.pack(counter, 0), sealed, bound)
            opened: Frames = [clear[_ACKNOWLEDGED.size :]]
            for place, array in enumerate(arrays, 1):
                opened.append(self._array(_NONCE.pack(counter, place), array, first))
        except (InvalidTag, ValueError):  # ValueError: shorter than a tag
            raise Unsealed(f"message {counter} is not as its sender sealed it") from None
        self.counter, self.acknowledged = counter, int(_ACKNOWLEDGED.unpack_from(clear)[0])
        return opened

    def _array(self, nonce: bytes, array: Frame, first: bytes) -> memoryview:
        came = memoryview(array)
        size = len(came) - TAG
        if size < 0:
            raise ValueError
        room = memoryview(bytearray(size)) if came.readonly else came[:size]
        self._cipher.decrypt_into(nonce, came, first, room)
        return room


def lane_of(first: Frame) -> bytes:
    """The number of the lane that a message says it belongs to by its first frame; empty if that is
    too short for any."""
    return bytes(first[:LANE]) if len(first) >= LEAST else b""
