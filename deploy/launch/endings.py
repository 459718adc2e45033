"""What it means that a role's ssh has ended: whose fault it is, and what follows. Pure."""

from enum import StrEnum

from ...common.errors import UserError
from ...common.session import PUT_OUT, TURNED_AWAY
from ...common.types import Role

SSH_FAILED = 255
"""The exit status of an ssh that could not reach its host, or has lost it."""
AGAIN_AFTER = 3.0
"""Seconds between two attempts to reach a host that was lost."""
MORTAL = (Role.WORKER, Role.DATASERVER)
"""Roles that can be started again in a running job: what they know follows from the job."""
TAIL = 20
"""Lines of its output that are shown of the role that failed first."""


class Verdict(StrEnum):
    """What an end means."""

    DONE = "it did what it was to do"
    UNREACHABLE = "ssh never reached the host"
    ABSENT = "the host has no dualshard that starts"
    LOST = "the host is lost, and with it the role"
    PUT_OUT = "the controller does not want it any more"
    TURNED_AWAY = "another has taken its place meanwhile"
    MORTAL = "it failed by itself, and another can take its place"
    FATAL = "it failed by itself, and the job cannot go on"


def judge(role: Role, status: int, *, ran: bool, joining: bool, words: str) -> Verdict:
    """What the end of a role's ssh means.

    Arguments:
        status: ssh's exit status: the role's own, 128 + N if signal N ended it.
        ran: whether the role was ever started on its host.
        joining: whether the job still waits for roles to join.
        words: the last that it said.
    """
    if status == SSH_FAILED:
        return Verdict.UNREACHABLE if joining and not ran else Verdict.LOST
    if joining and not ran:
        return Verdict.ABSENT
    if status == 0:
        return Verdict.DONE
    if words.startswith(PUT_OUT):
        return Verdict.PUT_OUT
    if TURNED_AWAY in words and not joining:
        return Verdict.TURNED_AWAY
    # What bad input it found would be found again.
    if joining or role not in MORTAL or (ran and status == UserError.exit_status):
        return Verdict.FATAL
    return Verdict.MORTAL


def how(status: int, words: str) -> str:
    """How a role ended, in words: by `status` as of a shell, with the last that it said."""
    if status in SIGNALS:
        return f"was ended by {SIGNALS[status]}"
    return f"ended with status {status}: {words}"


SIGNALS = {134: "SIGABRT", 135: "SIGBUS", 136: "SIGFPE", 137: "SIGKILL", 139: "SIGSEGV"}
"""What a role does not catch, as status of a shell."""
