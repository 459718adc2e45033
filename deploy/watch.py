"""`dualshard status`: the controller's report for people or for programs."""

import json

from rich.console import Console

from ..common.clock import sleep
from ..common.errors import UserError
from .operator import Operator
from .screen import headline, role_table

PATIENCE = 5.0
"""Seconds to wait for an answer."""
PAUSE = 1.0
"""Seconds between two reports of `--watch`."""


def print_status(address: str, *, as_json: bool, watch: bool) -> None:
    """Print the report once, or every second until the job ends.

    Raises:
        UserError: nobody answers there.
    """
    operator, console = Operator(address), Console(highlight=False)
    try:
        seen = False
        while True:
            report = operator.status(PATIENCE)
            if report is None and seen:
                return
            if report is None:
                raise UserError(
                    "--controller",
                    address.removeprefix("tcp://"),
                    f"a controller that answers within {PATIENCE:g} s",
                    "start one there, or give its address",
                )
            seen = True
            if as_json:
                console.print_json(json.dumps(report))
            else:
                console.print(headline(report))
                console.print(role_table(report))
            if not watch:
                return
            sleep(PAUSE)
    finally:
        operator.close()
