"""`dualshard checkpoint ls` and `verify`: what a run has saved, and whether it is whole."""

from pathlib import Path

import click

from ..common.errors import UserError

KEY = "RUN"
"""How these commands call the argument that names a run."""


@click.group()
def checkpoint() -> None:
    """Look at the checkpoints of a run."""


@checkpoint.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
def ls(run: Path) -> None:
    """List the checkpoints of RUN."""
    from ..paramserver import checkpoint as disk

    run = disk.run_of(run, KEY)
    latest = disk.open_checkpoint(run, KEY).path if disk.has_checkpoint(run) else None
    click.echo("checkpoint    epochs   files  size")
    for path in disk.all_checkpoints(run):
        mark = "  latest" if path == latest else ""
        click.echo(f"{path.name:<10}{_described(path)}{mark}")


def _described(path: Path) -> str:
    from ..paramserver import checkpoint as disk

    if not disk.is_complete(path):
        return "  incomplete"
    try:
        manifest = disk.open_checkpoint(path, KEY).manifest
    except UserError as damage:
        return f"  {damage}"
    size = f"{manifest.bytes / (1 << 20):.1f} MiB"
    return f"{manifest.position.epochs:>10.2f}{len(manifest.files):>8}  {size}"


@checkpoint.command()
@click.argument("run", metavar="RUN_OR_CHECKPOINT", type=click.Path(path_type=Path))
def verify(run: Path) -> None:
    """Compare every file with its checksum.

    Of a run all complete checkpoints are read.
    """
    from ..paramserver import checkpoint as disk

    paths = [run]
    if disk.run_of(run, KEY) == run:
        disk.open_checkpoint(run, KEY)  # says what is wrong with `latest`
        paths = [path for path in disk.all_checkpoints(run) if disk.is_complete(path)]
    for path in paths:
        found = disk.open_checkpoint(path, KEY)
        click.echo(f"{path.name}/{disk.INDEX}  ok")
        for file in found.manifest.files:
            disk.check_file(path, file, KEY)
            click.echo(f"{path.name}/{file.name}  {file.size:,} bytes  ok")
