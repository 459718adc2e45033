"""The command `dualshard bench NAME`: runs one of the measured comparisons of `bench`."""

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from .jsonfile import check_can_write, json_option, write_json
from .signals import ENDING

if TYPE_CHECKING:
    from ..bench.report import Row

WIDTH = 160
"""Columns of the table where the output is no terminal."""

data_option = click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder with MNIST's IDX files.",
)


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure this installation against what one would otherwise use."""
    if context.invoked_subcommand is None:
        raise click.UsageError(f"name a benchmark: {', '.join(bench.commands)}", context)


@bench.command()
@json_option
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option(
    "--seconds",
    default=0.3,
    show_default=True,
    type=click.FloatRange(0.01, 60),
    help="How long each measurement of a round takes.",
)
def wire(json_file: Path | None, rounds: int, seconds: float) -> None:
    """Push-and-pull of 1 MiB shards against a raw ZeroMQ echo."""
    from ..bench.push_pull import bench_wire

    _report(json_file, lambda: bench_wire(rounds, seconds, click.echo))


@bench.command()
@json_option
@data_option
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
def train(json_file: Path | None, data: Path | None, rounds: int) -> None:
    """A local cluster on MNIST against PyTorch, alone and with DDP."""
    from ..bench.training import bench_train

    _report(json_file, lambda: bench_train(data, rounds, click.echo))


@bench.command()
@json_option
@data_option
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1))
def width(json_file: Path | None, data: Path | None, seeds: int) -> None:
    """Test accuracy on MNIST with 1 to 16 asynchronous workers."""
    from ..bench.width import bench_width

    _report(json_file, lambda: bench_width(data, seeds, click.echo))


@bench.command()
@json_option
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(1))
def apply(json_file: Path | None, rounds: int) -> None:
    """Update rules on 1 MiB shards against a copy in memory, one thread."""
    from ..bench.apply import bench_apply

    _report(json_file, lambda: bench_apply(rounds, click.echo))


def _report(json_file: Path | None, measure: Callable[[], "Sequence[Row]"]) -> None:
    """Measure; print what a reader must know, and the rows; write them to the file."""
    from ..bench.machine import machine_facts
    from ..bench.report import make_table

    check_can_write(json_file)
    for number in ENDING:  # unwind, so that the other processes are ended too
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    facts = machine_facts()
    rows = measure()
    write_json(json_file, [row.to_dict() for row in rows])
    click.echo(f"\ncommand: {shlex.join(['dualshard', *sys.argv[1:]])}")
    for name, fact in facts.items():
        click.echo(f"{name}: {fact}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(make_table(rows))
