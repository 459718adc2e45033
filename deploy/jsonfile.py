"""The option `--json FILE` of commands that end with results, and the file itself."""

import json
import os
from pathlib import Path

import click

from ..common.errors import UserError

json_option = click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the results to a file.",
)


def check_can_write(json_file: Path | None) -> None:
    """Refuse now what would otherwise fail after the work.

    Raises:
        UserError: the file cannot be written.
    """
    if json_file is None:
        return
    folder = json_file.parent
    if json_file.is_dir():
        raise _cannot_write(json_file, "it is a directory")
    if not folder.is_dir():
        raise _cannot_write(json_file, f"there is no folder {folder}")
    if not os.access(json_file if json_file.exists() else folder, os.W_OK):
        raise _cannot_write(json_file, "permission denied")


def write_json(json_file: Path | None, results: object) -> None:
    """Write the results, where a file was named.

    Raises:
        UserError: it could not be written.
    """
    if json_file is None:
        return
    try:
        json_file.write_text(json.dumps(results, indent=2) + "\n")
    except OSError as refused:
        raise _cannot_write(json_file, refused.strerror or str(refused)) from None


def _cannot_write(json_file: Path, why: str) -> UserError:
    return UserError(
        "--json", str(json_file), "a file that can be written", f"{why}: choose another"
    )
