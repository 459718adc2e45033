"""Who may send which message, where connections have keys. Pure.

A key belongs to a role; what a role may ask for or tell stands here, whoever it is sent to. What a
receiver has no use for it refuses anyway (`node`), and replies are taken only by whoever has asked
(`delivery`). Without keys nobody is known, and everyone may send everything.
"""

from .messages import (
    Accuse,
    Activations,
    AskSamples,
    AskStatus,
    Attach,
    Backup,
    Copies,
    DataFacts,
    Describe,
    Done,
    Envelope,
    Evaluate,
    Fetch,
    Form,
    Gradients,
    Heartbeat,
    Join,
    Leave,
    Message,
    Obituary,
    Progress,
    Pull,
    Push,
    Ready,
    Rest,
    Return,
    Serve,
    Settle,
    Shelf,
    Snapshot,
    Start,
    Stop,
    Targets,
    View,
    Written,
)
from .types import Role

OPERATOR = "operator"
"""The role of the key with which people look at a job and end it; no process of the job has it."""

_MEMBER = frozenset({Join, Heartbeat, Leave})

MAY_SEND: dict[str, frozenset[type[Message]]] = {
    Role.CONTROLLER: frozenset({View, Serve, Backup, Snapshot, Evaluate, Pull}),
    Role.PARAMSERVER: _MEMBER | {Ready, Written, Accuse},
    Role.DATASERVER: _MEMBER | {DataFacts, Progress},
    Role.WORKER: _MEMBER
    | {Describe, Start, Attach, Pull, Push, Rest}
    | {Shelf, Fetch, Done, Return, AskSamples}
    | {Activations, Targets, Gradients, Copies, Settle},
    OPERATOR: frozenset({AskStatus, Stop, Obituary}),
}
"""By the role of the sender's key: the requests and notices that it may send."""


def forbidden(role: str, envelope: Envelope) -> str:
    """Why the holder of a key of this role may not send this; empty if it may.

    Arguments:
        role: as in `Seen.role`; empty without keys.
    """
    message = envelope.message
    if not role or envelope.form is Form.REPLY:
        return ""
    kind = type(message)
    if kind not in MAY_SEND.get(role, ()):
        return f"a key of role {role} may not send {kind.__name__}"
    if isinstance(message, Join) and message.role != role:
        return f"a key of role {role} cannot join as {message.role[:40]!r}"
    return ""
