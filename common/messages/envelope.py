"""The root of all messages, and what a message travels in. Pure."""

from dataclasses import dataclass
from enum import IntEnum

PROTOCOL = 6
"""Raised whenever a header or a message changes its meaning. `Join` and `Refused` never change."""


class Form(IntEnum):
    """What an envelope is: a notice wants no answer."""

    NOTICE = 0
    REQUEST = 1
    REPLY = 2


@dataclass(frozen=True, slots=True)
class Message:
    """The root of all messages."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and what delivery needs to know.

    `source` is the sender's incarnation (a random 63-bit number, new for each life of a role);
    `sequence` counts requests per sender and receiver from 1; every request below `floor` has
    been answered, so that the receiver may forget it.
    """

    source: int
    form: Form
    sequence: int
    floor: int
    message: Message
    protocol: int = PROTOCOL
