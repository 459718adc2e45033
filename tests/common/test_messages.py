"""The catalogue of messages: complete, frozen, and of types that the wire can check."""

import dataclasses
from typing import get_args, get_type_hints

import numpy as np
import pytest

from dualshard.common import messages
from dualshard.common.messages import ANSWERS, NOTICES, Message, Refused

KINDS = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
]


def test_each_kind_is_a_request_or_a_reply_or_a_notice() -> None:
    replies = {reply for answers in ANSWERS.values() for reply in answers} | {Refused}
    assert set(ANSWERS) | replies | set(NOTICES) == set(KINDS)
    assert not set(ANSWERS) & (replies | set(NOTICES))


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_a_requests_docstring_names_what_answers_it(kind: type[Message]) -> None:
    assert kind.__doc__ is not None
    named = set(kind.__doc__.replace("`", " ").replace(".", " ").split())
    assert {answer.__name__ for answer in ANSWERS[kind]} <= named


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_messages_are_frozen_and_documented(kind: type[Message]) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert not hasattr(kind, "__dict__") or "__slots__" in vars(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")  # what dataclass writes by itself


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_fields_are_plain_values_or_arrays(kind: type[Message]) -> None:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        origin = getattr(hint, "__origin__", hint)
        assert origin in (int, float, bool, str, bytes, dict, list, np.ndarray), field.name
        if origin is dict:
            assert get_args(hint)[0] is str, field.name
