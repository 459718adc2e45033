"""`dualshard init`: a folder to begin with, copied from the files that the package brings along."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from ..common.errors import UserError

PARTS = {"starter": "", "docker": "", "systemd": "systemd", "install-host.sh": "install-host.sh"}
"""What is copied, and where to: compose.yaml wants job.toml and keys/ beside it."""
EXECUTABLE = ".sh"


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a folder with a job, a host file, and files for containers and systemd."""
    wanted = dict(shipped())
    for place in wanted:
        if (folder / place).exists():
            fix = "choose another folder, or move it away: nothing was written"
            raise UserError("DIR", str(folder), f"a folder without {place}", fix)
    try:
        for place, file in wanted.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.read_bytes())
            path.chmod(0o755 if path.suffix == EXECUTABLE else 0o644)
    except OSError as refused:
        fix = f"{refused.strerror}: choose another folder"
        raise UserError("DIR", str(folder), "a folder that can be written", fix) from None
    click.echo(f"made {', '.join(sorted(wanted))} in {folder}; read {folder / 'README.md'} first")


def shipped() -> Iterator[tuple[str, Traversable]]:
    """The files that are copied, by their place in the new folder."""
    for part, place in PARTS.items():
        yield from _files(files(__package__ or "") / part, place)


def _files(found: Traversable, place: str) -> Iterator[tuple[str, Traversable]]:
    if found.is_file():
        yield place, found
        return
    for inner in found.iterdir():
        yield from _files(inner, f"{place}/{inner.name}".lstrip("/"))
