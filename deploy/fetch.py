"""`dualshard data fetch`: a published data set into a folder, and how to train on it."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..common.errors import UserError
from .published import DATA_SETS, DataSet, File
from .signals import Interrupted, interruptible

if TYPE_CHECKING:
    from rich.progress import Progress


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(list(DATA_SETS)))
@click.option(
    "--to",
    metavar="DIR",
    help="The folder to put it into (default: data/NAME).",
)
def fetch(name: str, to: str | None) -> int:
    """Download mnist, fashion-mnist, cifar10 or cifar100.

    Every file is checked. One that is there and right stays as it is, one that is there in part is
    gone on with.
    """
    folder = Path(to or f"data/{name}").expanduser()
    if to and "://" in to:
        raise UserError("--to", to, "a folder of this machine", "give a path")
    data = DATA_SETS[name]
    try:
        with interruptible():
            _bring(name, data, folder)
    except Interrupted as signal:
        parts = [f"{path.name} ({path.stat().st_size:,} bytes)" for path in folder.glob("*.part")]
        kept = f"{folder} keeps {', '.join(parts)}; " if parts else ""
        click.echo(f"dualshard: stopped; {kept}the same command goes on", err=True)
        return 128 + signal.number
    source = shlex.quote(f"data.source={data.scheme}:{folder}")
    click.echo(f"{name} is whole in {folder}; train on it with --set {source}")
    return 0


def _bring(name: str, data: DataSet, folder: Path) -> None:
    """Download what is not there yet.

    Raises:
        UserError: naming the files that are missing and where to put them; or the folder.
    """
    from .download import NoMirror, download, is_there, writing

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in data.files if not is_there(file, folder)]
    with _bars(missing) as bars:
        for number, file in enumerate(missing):
            try:
                failed = download(file, data.mirrors, folder, _bar(bars, file))
            except NoMirror as reasons:
                raise _by_hand(name, data, folder, missing[number:], reasons) from None
            if failed:
                click.echo(f"dualshard: {file.name} is there, after {failed}", err=True)


def _by_hand(
    name: str, data: DataSet, folder: Path, missing: list[File], reasons: Exception
) -> UserError:
    """What to do where no mirror can be had."""
    return UserError(
        "data fetch",
        name,
        f"a mirror that has {missing[0].name}, {reasons}",
        f"download {', '.join(map(str, missing))} from {data.mirrors[0]} elsewhere and put "
        f"{'them' if len(missing) > 1 else 'it'} into {folder}, the same command then checks "
        "what is there",
    )


def _bars(files: list[File]) -> "Progress":
    """Room for a bar for each file that is under way; nothing where the output is no terminal."""
    from rich import progress

    from .screen import console

    shown = console()
    return progress.Progress(
        "{task.description}",
        progress.BarColumn(16),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(compact=True),
        console=shown,
        disable=not files or not shown.is_terminal or shown.is_dumb_terminal,
    )


def _bar(bars: "Progress", file: File) -> Callable[[int], None]:
    """A new bar; the function that moves it to a number of bytes."""
    bar = bars.add_task(file.name, total=file.size)
    return lambda have: bars.update(bar, completed=have)
