"""Sealed messages: nonces, order, and what becomes of a single changed bit. The oracle is AES-GCM
itself, called with what the format says, and the vectors that NIST published for it."""

import struct
from itertools import islice, pairwise

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.sealing import (
    FRAMES_LIMIT,
    HALF,
    LAST,
    LEAST,
    PREFIX,
    TAG,
    End,
    Opener,
    Replayed,
    Sealer,
    Spent,
    Unsealed,
    agree,
    lane_of,
)

KEY, OTHER_KEY = b"k" * 16, b"j" * 16
LANE = b"lane no1"
SEEN = 7
"""What the sealer's end has opened, the other way."""
HEADER = b"\x98header of a message"
ARRAYS = [b"a" * 1000, b"", b"b" * 33]


def room(size: int) -> memoryview:
    return memoryview(bytearray(size))


def sealer(key: bytes = KEY, lane: bytes = LANE) -> Sealer:
    return Sealer(key, lane)


def seal(one: Sealer, *frames: bytes) -> list[bytearray]:
    """The sealed frames as they come from a socket: in memory of their own that can be written."""
    return [bytearray(frame) for frame in one.seal(frames, SEEN, room)]


def opened(one: Opener, frames: list[bytearray]) -> list[bytes]:
    return [bytes(frame) for frame in one.open([memoryview(frame) for frame in frames])]


# What the format says.


def test_what_is_sealed_is_opened() -> None:
    one, other = sealer(), Opener(KEY, LANE)
    for turn in range(3):
        frames = [HEADER + b"%d" % turn, *ARRAYS]
        assert opened(other, seal(one, *frames)) == frames
    assert one.counter == other.counter == 3
    assert other.acknowledged == SEEN


def test_the_format_is_aes_gcm_with_this_nonce_and_these_bound_bytes() -> None:
    one = sealer()
    seal(one, HEADER)
    first, *arrays = map(bytes, seal(one, HEADER, *ARRAYS))
    prefix = LANE + struct.pack(">Q", 2)
    assert first[:PREFIX] == prefix
    cipher = AESGCM(KEY)
    count = struct.pack(">I", 1 + len(ARRAYS))
    clear = struct.pack(">Q", SEEN) + HEADER
    assert cipher.decrypt(struct.pack(">QI", 2, 0), first[PREFIX:], prefix + count) == clear
    for place, (array, plain) in enumerate(zip(arrays, ARRAYS, strict=True), 1):
        assert cipher.decrypt(struct.pack(">QI", 2, place), array, first) == plain


@pytest.mark.parametrize(
    ("key", "nonce", "plain", "sealed"),
    [
        # "The Galois/Counter Mode of Operation (GCM)", McGrew and Viega, test cases 1 and 2.
        (bytes(16), bytes(12), b"", "58e2fccefa7e3061367f1d57a4e7455a"),
        (
            bytes(16),
            bytes(12),
            bytes(16),
            "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf",
        ),
    ],
)
def test_the_cipher_gives_the_published_values(
    key: bytes, nonce: bytes, plain: bytes, sealed: str
) -> None:
    assert AESGCM(key).encrypt(nonce, plain, b"").hex() == sealed


def test_nothing_can_be_read_but_the_sizes() -> None:
    secret = b"nobody shall read this"
    sealed = b"".join(seal(sealer(), secret, secret * 50))
    assert len(sealed) == LEAST + 51 * len(secret) + TAG
    assert secret not in sealed
    assert sealed.count(sealed[PREFIX : PREFIX + 8]) == 1


def test_arrays_are_opened_in_the_memory_that_they_came_in() -> None:
    frames = seal(sealer(), HEADER, b"x" * 100)
    _, array = Opener(KEY, LANE).open([memoryview(frame) for frame in frames])
    assert isinstance(array, memoryview)
    assert not array.readonly
    assert array.nbytes == 100
    assert bytes(frames[1][:100]) == b"x" * 100


def test_what_cannot_be_written_is_opened_elsewhere() -> None:
    frames = [bytes(frame) for frame in seal(sealer(), HEADER, b"x" * 100)]
    _, array = Opener(KEY, LANE).open(frames)
    assert array == b"x" * 100


# Counters and nonces.


@given(st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=6), max_size=12), st.data())
def test_no_nonce_comes_twice(messages: list[list[bytes]], data: st.DataObject) -> None:
    """Whatever is sealed, and however much of it the socket has taken: a frame is sealed under
    the nonce that its message's counter and its place make, and no counter comes twice."""
    one, seen = sealer(), set()
    for frames in messages:
        taken = data.draw(st.integers(0, len(frames)))
        sealed = [bytes(frame) for frame in islice(one.seal(frames, SEEN, room), taken)]
        for place, frame in enumerate(sealed):
            nonce = sealed[0][8:PREFIX] + struct.pack(">I", place)
            assert nonce not in seen
            seen.add(nonce)
            if place:
                assert AESGCM(KEY).decrypt(nonce, frame, sealed[0]) == frames[place]
    assert one.counter == len(messages)


def test_a_key_whose_counters_are_used_up_seals_no_more() -> None:
    one, other = sealer(), Opener(KEY, LANE)
    one.counter = LAST - 1
    assert opened(other, seal(one, HEADER)) == [HEADER]
    for _ in range(2):
        with pytest.raises(Spent):
            one.seal([HEADER], SEEN, room)
    assert one.counter == LAST


