"""`dualshard status`: the controller's report for people or for programs."""

import json

from ..common.clock import sleep
from .operator import Operator
from .screen import console, headline, role_table

EVERY = 1.0
"""Seconds between two reports of `--watch`."""


def print_status(operator: Operator, patience: float, *, as_json: bool, watch: bool) -> None:
    """Print the report once, or every second until the job ends, and close the operator's line.

    Raises:
        UserError: nobody answers there within `patience` seconds.
    """
    screen = console()
    try:
        seen = False
        while True:
            report = operator.status(patience)
            if report is None and seen:
                return
            if report is None:
                raise operator.no_answer(patience)
            seen = True
            if as_json:
                screen.out(json.dumps(report, indent=None if watch else 2))
            else:
                screen.print(headline(report), markup=False)
                screen.print(role_table(report))
            if not watch or report["phase"] == "stopped":
                return
            sleep(EVERY)
    finally:
        operator.close()
