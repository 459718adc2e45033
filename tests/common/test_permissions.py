"""Who may send which message: the table, message by message."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from dualshard.common import messages
from dualshard.common.messages import ANSWERS, NOTICES, Envelope, Form, Join, Message
from dualshard.common.permissions import MAY_SEND, OPERATOR, forbidden
from dualshard.common.types import Role

ROLES = [*Role, OPERATOR]
ASKED = [*ANSWERS, *NOTICES]
"""Every request and every notice."""

WHO = {
    "controller": "View Serve Backup Snapshot Evaluate Pull",
    "paramserver": "Join Heartbeat Leave Ready Written Accuse",
    "dataserver": "Join Heartbeat Leave DataFacts Progress",
    "worker": "Join Heartbeat Leave Describe Start Attach Pull Push Rest Shelf Fetch Done Return "
    "AskSamples Activations Targets Gradients Copies Settle",
    "operator": "AskStatus Stop Obituary",
}
"""Written a second time, by hand: a slip of the table is a difference."""


def sample(kind: type[Message], **values: Any) -> Message:
    """A message with empty fields."""
    hints = get_type_hints(kind)
    blank: dict[str, Any] = {}
    for item in fields(kind):
        made = getattr(hints[item.name], "__origin__", hints[item.name])
        blank[item.name] = np.zeros(0, np.float32) if made is np.ndarray else made()
    return kind(**{**blank, **values})


def sent(role: str, kind: type[Message], form: Form) -> str:
    values = {"role": role} if kind is Join else {}
    return forbidden(role, Envelope(1, form, 1, 1, sample(kind, **values)))


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("role", [str(role) for role in ROLES])
def test_each_role_may_send_its_own_messages_and_no_others(role: str, kind: type[Message]) -> None:
    form = Form.NOTICE if kind in NOTICES else Form.REQUEST
    why = sent(role, kind, form)
    if kind.__name__ in WHO[role].split():
        assert why == ""
    else:
        assert why == f"a key of role {role} may not send {kind.__name__}"


def test_the_table_is_the_one_above_and_knows_all_roles() -> None:
    assert {str(role): {k.__name__ for k in kinds} for role, kinds in MAY_SEND.items()} == {
        role: set(names.split()) for role, names in WHO.items()
    }
    assert set(MAY_SEND) == set(ROLES)
    assert set().union(*MAY_SEND.values()) == set(ASKED), "somebody may send each of them"


def test_every_message_is_asked_or_answers() -> None:
    every = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    }
    answers = {kind for kinds in ANSWERS.values() for kind in kinds} | {messages.Refused}
    assert every == set(ASKED) | answers


@pytest.mark.parametrize("role", [str(role) for role in ROLES])
@pytest.mark.parametrize("claimed", ["controller", "paramserver", "dataserver", "worker", "x" * 99])
def test_nobody_joins_as_another_role(role: str, claimed: str) -> None:
    why = forbidden(role, Envelope(1, Form.REQUEST, 1, 1, sample(Join, role=claimed)))
    joins = ("paramserver", "dataserver", "worker")
    if role not in joins:
        assert why == f"a key of role {role} may not send Join"
    elif role == claimed:
        assert why == ""
    else:
        assert why == f"a key of role {role} cannot join as {claimed[:40]!r}"


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.__name__)
def test_a_key_of_no_role_may_send_nothing_and_without_keys_all_may(kind: type[Message]) -> None:
    assert sent("stranger", kind, Form.REQUEST)
    assert sent("", kind, Form.REQUEST) == ""


@pytest.mark.parametrize("role", [str(role) for role in ROLES])
def test_replies_are_sorted_out_by_who_has_asked(role: str) -> None:
    assert sent(role, messages.Ack, Form.REPLY) == ""


def test_the_table_of_the_documentation_is_this_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    section = page.partition("## Who may send what")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| (`.*`) \|$", section, re.MULTILINE)
    shown = {role: set(re.findall(r"`(\w+)`", kinds)) for role, kinds in rows}
    assert shown == {role: {kind.__name__ for kind in kinds} for role, kinds in MAY_SEND.items()}
