"""The commands that start one role each: the controller, and those that join one.

Options become a role's `Options`; only the rooms of the role that runs are imported. A role's
process always ends here, with `os._exit`: threads that still compute do not hold it up.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..common.errors import DualshardError, UserError
from ..common.job import SETTINGS
from ..common.node import Exit
from ..common.runtime import Options
from ..common.transport import parse_address
from ..common.types import Role
from ..common.units import parse_duration
from .environment import controller_of
from .options import job_options, resolved_job, role_options
from .outfolder import OutFolder

if TYPE_CHECKING:
    from ..paramserver.controller.process import ControllerProcess

BAD_INPUT = UserError.exit_status
LISTENS = "the controller listens at "
"""What a controller that was launched says before its address."""


@click.command()
@job_options
@role_options
@click.option("--announce", type=click.Path(path_type=Path), hidden=True)
@click.option("--launched", is_flag=True, hidden=True)
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
    launched: bool,
    where: str,
    **flags: Any,
) -> None:
    """Start the controller: the one role whose address everyone must know."""
    job = resolved_job(job_file, settings, flags).job
    options = Options(
        controller="",
        bind=bind or where or ("" if interface else controller_of(os.environ) or ""),
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
    if launched:
        # So did a launcher on another host, whose own folder may be this one.
        folder = out or OutFolder.of(job, None).path
        live(lambda: _listening(ControllerProcess(options, job, folder, None)).run())
    _live_in(OutFolder.of(job, out), lambda path: ControllerProcess(options, job, path, announce))


def _listening(process: "ControllerProcess") -> "ControllerProcess":
    """Tell the launcher, which reads what its roles say."""
    click.echo(f"{LISTENS}{process.address}")
    return process


def _live_in(folder: OutFolder, make: Callable[[Path], "ControllerProcess"]) -> NoReturn:
    """Run a controller that was started by hand: bad input leaves no folder behind."""

    def run() -> Exit:
        try:
            ended = make(folder.path).run()
        except UserError:
            folder.discard()
            raise
        if ended.status == BAD_INPUT and not folder.holds_epochs():
            folder.discard()
        return ended

    live(run)


def _known_controller(context: click.Context, option: click.Parameter, given: str | None) -> str:
    """The controller's address, as given or as DMLC's variables name it."""
    known = given or controller_of(os.environ)
    if known is None:
        raise click.MissingParameter(ctx=context, param=option)
    return known


def joining_command(role: Role, doc: str) -> click.Command:
    """The command of a role that joins a controller."""

    def command(
        controller: str,
        start_timeout: str,
        device: str = "",
        threads: int = 0,
        **flags: Any,
    ) -> None:
        timeout = parse_duration(start_timeout, "--start-timeout")
        if device:
            SETTINGS["worker.device"].check("--device", device)
        if not controller.startswith("@"):
            parse_address(controller, "--controller")
        options = Options(controller, start_timeout=timeout, **flags)
        live(lambda: _process(role, options, device, threads).run())

    command.__doc__ = doc
    decorated = role_options(command)
    own = (
        click.option("--device", default="", metavar="cpu|cuda:N", help="Not worker.device."),
        click.option("--threads", default=0, type=click.IntRange(0), help="Not worker.threads."),
    )
    for option in (
        *(own if role is Role.WORKER else ()),
        click.option("--rank", default=-1, help="The rank to ask for (default: any free one)."),
        click.option(
            "--start-timeout",
            default="60s",
            show_default=True,
            metavar="TIME",
            help="How long to wait for the controller.",
        ),
        click.option(
            "--controller",
            callback=_known_controller,
            metavar="HOST:PORT",
            help="Where the controller listens.  [required]",
        ),
    ):
        decorated = option(decorated)
    return click.command(str(role))(decorated)


def _process(role: Role, options: Options, device: str, threads: int) -> Any:
    """The process of a role."""
    if role is Role.PARAMSERVER:
        from ..paramserver.process import ParameterServerProcess

        return ParameterServerProcess(options)
    if role is Role.DATASERVER:
        from ..dataserver.process import DataServerProcess

        return DataServerProcess(options)
    from ..worker.process import WorkerProcess

    return WorkerProcess(options, device, threads)


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
