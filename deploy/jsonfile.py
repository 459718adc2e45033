"""The option `--json FILE` of commands that end with results, and the file itself; what is said of
any file that cannot be written."""

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


def check_can_write(file: Path | None, option: str = "--json") -> None:
    """Refuse now what would otherwise fail after the work.

    Raises:
        UserError: the file that `option` names cannot be written.
    """
    if file is None:
        return
    folder = file.parent
    if file.is_dir():
        raise cannot_write(file, "it is a directory", option)
    if not folder.is_dir():
        raise cannot_write(file, f"there is no folder {folder}", option)
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise cannot_write(file, "permission denied", option)


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
        raise cannot_write(json_file, refused.strerror or str(refused)) from None


def cannot_write(file: Path, why: str, option: str = "--json") -> UserError:
    """The error of a file that `option` names."""
    return UserError(option, str(file), "a file that can be written", f"{why}: choose another")
