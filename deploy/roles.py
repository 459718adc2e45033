"""The commands that start one role each: the controller, and those that join one.

Options become a role's `Options`; only the rooms of the role that runs are imported. A role's
process always ends here, with `os._exit`: threads that still compute do not hold it up.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from ..common.errors import DualshardError, UserError
from ..common.node import Exit
from ..common.runtime import Options
from ..common.transport import parse_address
from ..common.types import Role
from ..common.units import parse_duration
from .options import job_options, resolved_job, role_options
from .outfolder import OutFolder

BAD_INPUT = UserError.exit_status


@click.command()
@job_options
@role_options
@click.option("--announce", type=click.Path(path_type=Path), hidden=True)
@click.option("--controller", "where", default="", metavar="HOST:PORT", help="The same as --bind.")
def controller(
    job_file: Path | None,
    settings: tuple[str, ...],
    out: Path | None,
    bind: str,
    advertise: str,
    interface: str,
    keys: Path | None,
    insecure: bool,
    end_with_stdin: bool,
    log_level: str,
    announce: Path | None,
    where: str,
    **flags: Any,
) -> None:
    """Start the controller: the one role whose address everyone must know."""
    job = resolved_job(job_file, settings, flags).job
    options = Options(
        controller="",
        bind=bind or where,
        advertise=advertise,
        start_timeout=job.job.start_timeout,
        interface=interface,
        keys=keys or (Path(job.security.keys) if job.security.keys else None),
        insecure=insecure or job.security.insecure,
        end_with_stdin=end_with_stdin,
        log_level=log_level,
    )
    from ..paramserver.controller.process import ControllerProcess

    if announce is not None and out is not None:
        # A launcher started this controller, and looks after the run directory.
        live(lambda: ControllerProcess(options, job, out, announce).run())
    folder = OutFolder.of(job, out)

    def run() -> Exit:
        try:
            ended = ControllerProcess(options, job, folder.path, announce).run()
        except UserError:
            folder.discard()
            raise
        if ended.status == BAD_INPUT and not folder.holds_epochs():
            folder.discard()
        return ended

    live(run)


def joining_command(role: Role, doc: str) -> click.Command:
    """The command of a role that joins a controller."""

    def command(controller: str, start_timeout: str, **flags: Any) -> None:
        timeout = parse_duration(start_timeout, "--start-timeout")
        if not controller.startswith("@"):
            parse_address(controller, "--controller")
        options = Options(controller, start_timeout=timeout, **flags)
        live(lambda: _process(role, options).run())

    command.__doc__ = doc
    decorated = role_options(command)
    for option in (
        click.option("--rank", default=-1, help="The rank to ask for (default: any free one)."),
        click.option(
            "--start-timeout",
            default="60s",
            show_default=True,
            metavar="TIME",
            help="How long to wait for the controller.",
        ),
        click.option(
            "--controller", required=True, metavar="HOST:PORT", help="Where the controller listens."
        ),
    ):
        decorated = option(decorated)
    return click.command(str(role))(decorated)


def _process(role: Role, options: Options) -> Any:
    """The process of a role."""
    if role is Role.PARAMSERVER:
        from ..paramserver.process import ParameterServerProcess

        return ParameterServerProcess(options)
    if role is Role.DATASERVER:
        from ..dataserver.process import DataServerProcess

        return DataServerProcess(options)
    from ..worker.process import WorkerProcess

    return WorkerProcess(options)


def live(run: Callable[[], Exit]) -> NoReturn:
    """Run a role, say in one line why it failed if it did, and leave with its status."""
    try:
        ended = run()
    except DualshardError as error:
        ended = Exit(error.exit_status, str(error))
    if ended.status and ended.reason:
        click.echo(f"dualshard: {ended.reason}", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended.status)


COMMANDS = (
    controller,
    joining_command(Role.PARAMSERVER, "Start a parameter server, which holds shards."),
    joining_command(Role.DATASERVER, "Start a data server, which reads and serves minibatches."),
    joining_command(Role.WORKER, "Start a worker, which computes gradients."),
)
