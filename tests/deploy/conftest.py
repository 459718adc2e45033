"""For tests of what others tell our commands: a command line as these read it."""

from collections.abc import Callable, Sequence
from typing import Any

import click
import pytest

from dualshard.deploy.commands import dualshard


@pytest.fixture
def parsed() -> Callable[[Sequence[str]], dict[str, Any]]:
    """The options in a command line that begins with the name of a command; `UsageError` where it
    is wrong. Below the group's context, as always: a command remembers how help is called."""

    def read(words: Sequence[str]) -> dict[str, Any]:
        name, *arguments = words
        group = click.Context(dualshard, **dualshard.context_settings)
        return dualshard.commands[name].make_context(name, arguments, parent=group).params

    return read
