"""`bench encrypted`: push, apply and pull over tcp in the clear, under CURVE alone, and sealed.

One worker's end here and two real `dualshard paramserver`, one without keys and one with: small
messages go by CURVE from whoever has keys, and large ones by a sealed lane, which the end called
`CURVE alone` does without. Measured in interleaved rounds, as in `push_pull`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..common.errors import RoleError
from ..common.keys import write_pair
from ..common.runtime import keep_freed_memory
from ..common.sealing import TAG
from ..common.sharding import SHARD_ELEMENTS
from ..common.transport import new_pair
from ..common.types import Role
from .arena import Arena, arena
from .push_pull import PROCESSOR, our_side, processor
from .report import Row, compare
from .sides import Side, in_turn

PLAIN, CURVE, SEALED, SHARED = "plain tcp", "CURVE alone", "sealed", "shared memory"
WAYS = {PLAIN: "tcp", CURVE: "curve", SEALED: "sealed", SHARED: "shm"}
GOAL = 0.65
"""Of plain tcp, sealed."""
NONCE = bytes(12)
"""Of no secret."""

TURNS, LONG = 5, 0.5
"""How often, in turn, and for how many seconds processor time is counted: the kernel does so in
ticks of 0.01."""

Rounds = Mapping[str, Sequence[float]]
Found = dict[str, list[float]]


def bench_encrypted(
    size: int, rules: Sequence[str], rounds: int, seconds: float, say: Callable[[str], None]
) -> list[Row]:
    """GB/s of both directions together, processor time, and the speed of AES-GCM alone, for a
    model of `size` MiB; see `bench_push_pull`.

    Raises:
        RoleError: as there, or a message did not go by the way that is claimed.
    """
    keep_freed_memory()
    rows: list[Row] = []
    measure = partial(in_turn, rounds=rounds, seconds=seconds, say=say)
    for rule in rules:
        say(f"{size} MiB, {rule}")
        with TemporaryDirectory(prefix="dualshard-") as folder:
            found = _measure(size * SHARD_ELEMENTS, rule, Path(folder), measure)
        rows += make_rows(size, rule, found)
    for what, opens in (("sealing", False), ("opening", True)):
        speeds = [cipher(seconds, opens)]
        rows.append(compare(f"AES-128-GCM of 1 MiB on one core, {what}", "GB/s", speeds))
    return rows


def _measure(
    elements: int, rule: str, folder: Path, measure: Callable[[Sequence[Side]], Found]
) -> Found:
    """GB/s by side, and processor time a round trip."""
    keys = folder / "keys"
    for role in Role:
        write_pair(keys, role, new_pair())
    with ExitStack() as stack:
        clear = [(WAYS[name], "f32") for name in (PLAIN, SHARED)]
        hidden = [(WAYS[name], "f32") for name in (CURVE, SEALED)]
        plain = stack.enter_context(arena(rule, elements, clear, folder))
        keyed = stack.enter_context(arena(rule, elements, hidden, folder, keys=keys))
        places = {PLAIN: plain, CURVE: keyed, SEALED: keyed, SHARED: plain}
        sides = [
            our_side(name, place, place.ends[WAYS[name], "f32"]) for name, place in places.items()
        ]
        found = measure(sides)
        found |= {PROCESSOR + side.name: [] for side in sides}
        for _ in range(TURNS):
            for side in sides:
                (server,) = places[side.name].servers
                found[PROCESSOR + side.name].append(processor(side, LONG, [server.pid]))
        for place in (plain, keyed):
            place.check_each()
        check_lanes(keyed)
    return found


def check_lanes(place: Arena) -> None:
    """Raises `RoleError` unless all went the way that is claimed: by the lane what was pushed at
    that end, but for the first few, and nothing at the other."""
    alone, sealed = (place.ends[way, "f32"].counted for way in ("curve", "sealed"))
    if sealed["sealed_messages"] < sum(place.model.pushes) // 8 or sealed["lanes_lost"]:
        raise RoleError(f"the sealed lane did not stand: {dict(sealed)}")
    if alone["sealed_messages"]:
        raise RoleError(f"CURVE was not alone: {dict(alone)}")


def make_rows(size: int, rule: str, found: Rounds) -> list[Row]:
    """The rows of one model and rule."""

    def row(ours: str, theirs: str, goal: float | None = None) -> Row:
        name = f"{ours}, {rule}, {size} MiB, against {theirs}"
        return compare(name, "GB/s", found[ours], found[theirs], goal)

    def time(ours: str) -> Row:
        name = f"{PROCESSOR}{ours}, {rule}, {size} MiB, against {PLAIN}"
        mine, plain = found[PROCESSOR + ours], found[PROCESSOR + PLAIN]
        return compare(name, "µs", mine, plain, less_is_better=True)

    return [
        row(SEALED, PLAIN, GOAL),
        row(CURVE, PLAIN),
        row(SEALED, CURVE),
        row(SHARED, PLAIN),
        time(SEALED),
        time(CURVE),
    ]


def cipher(seconds: float, opens: bool) -> float:
    """GB/s of AES-GCM over a shard, one after the other, in memory that stays the same."""
    aes = AESGCM(AESGCM.generate_key(128))
    clear = bytearray(os.urandom(4 * SHARD_ELEMENTS))
    sealed = bytearray(len(clear) + TAG)
    aes.encrypt_into(NONCE, clear, b"", sealed)
    begin, done = perf_counter(), 0
    while perf_counter() - begin < seconds:
        if opens:
            aes.decrypt_into(NONCE, sealed, b"", clear)
        else:
            aes.encrypt_into(NONCE, clear, b"", sealed)
        done += 1
    return done * len(clear) / (perf_counter() - begin) / 1e9
