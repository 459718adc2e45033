"""Where settings come from: the job file, the environment, the command line. Nothing else may.

This is the one file that reads TOML and `DUALSHARD_*`; what settings there are, and what they may
hold, stands in `job.py`. Command line over environment over file over default; every layer is
checked whole, also where a higher one hides it. `--set` goes in order, and flags of their own
(`--workers`) win over `--set`. Relative paths inside values (`file.py:attribute`, `idx:DIR`) stay
as they are: relative to the working directory, not to the job file.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .errors import UserError
from .job import SECTIONS, SETTINGS, Job, unknown_setting
from .settings import Kind, Setting
from .suggest import nearest
from .toml import shown

PREFIX = "DUALSHARD_"
VARIABLES = {f"{PREFIX}{key.upper().replace('.', '_')}": key for key in SETTINGS}
"""The environment variable of every setting: DUALSHARD_WORKER_COUNT is `worker.count`."""

ALIASES = {"DMLC_NUM_WORKER": "worker.count", "DMLC_NUM_SERVER": "paramserver.count"}
"""Variables of other systems that mean the same; the ones of our own win over them."""

FLAGS = {
    "worker.count": "--workers",
    "paramserver.count": "--servers",
    "dataserver.count": "--data-servers",
    "worker.threads": "--threads",
    "model.ref": "--model",
    "job.start_timeout": "--start-timeout",
    "job.resume": "--resume",
    "security.keys": "--keys",
    "security.insecure": "--insecure",
}
"""How the command line calls a setting that has a flag of its own."""

_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}
_WIDEST = 40


@dataclass(frozen=True)
class Resolved:
    """A job and, for each dotted key, where its value came from.

    An origin reads `default`, `file job.toml`, `environment DUALSHARD_JOB_SEED`, `--set` or the
    flag (`--workers`).
    """

    job: Job
    origins: Mapping[str, str]


@dataclass(frozen=True)
class _Given:
    """One value as some layer gives it; a table that `joins` keeps the entries of lower layers."""

    key: str
    value: Any
    origin: str
    joins: bool = False


def resolve(
    path: Path | None,
    environment: Mapping[str, str],
    settings: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> Resolved:
    """The job that all layers make together.

    Arguments:
        path: the job file, if any.
        environment: usually `os.environ`.
        settings: the texts `key=value` of `--set`, in order.
        flags: dotted key to value, from flags of their own; None stands for a flag not given.
    Raises:
        UserError: for the first thing that is wrong, with its origin.
    """
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    origins = dict.fromkeys(SETTINGS, "default")
    for layer in (
        _from_file(path) if path is not None else (),
        _from_environment(environment),
        _from_settings(settings),
        _from_flags(flags or {}),
    ):
        for given in layer:
            section, name = given.key.split(".")
            value, origin = _checked(given), given.origin
            if given.joins:
                value = {**values[section].get(name, {}), **value}
                origin = _joined(origins[given.key], origin)
            values[section][name] = value
            origins[given.key] = origin
    return Resolved(Job.from_dict(values), origins)


def read_job(path: Path) -> Job:
    """The job in a file alone, without environment or command line. Raises `UserError`."""
    return Job.from_dict(_read_toml(path))


def rows(resolved: Resolved) -> list[tuple[str, str, str]]:
    """(dotted key, value as TOML, origin) of every setting, in the order of the job file."""
    return [
        (key, rule.write(resolved.job.value(key)), resolved.origins[key])
        for key, rule in SETTINGS.items()
    ]


def show(resolved: Resolved) -> str:
    """`section.key = value   # origin` a line, aligned; the text is TOML of the same job."""
    lines = [(f"{key} = {value}", shown(origin)) for key, value, origin in rows(resolved)]
    width = max(len(left) for left, _ in lines if len(left) <= _WIDEST)
    return "\n".join(f"{left:{width}}   # {origin}" for left, origin in lines)


def _from_file(path: Path) -> Iterator[_Given]:
    tables, origin = _read_toml(path), f"file {path}"
    try:
        job = Job.from_dict(tables)
    except UserError as error:
        raise _at(error, origin) from None
    for section, table in tables.items():
        for name in table:
            key = f"{section}.{name}"
            yield _Given(key, job.value(key), origin)


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    for variable, key in ALIASES.items():
        if variable in environment:
            yield _given_text(key, environment[variable], f"environment {variable}")
    for variable in sorted(environment):
        if variable in VARIABLES:
            key = VARIABLES[variable]
            yield _given_text(key, environment[variable], f"environment {variable}")
        else:
            _refuse_misspelt(variable, environment[variable])


def _refuse_misspelt(variable: str, value: str) -> None:
    """A variable that names a section of ours must name a key too; others are not our business."""
    for section in SECTIONS:
        prefix = f"{PREFIX}{section.upper()}_"
        if variable.startswith(prefix):
            own = {key.upper(): f"{prefix}{key.upper()}" for key in SECTIONS[section].rules()}
            close = nearest(variable.removeprefix(prefix), own)
            fix = f"did you mean {own[close]}?" if close else f"there are {', '.join(own.values())}"
            raise UserError(variable, shown(value), "a variable that names a setting", fix)


def _from_settings(settings: Sequence[str]) -> Iterator[_Given]:
    for text in settings:
        dotted, equals, value = text.partition("=")
        dotted = dotted.strip()
        if not equals:
            raise UserError("--set", shown(text), "key=value", "for example --set worker.count=2")
        if dotted in SETTINGS:
            yield _given_text(dotted, value, "--set")
        else:
            yield _given_entry(dotted, value)


def _given_entry(dotted: str, text: str) -> _Given:
    """`model.args.hidden=[64,32]`: one entry of a table. Its value is TOML, or else text."""
    section, _, name = dotted.partition(".")
    name, _, entry = name.partition(".")
    key = f"{section}.{name}"
    if entry and key in SETTINGS and SETTINGS[key].kind is Kind.TABLE:
        value = _parsed_toml(text)
        return _Given(key, {entry: text if value is None else value}, "--set", joins=True)
    raise unknown_setting(dotted, text)


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for key, value in flags.items():
        assert key in SETTINGS, f"no setting {key}"
        if value is not None:
            yield _Given(key, value, FLAGS.get(key, "command line"))


def _given_text(key: str, text: str, origin: str) -> _Given:
    return _Given(key, _from_text(SETTINGS[key], text), origin)


def _from_text(rule: Setting, text: str) -> Any:
    """What `text` means for a setting; text that means nothing stays, for the check to refuse."""
    match rule.kind:
        case Kind.TEXT:
            return text
        case Kind.FLAG:
            return _WORDS.get(text.strip().lower(), text)
        case Kind.INTEGER | Kind.NUMBER:
            return _number(text)
        case Kind.TEXTS if not text.lstrip().startswith("["):
            return [item.strip() for item in text.split(",")] if text.strip() else []
        case Kind.TEXTS | Kind.TABLE:
            value = _parsed_toml(text)
            return text if value is None else value
        case _:
            return text.strip()


def _number(text: str) -> int | float | str:
    """The number in `text`, as an integer where it is written like one."""
    try:
        return int(text) if re.fullmatch(r"\s*[+-]?[0-9_]+\s*", text) else float(text)
    except ValueError:
        return text


def _parsed_toml(text: str) -> Any:
    """The one TOML value that `text` is, or None."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return None
    return table["value"] if table.keys() == {"value"} else None


