"""The command line. Thin: parse, build the configuration, call what does the work."""

import functools
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..common.config import resolve, show
from ..common.errors import DualshardError, UserError
from ..common.job import Job
from ..common.runtime import Options
from ..common.transport import parse_address
from ..common.types import Role
from ..common.units import parse_duration


class Commands(click.Group):
    """A group whose errors are one line, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DualshardError as error:
            click.echo(f"dualshard: {error}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dualshard", prog_name="dualshard")
def main() -> None:
    """Train neural networks on many machines with sharded parameter servers."""
    # One BLAS thread a lane: set before NumPy is first used, for this process and its children.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make up a job."""
    decorators = [
        click.argument("job_file", required=False, type=click.Path(path_type=Path)),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set any key of the job file, such as data.source=idx:DIR.",
        ),
        click.option("--workers", type=int, help="worker.count"),
        click.option("--servers", type=int, help="paramserver.count"),
        click.option("--data-servers", type=int, help="dataserver.count"),
        click.option("--threads", type=int, help="worker.threads"),
        click.option(
            "--model", help="model.ref: a zoo name, module:attribute or file.py:attribute"
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help="The run directory (default: runs/DATE-TIME).",
        ),
    ]
    return functools.reduce(lambda wrapped, decorate: decorate(wrapped), decorators[::-1], command)


