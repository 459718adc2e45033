"""The commands of `dualshard`. Thin: parse, build the configuration, call what does the work."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from ..common.config import show
from ..common.errors import DualshardError
from ..common.transport import parse_address
from . import roles
from .bench import bench
from .checkpoints import checkpoint
from .data import data
from .evaluate import evaluate
from .export import export
from .jsonfile import check_can_write, json_option, write_json
from .keygen import keygen
from .options import job_options, keys_option, operator_options, resolved_job

PATIENCE = 5.0
"""Seconds that an operator waits for a controller's answer."""


class Commands(click.Group):
    """A group whose errors are one line on the standard error, never a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As `click.Group.main`; ends the process with the command's exit status."""
        try:
            status = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:
            status = error.exit_code
            click.echo(f"dualshard: {_one_line(error)}", err=True)
        except DualshardError as error:
            status = error.exit_status
            click.echo(f"dualshard: {error}", err=True)
        sys.exit(status)


def _one_line(error: click.ClickException) -> str:
    """What is wrong with the command line, and where its options are listed."""
    words = " ".join(error.format_message().split()).removesuffix(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return words if context is None else f"{words}; see {context.command_path} --help"


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="dualshard", prog_name="dualshard")
@click.pass_context
def dualshard(context: click.Context) -> None:
    """Train neural networks on many machines with sharded parameter servers."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    # For users' own modules. Last, so that a file of theirs never hides one of ours.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


@dualshard.command()
@job_options
@keys_option
@json_option
@click.option("--show-config", is_flag=True, help="Print each setting with its origin, and end.")
def train(
    job_file: Path | None,
    settings: tuple[str, ...],
    out: Path | None,
    keys: Path | None,
    json_file: Path | None,
    show_config: bool,
    **flags: Any,
) -> int:
    """Start a whole cluster on this machine and train.

    Without JOB_FILE it trains a perceptron on the images of digits inside scikit-learn.
    """
    resolved = resolved_job(job_file, settings, {**flags, "keys": keys and str(keys)})
    if show_config:
        click.echo(show(resolved))
        return 0
    check_can_write(json_file)
    from .local import train_locally

    status, totals = train_locally(resolved.job, out)
    if totals:
        write_json(json_file, totals)
    return status


for command in (*roles.COMMANDS, bench, checkpoint, data, evaluate, export, keygen):
    dualshard.add_command(command)


@dualshard.command()
@operator_options
@click.option("--json", "as_json", is_flag=True, help="Print the whole report.")
@click.option("--watch", is_flag=True, help="Print again every second until the job ends.")
def status(address: str, keys: Path | None, as_json: bool, watch: bool) -> None:
    """Show what a running cluster does."""
    from .operator import Operator
    from .watch import print_status

    operator = Operator(parse_address(address, "--controller"), keys)
    print_status(operator, PATIENCE, as_json=as_json, watch=watch)


@dualshard.command()
@operator_options
def stop(address: str, keys: Path | None) -> None:
    """End a running job: every role says goodbye and exits."""
    from .operator import Operator

    operator = Operator(parse_address(address, "--controller"), keys)
    try:
        if not operator.stop(0, "stopped by an operator", PATIENCE):
            raise operator.no_answer(PATIENCE)
    finally:
        operator.close()
    click.echo(f"the job at {address} ends")