def _checked(given: _Given) -> Any:
    try:
        return SETTINGS[given.key].check(given.key, given.value)
    except UserError as error:
        raise _at(error, given.origin) from None


def _at(error: UserError, origin: str) -> UserError:
    """The same error, with where the value came from."""
    return UserError(error.key, error.value, error.expected, f"{error.fix} (from {shown(origin)})")


def _joined(below: str, origin: str) -> str:
    """The origin of a table some entries of which come from a lower layer."""
    if below == "default":
        return origin
    return below if below.endswith(origin) else f"{below} and {origin}"


def _read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file in UTF-8, with or without a byte order mark."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        _refuse_file(path, "there is no such file, check the path")
    except IsADirectoryError:
        _refuse_file(path, f"it is a directory, name a file inside it: {path / 'job.toml'}")
    except OSError as error:
        _refuse_file(path, f"reading it failed: {error.strerror}")
    except UnicodeDecodeError as error:
        _refuse_file(path, f"save it in UTF-8 (byte {error.start} is not)")
    except ValueError as error:
        _refuse_file(path, f"correct the syntax: {' '.join(str(error).split())}")
    except RecursionError:
        _refuse_file(path, "its brackets are nested too deeply")


def _refuse_file(path: Path, fix: str) -> NoReturn:
    raise UserError("job file", shown(str(path)), "a readable TOML file in UTF-8", shown(fix))
