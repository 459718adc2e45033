"""Messages that are well-formed and mean nothing: whatever their fields hold, a server neither
fails nor lets a stranger change anything."""

import contextlib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from desk import DATA, SERVER, TWO
from desk import ONE as MEMBER
from desk import Desk as Office
from test_bad_pushes import CONTROLLER, ELEMENTS, ONE, SHARDS, Desk

from dualshard.common import messages
from dualshard.common.delivery import Send, routing_id
from dualshard.common.errors import RemoteError
from dualshard.common.messages import Envelope, Form, Join, Message
from dualshard.common.node import Note
from dualshard.common.permissions import MAY_SEND
from dualshard.common.transport.contract import Seen
from dualshard.common.types import Array, Role

STRANGER = 999
KINDS = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
]
NUMBERS = (0, 1, 2, -1, -23, SHARDS, 7, 1 << 40, -(1 << 62), (1 << 63) - 1)
COUNTERS = ("a", "steps", "refused:", "refused:x", "refused:rate:w:x", "::", "unreachable:")
TEXTS = ("", "f32", "bf16", "int8", "topk", "factors", "worker", "no such thing", "/")


def an_array(random: np.random.Generator) -> Array:
    size = int(random.choice([0, 1, ELEMENTS - 1, ELEMENTS, ELEMENTS, 40]))
    dtype = str(random.choice(["<f4", "<f4", "<f2", "<u2", "|i1", "<u4", "<i8"]))
    array = random.integers(0, 100, size).astype(dtype)
    return array if random.random() < 0.8 else array.reshape(1, -1)


def a_value(random: np.random.Generator, kind: str) -> Any:
    """Something of the type that a field is annotated with."""
    if kind.startswith("list[list[int]]"):
        return [a_value(random, "list[int]") for _ in range(random.integers(3))]
    if kind.startswith("list"):
        return [int(random.choice(NUMBERS)) for _ in range(random.integers(4))]
    if kind.startswith("dict"):
        return {str(random.choice(COUNTERS)): 1.0 for _ in range(3)}
    return {
        "int": lambda: int(random.choice(NUMBERS)),
        "float": lambda: float(random.choice([0.0, -1.0, 1e300, np.inf, np.nan])),
        "bool": lambda: bool(random.integers(2)),
        "str": lambda: str(random.choice(TEXTS)),
        "bytes": lambda: b"\x00\x01",
        "ndarray": lambda: an_array(random),
    }[kind]()


def a_message(random: np.random.Generator, kinds: Sequence[type[Message]] = KINDS) -> Message:
    kind = kinds[int(random.integers(len(kinds)))]
    return kind(**{item.name: a_value(random, _named(item.type)) for item in fields(kind)})


def _named(annotation: Any) -> str:
    plain = not getattr(annotation, "__args__", ())
    origin = getattr(annotation, "__origin__", annotation)
    return str(annotation if not plain and origin in (list, dict) else origin.__name__)


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp", "local", "easgd"])
def test_no_message_makes_a_server_fail(mode: str) -> None:
    random, desk = np.random.default_rng(3), Desk(mode)
    for number in range(4000):
        form = Form(int(random.integers(3)))
        source = int(random.choice([STRANGER, ONE, 5]))
        sequence = int(random.choice([1, 2, 3, number + 10]))
        envelope = Envelope(source, form, sequence, 0, a_message(random))
        desk.server.receive(routing_id(source), envelope, 1.0 + number)
    assert all(np.isfinite(held.values).all() for held in desk.server.store.shards.values())  # type: ignore[union-attr]
    assert desk.server.leaving is None


def test_a_stranger_changes_nothing() -> None:
    random, desk = np.random.default_rng(4), Desk("async")
    assert desk.server.store is not None
    for number in range(4000):
        envelope = Envelope(STRANGER, Form.REQUEST, number + 1, 0, a_message(random))
        actions = desk.server.receive(routing_id(STRANGER), envelope, 1.0)
        assert {type(action) for action in actions} <= {Send, Note}  # no file is written for it
    store = desk.server.store
    assert sorted(store.shards) == list(range(SHARDS))
    assert all(held.version == 0 and not held.values.any() for held in store.shards.values())
    assert store.crowd.leg == 0
    assert desk.server.controller == CONTROLLER


@pytest.mark.parametrize("mode", ["async", "bsp", "local"])
def test_no_worker_with_a_key_ends_a_training_or_harms_another_member(mode: str) -> None:
    """Whatever it sends of what its key allows, be it a member or not."""
    random, desk = np.random.default_rng(5), Office(train={"mode": mode})
    kinds = sorted(MAY_SEND[Role.WORKER], key=lambda kind: kind.__name__)
    desk.controller.seen = lambda peer: Seen(Role.WORKER, "a key")
    desk.prepare()
    desk.controller.seen = lambda peer: Seen(Role.WORKER, "a thief's")
    others, sent = {SERVER, DATA, TWO}, set()
    for number in range(4000):
        message = a_message(random, kinds)
        if isinstance(message, Join):
            message = replace(message, role="worker")
        source = int(random.choice([MEMBER, STRANGER]))
        form = Form.NOTICE if random.random() < 0.1 else Form.REQUEST
        envelope = Envelope(source, form, number + 100, 0, message)
        with contextlib.suppress(RemoteError):
            desk.controller.receive(routing_id(source), envelope, desk.now)
        sent.add(type(message))
        assert desk.phase == "training", message
        assert others <= desk.controller.roster.seats.keys(), message
    assert sent == set(kinds)