@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=8))
def test_only_growing_counters_are_taken(order: list[int], again: list[int]) -> None:
    """Reordered, repeated and lost: what is opened is in the order in which it was sealed."""
    one, other = sealer(), Opener(KEY, LANE)
    sealed = [seal(one, b"%d" % number, b"x" * 9) for number in range(8)]
    came: list[int] = []
    for number in [*order, *again]:
        frames = [bytearray(frame) for frame in sealed[number]]
        if number > max(came, default=-1):
            assert opened(other, frames) == [b"%d" % number, b"x" * 9]
            came.append(number)
        else:
            with pytest.raises(Replayed):
                opened(other, frames)
    assert all(earlier < later for earlier, later in pairwise(came))


# Strangers.


def test_one_changed_bit_anywhere_is_refused() -> None:
    sealed = seal(sealer(), HEADER, *ARRAYS)
    for place, frame in enumerate(sealed):
        for bit in range(8 * len(frame)) if len(frame) < 100 else range(0, 8 * len(frame), 97):
            frames = [bytearray(other) for other in sealed]
            frames[place][bit // 8] ^= 1 << bit % 8
            other = Opener(KEY, LANE)
            with pytest.raises((Unsealed, Replayed)):
                opened(other, frames)
            assert other.counter == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda frames: [],
        lambda frames: frames[:1],
        lambda frames: frames[:-1],
        lambda frames: [*frames, bytearray(TAG)],
        lambda frames: [frames[0], frames[3], frames[2], frames[1]],
        lambda frames: [frames[0][:-1], *frames[1:]],
        lambda frames: [frames[0], frames[1][:-1], *frames[2:]],
        lambda frames: [frames[0], frames[1][: TAG - 1], *frames[2:]],
        lambda frames: [frames[0], bytearray(), *frames[2:]],
        lambda frames: [frames[0][:LEAST], *frames[1:]],
        lambda frames: [frames[0][: LEAST - 1], *frames[1:]],
        lambda frames: [frames[0], *[bytearray(TAG)] * FRAMES_LIMIT],
        lambda frames: [bytearray()],
        lambda frames: [LANE + struct.pack(">Q", 2) + frames[0][PREFIX:], *frames[1:]],
        lambda frames: [b"lane no2" + frames[0][8:], *frames[1:]],
    ],
)
def test_what_is_cut_longer_or_in_another_order_is_refused(damage) -> None:
    sealed = seal(sealer(), HEADER, *ARRAYS)
    other = Opener(KEY, LANE)
    with pytest.raises(Unsealed):
        opened(other, damage([bytearray(frame) for frame in sealed]))
    assert opened(other, sealed) == [HEADER, *ARRAYS]


def test_frames_of_two_messages_do_not_mix() -> None:
    one = sealer()
    first, second = (seal(one, b"%d" % number, b"x" * 50) for number in range(2))
    with pytest.raises(Unsealed):
        opened(Opener(KEY, LANE), [second[0], first[1]])


def test_another_key_opens_nothing() -> None:
    with pytest.raises(Unsealed):
        opened(Opener(OTHER_KEY, LANE), seal(sealer(), HEADER, *ARRAYS))


def test_what_says_no_lane_belongs_to_none() -> None:
    assert lane_of(bytes(seal(sealer(), b"")[0])) == LANE
    for first in (b"", LANE, b"x" * (LEAST - 1)):
        assert lane_of(first) == b""


# Agreement.

ASKER = End(b"\x01asker..1", "A" * 40, b"a" * HALF)
ANSWERER = End(b"\x01answer.2", "B" * 40, b"b" * HALF)


def test_both_directions_have_keys_of_their_own() -> None:
    session = agree(ASKER, ANSWERER)
    assert len(session.lane) == 8
    assert len(session.asker_key) == len(session.answerer_key) == 16
    assert session.asker_key != session.answerer_key
    assert session == agree(ASKER, ANSWERER)
    sent = seal(sealer(session.asker_key, session.lane), HEADER)
    with pytest.raises(Unsealed):
        opened(Opener(session.answerer_key, session.lane), sent)


def test_the_agreement_is_hkdf_with_all_that_names_the_ends() -> None:
    """RFC 5869 by hand, from HMAC alone."""

    def mac(key: bytes, text: bytes) -> bytes:
        made = hmac.HMAC(key, hashes.SHA256())
        made.update(text)
        return made.finalize()

    parts = [b"dualshard lane 1", ASKER.name, b"A" * 40, ANSWERER.name, b"B" * 40]
    info = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    secret = mac(bytes(32), ASKER.half + ANSWERER.half)
    made, block = b"", b""
    for number in range(1, 3):
        block = mac(secret, block + info + bytes([number]))
        made += block
    session = agree(ASKER, ANSWERER)
    assert session.lane + session.asker_key + session.answerer_key == made[:40]


def test_every_byte_that_goes_in_changes_all_keys() -> None:
    sessions = [
        agree(ASKER, ANSWERER),
        agree(ANSWERER, ASKER),
        agree(End(ASKER.name, ASKER.key, b"c" * HALF), ANSWERER),
        agree(ASKER, End(ANSWERER.name, ANSWERER.key, b"c" * HALF)),
        agree(End(b"\x01asker..2", ASKER.key, ASKER.half), ANSWERER),
        agree(ASKER, End(b"\x01answer.3", ANSWERER.key, ANSWERER.half)),
        agree(End(ASKER.name, "C" * 40, ASKER.half), ANSWERER),
        agree(ASKER, End(ANSWERER.name, "C" * 40, ANSWERER.half)),
    ]
    for field in ("lane", "asker_key", "answerer_key"):
        assert len({getattr(session, field) for session in sessions}) == len(sessions)
