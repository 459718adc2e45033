"""The command `dualshard bench NAME`: runs one of the measured comparisons of `bench`."""

import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from rich.console import Console

from .jsonfile import check_can_write, json_option, write_json
from .signals import ENDING

if TYPE_CHECKING:
    from ..bench.report import Row

Command = TypeVar("Command", bound=Callable[..., object])
WIDTH = 160
"""Columns of the table where the output is no terminal."""

RULES = ("sgd", "momentum", "adagrad", "rmsprop", "adam")

data_option = click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder with MNIST's IDX files.",
)


def seconds_option(default: float) -> Callable[[Command], Command]:
    """How long one measurement takes."""
    return click.option(
        "--seconds",
        default=default,
        show_default=True,
        type=click.FloatRange(0.01, 60),
        help="How long each measurement of a round takes.",
    )


def rules_option(default: str) -> Callable[[Command], Command]:
    """Which update rules the server applies."""
    return click.option(
        "--rules",
        default=default,
        show_default=True,
        metavar="RULE,...",
        callback=_rules,
        help="Update rules; the first one is compared with everyone.",
    )


def _numbers(like: str) -> Callable[[click.Context, click.Parameter, str | None], list[int]]:
    """Reads `64,256` as numbers, nothing as none; `like` says what is expected."""

    def read(context: click.Context, option: click.Parameter, text: str | None) -> list[int]:
        parts = [] if text is None else text.split(",")
        if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
            raise click.BadParameter(f"{text!r} is not a list of {like}")
        return [int(part) for part in parts]

    return read


def _names(text: str | None, table: Mapping[str, object]) -> list[str]:
    """Keys of a table, separated by commas; nothing as all of them."""
    parts = list(table) if text is None else text.split(",")
    if not set(parts) <= table.keys():
        raise click.BadParameter(f"{text!r} is not a list of {', '.join(table)}")
    return parts