def role_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every role takes."""
    decorators = [
        click.option(
            "--bind",
            default="",
            metavar="HOST:PORT",
            help="Where to listen; port 0 takes any free one.",
        ),
        click.option(
            "--advertise",
            default="",
            metavar="HOST[:PORT]",
            help="Where others are told to reach this role.",
        ),
        click.option(
            "--start-timeout",
            default=None,
            metavar="TIME",
            help="How long to wait at the start, such as 60s.",
        ),
        click.option(
            "--insecure",
            is_flag=True,
            help="Listen beyond this machine without keys, on a network that you trust.",
        ),
        click.option(
            "--end-with-stdin",
            is_flag=True,
            help="End when standard input does: when whoever started this role is gone.",
        ),
        click.option(
            "--log-level",
            default="info",
            show_default=True,
            type=click.Choice(["debug", "info", "warning", "error"]),
        ),
    ]
    return functools.reduce(lambda wrapped, decorate: decorate(wrapped), decorators[::-1], command)


def resolved_job(job_file: Path | None, settings: tuple[str, ...], flags: dict[str, Any]) -> Any:
    """The job of all layers; `flags` as the command line gave them."""
    names = {
        "workers": "worker.count",
        "servers": "paramserver.count",
        "data_servers": "dataserver.count",
        "threads": "worker.threads",
        "model": "model.ref",
        "start_timeout": "job.start_timeout",
    }
    given = {names[name]: value for name, value in flags.items() if name in names}
    return resolve(job_file, os.environ, settings, given)


def new_run_directory() -> Path:
    """runs/DATE-TIME, with a number behind it if two runs start in one second."""
    stem = Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path


@main.command()
@job_options
@click.option("--start-timeout", metavar="TIME", help="job.start_timeout")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the results to a file."
)
@click.option("--show-config", is_flag=True, help="Print each setting with its origin, and end.")
def train(
    job_file: Path | None,
    settings: tuple[str, ...],
    out: Path | None,
    json_file: Path | None,
    show_config: bool,
    **flags: Any,
) -> None:
    """Start a whole cluster on this machine and train.

    Without JOB_FILE it trains a perceptron on the images of digits inside scikit-learn.
    """
    resolved = resolved_job(job_file, settings, flags)
    if show_config:
        click.echo(show(resolved))
        return
    from .local import train_locally

    status, summary = train_locally(resolved.job, out or new_run_directory())
    if json_file is not None and summary:
        try:
            json_file.write_text(json.dumps(summary, indent=2) + "\n")
        except OSError as refused:
            raise UserError(
                "--json",
                json_file,
                "a file that can be written",
                f"{refused.strerror}: choose another",
            ) from None
    sys.exit(status)


@main.command()
@job_options
@role_options
@click.option("--announce", type=click.Path(path_type=Path), hidden=True)
@click.option("--controller", default="", metavar="HOST:PORT", help="The same as --bind.")
def controller(
    job_file: Path | None,
    settings: tuple[str, ...],
    out: Path | None,
    bind: str,
    advertise: str,
    start_timeout: str | None,
    insecure: bool,
    end_with_stdin: bool,
    log_level: str,
    announce: Path | None,
    controller: str,
    **flags: Any,
) -> None:
    """Start the controller: the one role whose address everyone must know."""
    flags["start_timeout"] = start_timeout
    job = resolved_job(job_file, settings, flags).job
    from ..paramserver.controller.process import ControllerProcess

    where = bind or controller or "127.0.0.1:7077"
    options = _options(job, "", where, advertise, insecure, end_with_stdin, log_level)
    process = ControllerProcess(options, job, out or new_run_directory(), announce)
    _end(process.run)


def _role_command(role: Role, doc: str) -> None:
    """Add the command of a role that joins a controller."""

    def command(
        controller: str,
        rank: int,
        bind: str,
        advertise: str,
        start_timeout: str | None,
        insecure: bool,
        end_with_stdin: bool,
        log_level: str,
    ) -> None:
        timeout = parse_duration(start_timeout or "60s", "--start-timeout")
        if not controller.startswith("@"):
            parse_address(controller, "--controller")
        options = Options(
            controller, bind, advertise, rank, timeout, insecure, end_with_stdin, log_level
        )
        _end(lambda: _process(role, options).run())

    command.__doc__ = doc
    with_options = role_options(command)
    with_options = click.option("--rank", default=-1, help="The rank to ask for.")(with_options)
    with_options = click.option(
        "--controller", required=True, metavar="HOST:PORT", help="Where the controller listens."
    )(with_options)
    main.command(str(role))(with_options)


def _process(role: Role, options: Options) -> Any:
    """The process of a role; only its own room is imported."""
    if role is Role.PARAMSERVER:
        from ..paramserver.process import ParameterServerProcess

        return ParameterServerProcess(options)
    if role is Role.DATASERVER:
        from ..dataserver.process import DataServerProcess

        return DataServerProcess(options)
    from ..worker.process import WorkerProcess

    return WorkerProcess(options)


def _options(
    job: Job,
    controller: str,
    bind: str,
    advertise: str,
    insecure: bool,
    end_with_stdin: bool,
    log_level: str,
) -> Options:
    return Options(
        controller,
        bind,
        advertise,
        -1,
        job.job.start_timeout,
        insecure or job.security.insecure,
        end_with_stdin,
        log_level,
    )


def _end(run: Callable[[], Any]) -> None:
    """Run a role and leave with its status; threads that still compute do not hold it up."""
    ended = run()
    if ended.status and ended.reason:
        click.echo(f"dualshard: {ended.reason}", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended.status)


_role_command(Role.PARAMSERVER, "Start a parameter server, which holds shards.")
_role_command(Role.DATASERVER, "Start a data server, which reads and serves minibatches.")
_role_command(Role.WORKER, "Start a worker, which computes gradients.")


@main.command()
@click.option(
    "--controller", "address", default="127.0.0.1:7077", show_default=True, metavar="HOST:PORT"
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole report.")
@click.option("--watch", is_flag=True, help="Print again every second until the job ends.")
def status(address: str, as_json: bool, watch: bool) -> None:
    """Show what a running cluster does."""
    from .watch import print_status

    print_status(parse_address(address, "--controller"), as_json=as_json, watch=watch)


@main.command()
@click.option(
    "--controller", "address", default="127.0.0.1:7077", show_default=True, metavar="HOST:PORT"
)
def stop(address: str) -> None:
    """End a running job: every role says goodbye and exits."""
    from .operator import Operator

    operator = Operator(parse_address(address, "--controller"))
    try:
        if not operator.stop(0, "stopped by an operator", patience=5.0):
            raise UserError(
                "--controller",
                address,
                "a controller that answers within 5 s",
                "start one there, or give its address",
            )
    finally:
        operator.close()
    click.echo(f"the job at {address} ends")
