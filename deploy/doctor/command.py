"""The command `dualshard doctor`: runs all checks, shows what they found, ends with the verdict."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from ...common.transport import parse_address
from ..jsonfile import check_can_write, json_option, write_json
from ..options import keys_option
from ..screen import console
from .findings import Finding, as_rows, examine, exit_status, verdict
from .patience import in_time

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command()
@click.option(
    "--controller",
    "address",
    default="",
    metavar="HOST:PORT",
    help="Look also whether this controller can be reached from here.",
)
@keys_option
@json_option
def doctor(address: str, keys: Path | None, json_file: Path | None) -> int:
    """Look at this machine and installation: what would be in the way, and the fix.

    Ends with status 1 if something failed.
    """
    if address:
        parse_address(address, "--controller")
    check_can_write(json_file)
    found = findings(address, keys)
    console().print(table(found))
    click.echo(verdict(found))
    write_json(json_file, as_rows(found))
    return exit_status(found)


def findings(address: str, keys: Path | None) -> list[Finding]:
    """All that there is to find, in the order in which it is shown."""
    from . import installation, machine, network

    found = examine([*installation.checks(), *machine.checks()], in_time)
    found += examine([("keys", lambda: network.check_keys(keys))])
    if address:
        found += network.check_controller(address, keys)
    return found


def table(found: Sequence[Finding]) -> Table:
    """One row a finding, and the fix below it where there is one."""
    rows = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for finding in found:
        style = STYLES[finding.state]
        rows.add_row(Text(finding.state, style), finding.name, Text(finding.what))
        if finding.state != "ok":
            rows.add_row("", "", Text(f"fix: {finding.fix}", style))
    return rows