def _rules(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    """`sgd,adam` as names."""
    parts = text.split(",")
    if not set(parts) <= set(RULES):
        raise click.BadParameter(f"{text!r} is not a list of {', '.join(RULES)}")
    return parts


def _nets(context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    """`mlp,lenet` as names, nothing as all of them."""
    from ..bench.nets import NETS

    return _names(text, NETS)


def _parts(context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    """`pixels,jpeg` as names, nothing as all of them."""
    from ..bench.data import PARTS

    return _names(text, PARTS)


def _admm_parts(context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    """`small,link` as names, nothing as all of them."""
    from ..bench.admm import PARTS

    return _names(text, PARTS)


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure this installation against what one would otherwise use."""
    if context.invoked_subcommand is None:
        raise click.UsageError(f"name a benchmark: {', '.join(bench.commands)}", context)


@bench.command()
@json_option
@click.option(
    "--sizes",
    default="64,256",
    show_default=True,
    metavar="MIB,...",
    callback=_numbers("MiB like 64,256"),
    help="Sizes of the models.",
)
@rules_option(",".join(RULES))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@seconds_option(0.5)
def pushpull(
    json_file: Path | None, sizes: list[int], rules: list[str], rounds: int, seconds: float
) -> None:
    """Push, apply and pull of whole models against raw ZeroMQ, memory, PyTorch RPC and Ray."""
    from ..bench.push_pull import bench_push_pull

    _report(json_file, lambda: bench_push_pull(sizes, rules, rounds, seconds, click.echo))


@bench.command()
@json_option
@click.option(
    "--size",
    default=64,
    show_default=True,
    type=click.IntRange(1),
    metavar="MIB",
    help="Size of the model.",
)
@rules_option("sgd,adam")
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1))
@seconds_option(0.5)
def encrypted(
    json_file: Path | None, size: int, rules: list[str], rounds: int, seconds: float
) -> None:
    """Push, apply and pull over tcp: in the clear, under CURVE alone, and sealed with AES-GCM."""
    from ..bench.encrypted import bench_encrypted

    _report(json_file, lambda: bench_encrypted(size, rules, rounds, seconds, click.echo))


@bench.command()
@json_option
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@seconds_option(0.5)
def scale(json_file: Path | None, rounds: int, seconds: float) -> None:
    """Aggregate bandwidth of 1 to 4 servers and of 1 to 4 workers, and what is saturated."""
    from ..bench.scale import bench_scale

    _report(json_file, lambda: bench_scale(rounds, seconds, click.echo))


@bench.command()
@json_option
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
def straggler(json_file: Path | None, rounds: int) -> None:
    """Four workers, one ten times slower: time to an accuracy in each mode."""
    from ..bench.straggler import bench_straggler

    _report(json_file, lambda: bench_straggler(rounds, click.echo))


@bench.command()
@json_option
@data_option
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
def compression(json_file: Path | None, data: Path | None, seeds: int) -> None:
    """Test accuracy on MNIST and bytes pushed, by the way in which gradients travel."""
    from ..bench.compression import bench_compression

    _report(json_file, lambda: bench_compression(data, seeds, click.echo))


@bench.command()
@json_option
@click.option("--size", default=256, show_default=True, type=click.IntRange(1), metavar="MIB")
def memory(json_file: Path | None, size: int) -> None:
    """Resident memory of a server, by rule and transport, against what it has to hold."""
    from ..bench.resident import bench_memory

    _report(json_file, lambda: bench_memory(size, click.echo))


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


@bench.command()
@json_option
@click.option("--nets", metavar="NAME,...", callback=_nets, help="Nets of the zoo; default: all.")
@click.option(
    "--batches",
    metavar="N,...",
    callback=_numbers("numbers of samples like 8,32"),
    help="Samples in a minibatch; default: those that have goals.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="cpu|cuda:N",
    help="Where both sides compute: one thread of the processor, or one GPU.",
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@seconds_option(1.0)
def compute(
    json_file: Path | None,
    nets: list[str],
    batches: list[int],
    device: str,
    rounds: int,
    seconds: float,
) -> None:
    """Training steps of each net of the zoo on one thread, or one GPU, against PyTorch."""
    from ..bench.compute import bench_compute

    _report(json_file, lambda: bench_compute(nets, batches, device, rounds, seconds, click.echo))


@bench.command()
@json_option
@click.option(
    "--nets",
    default="mlp,lenet,cifar",
    show_default=True,
    metavar="NAME,...",
    callback=_nets,
    help="Nets of the zoo.",
)
@click.option(
    "--batches",
    default="8,32,128",
    show_default=True,
    metavar="N,...",
    callback=_numbers("numbers of samples like 8,32"),
    help="Samples in a minibatch.",
)
@click.option(
    "--merge-every",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="The setting worker.merge_every.",
)
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@seconds_option(1.0)
def threads(
    json_file: Path | None,
    nets: list[str],
    batches: list[int],
    merge_every: int,
    rounds: int,
    seconds: float,
) -> None:
    """Two lock-free threads of a worker against one, and against PyTorch's Hogwild."""
    from ..bench.threads import bench_threads

    _report(
        json_file,
        lambda: bench_threads(nets, batches, merge_every, rounds, seconds, click.echo),
    )


@bench.command()
@json_option
@data_option
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--epochs", default=5, show_default=True, type=click.IntRange(1))
def lockfree(json_file: Path | None, data: Path | None, seeds: int, epochs: int) -> None:
    """Errors on MNIST of 2 and 4 lock-free threads beside a serial run."""
    from ..bench.lockfree import bench_lockfree

    _report(json_file, lambda: bench_lockfree(data, seeds, epochs, click.echo))


@bench.command()
@json_option
@data_option
@click.option(
    "--epochs",
    default="2,10",
    show_default=True,
    metavar="N,...",
    callback=_numbers("numbers of epochs like 2,10"),
    help="Lengths of the jobs.",
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
def accuracy(json_file: Path | None, data: Path | None, epochs: list[int], rounds: int) -> None:
    """Time to 98, 99 and 99.3 % on MNIST with a convolutional net, against PyTorch's DDP."""
    from ..bench.accuracy import bench_accuracy

    _report(json_file, lambda: bench_accuracy(data, epochs, rounds, click.echo))


@bench.command()
@json_option
@click.option(
    "--part",
    "parts",
    metavar="NAME,...",
    callback=_parts,
    help="Of pixels, jpeg, end-to-end, wait and state; default: all.",
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@seconds_option(0.5)
def data(json_file: Path | None, parts: list[str], rounds: int, seconds: float) -> None:
    """Augmentation against OpenCV and NumPy, and data servers against PyTorch's DataLoader."""
    from ..bench.data import bench_data

    _report(json_file, lambda: bench_data(parts, rounds, seconds, click.echo))


@bench.command()
@json_option
@data_option
@click.option(
    "--part",
    "parts",
    metavar="NAME,...",
    callback=_admm_parts,
    help="Of small, sixty, slow, replicas and link; default: all.",
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--validation",
    is_flag=True,
    help="Test on images held out from training, to choose settings; nothing is promised then.",
)
def admm(
    json_file: Path | None, data: Path | None, parts: list[str], seeds: int, validation: bool
) -> None:
    """Nets cut between machines by ADMM against exact backprop, local SGD and EASGD."""
    from ..bench.admm import bench_admm

    _report(json_file, lambda: bench_admm(parts, data, seeds, click.echo, validation=validation))


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
