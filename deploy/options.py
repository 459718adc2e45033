"""The options that several commands share, and what they mean for the job. No commands."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..common.config import Resolved, resolve

Command = Callable[..., Any]

_SETTINGS = {
    "workers": "worker.count",
    "servers": "paramserver.count",
    "data_servers": "dataserver.count",
    "threads": "worker.threads",
    "model": "model.ref",
    "start_timeout": "job.start_timeout",
    "resume": "job.resume",
    "keys": "security.keys",
}
"""The setting that each option of its own stands for."""

set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any key of the job file, such as data.source=idx:DIR.",
)


keys_option = click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of this host's keys, made by `dualshard keygen`.",
)


def job_options(command: Command) -> Command:
    """The argument and options that make up a job: `resolved_job` takes them."""
    return _decorated(
        command,
        click.argument("job_file", required=False, type=click.Path(path_type=Path)),
        set_option,
        click.option("--workers", type=int, help="worker.count"),
        click.option("--servers", type=int, help="paramserver.count"),
        click.option("--data-servers", type=int, help="dataserver.count"),
        click.option("--threads", type=int, help="worker.threads"),
        click.option(
            "--model",
            metavar="REF",
            help="model.ref: a zoo name, module:attribute or file.py:attribute",
        ),
        click.option(
            "--start-timeout",
            metavar="TIME",
            help="How long all roles have to join, such as 60s.",
        ),
        click.option(
            "--resume",
            metavar="RUN",
            help="Go on with this run, or from one of its checkpoints.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help="The run directory (default: runs/DATE-TIME).",
        ),
    )


def role_options(command: Command) -> Command:
    """The options that every role takes: fields of `Options`."""
    return _decorated(
        command,
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
            "--interface",
            default="",
            metavar="NAME",
            help="Listen on this network card's address, at any free port (instead of --bind).",
        ),
        keys_option,
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
    )


def operator_options(command: Command) -> Command:
    """Where a running controller listens."""
    return _decorated(
        command,
        click.option(
            "--controller",
            "address",
            default="127.0.0.1:7077",
            show_default=True,
            metavar="HOST:PORT",
            help="Where the controller listens.",
        ),
        keys_option,
    )


def resolved_job(
    job_file: Path | None, settings: tuple[str, ...], flags: dict[str, Any]
) -> Resolved:
    """The job of all layers; `flags` as the command line gave them, those of other meaning too.

    A job that goes on from a checkpoint takes the run's own job.toml, unless a file is given.

    Raises:
        UserError: for the first setting that is wrong.
    """
    given = {key: flags[name] for name, key in _SETTINGS.items() if name in flags}
    resolved = resolve(job_file, os.environ, settings, given)
    if job_file is None and resolved.job.job.resume:
        from ..paramserver.checkpoint import run_of

        run = run_of(Path(resolved.job.job.resume), "job.resume")
        return resolve(run / "job.toml", os.environ, settings, given)
    return resolved


def _decorated(command: Command, *decorators: Callable[[Command], Command]) -> Command:
    return functools.reduce(lambda wrapped, decorate: decorate(wrapped), decorators[::-1], command)
