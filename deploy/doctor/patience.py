"""Waiting for an answer no longer than one wants to. What does not come back is left to itself."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from ...common.loop import Background
from ...common.node import Failed
from .findings import Check, Finding, fail

LIMIT = 10.0
"""Seconds for a check that takes a part of one."""


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns, or `Failed` if it raises; None if either takes longer.

    Nothing ends a question to a name server, a driver or a file system early: its thread goes on
    until it is answered, or the process ends.
    """
    answers: SimpleQueue[Any] = SimpleQueue()
    beside = Background(answers.put, "doctor")
    beside.submit(work)
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return None
    finally:
        beside.close(0)


def in_time(name: str, check: Check) -> Finding:
    """What a check finds, or that it has not come back."""
    found = within(LIMIT, check)
    if isinstance(found, Finding):
        return found
    if isinstance(found, Failed):
        return fail(name, f"the check failed: {found.reason}", "report this as a fault")
    what = f"no answer within {LIMIT:g} s"
    return fail(name, what, "see which device, driver or file system does not answer")
