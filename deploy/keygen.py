"""`dualshard keygen`: makes, copies and changes the key files that `common.keys` reads."""

import shlex
from pathlib import Path

import click

from ..common.errors import UserError
from ..common.keys import (
    OLD,
    ROLES,
    KeyRing,
    next_old,
    public_files,
    read_pair,
    read_public,
    role_of,
    write_pair,
    write_public,
)
from ..common.transport import new_pair


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="Add a pair, such as worker-gpu1: a role, a dash, more words. For one host alone.",
)
@click.option(
    "--rotate",
    metavar="NAME",
    help="Make a fresh pair for a role or name. The old public key counts until you remove it.",
)
@click.option(
    "--copy",
    nargs=2,
    type=(str, click.Path(path_type=Path)),
    metavar="NAME OUT",
    help="Put what the host of this role or name needs into the folder OUT.",
)
def keygen(
    folder: Path, names: tuple[str, ...], rotate: str | None, copy: tuple[str, Path] | None
) -> None:
    """Make the keys of a cluster in DIR: a pair for each role, and the operator's.

    Without options DIR must not have keys yet. Give every host DIR/public and the one file
    DIR/NAME.key of its role (--copy does that), and keep DIR itself where you run commands.
    """
    if sum(map(bool, (names, rotate, copy))) > 1:
        raise click.UsageError("give one of --name, --rotate and --copy")
    if rotate:
        said = rotate_pair(folder, rotate)
    elif copy:
        said = copy_for(folder, *copy)
    else:
        said = make_pairs(folder, names or ROLES)
    click.echo(said)


def make_pairs(folder: Path, names: tuple[str, ...]) -> str:
    """Make a pair for each of these names.

    Raises:
        UserError: there is one already, a name is none, or the folder cannot be written.
    """
    for name in names:
        role_of(name)
        if OLD.search(name):
            raise UserError("--name", name, "a name that does not end in -old-N", "choose another")
        for path in (folder / f"{name}.key", folder / "public" / f"{name}.pub"):
            if path.exists():
                rotate = f"dualshard keygen {shlex.quote(str(folder))} --rotate {name}"
                fix = f"make a fresh pair with `{rotate}`"
                raise UserError(
                    "DIR", str(path), "no such file yet", f"{fix}, or choose another DIR"
                )
    for name in names:
        write_pair(folder, name, new_pair())
    return f"made {', '.join(names)} in {folder}: keep {folder}/*.key secret"


def rotate_pair(folder: Path, name: str) -> str:
    """Make a fresh pair in place of one; the old public key stays, under a name of its own.

    Raises:
        UserError: there is no such pair, or the folder cannot be written.
    """
    role_of(name)
    read_pair(folder / f"{name}.key")
    old = read_public(folder / "public" / f"{name}.pub")
    kept = f"{name}-old-{next_old(folder, name)}"
    write_public(folder, kept, old)
    write_pair(folder, name, new_pair())
    return (
        f"made {name} afresh in {folder}; copy {folder}/public to all hosts, then {name}.key to its"
        f" own; then remove public/{kept}.pub everywhere: until then the old key counts, too"
    )


def copy_for(folder: Path, name: str, out: Path) -> str:
    """Copy one pair and all public keys into a folder of their own.

    Raises:
        UserError: there is no such pair, or it cannot be written there.
    """
    role = role_of(name)
    pair = read_pair(folder / f"{name}.key")
    if (out / f"{name}.key").exists():
        raise UserError(
            "--copy",
            str(out / f"{name}.key"),
            "no such file yet",
            f"remove {out}, or choose another OUT",
        )
    for path in public_files(folder):
        write_public(out, path.stem, read_public(path))
    write_pair(out, name, pair)
    KeyRing(out, role)
    return f"{out} has what a host needs to run a {role}: copy it there, and remove it here"
