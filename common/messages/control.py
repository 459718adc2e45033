"""Evaluation and control: controller, workers, operators. Pure."""

from dataclasses import dataclass
from typing import Any

from .envelope import Message


@dataclass(frozen=True, slots=True)
class Evaluate(Message):
    """Request, controller to worker: measure the servers' parameters on the test split.

    Answered by `Evaluated`, when it is done.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Evaluated(Message):
    """Reply: means over `samples` test samples."""

    number: int
    samples: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class AskStatus(Message):
    """Request of an operator; answered by `Status`."""


@dataclass(frozen=True, slots=True)
class Status(Message):
    """What `dualshard status` shows: plain values only."""

    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stop(Message):
    """Request of an operator: end the job; answered by `Ack`."""

    status: int
    reason: str
