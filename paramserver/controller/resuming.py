"""What a job goes on from, and whether the two fit. Pure: others read the files."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...common.cluster import Parameter
from ...common.errors import UserError
from ...common.job import Job
from ...common.rules import make_rule
from ...common.units import format_size
from ..manifest import Manifest
from ..modes import section_of
from .scoreboard import Row


@dataclass(frozen=True, slots=True)
class Resumed:
    """A checkpoint's index, and the rows of the run's metrics.jsonl so far."""

    manifest: Manifest
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class RuleName:
    """An update rule and the names of what it remembers about each parameter."""

    name: str
    slots: tuple[str, ...]


def rule_of(job: Job) -> RuleName:
    """The rule of the parameter servers."""
    section = section_of(job)
    return RuleName(section.rule, make_rule(section).slots)


def check_fits(job: Job, manifest: Manifest) -> None:
    """That a job can go on from this checkpoint, as far as its settings tell.

    Raises:
        UserError: it is complete already, or its servers would hold something else.
    """
    done = manifest.position.epoch
    if done >= job.job.epochs:
        fix = "the job is complete; to go on, raise it with --set job.epochs=N"
        raise UserError("job.epochs", job.job.epochs, f"more than the {done} that are done", fix)
    fix = "leave it as it was"
    size, saved = job.paramserver.shard_bytes, manifest.shard_bytes
    if size != saved:
        expected = f"{format_size(saved)}, as in the checkpoint"
        raise UserError("paramserver.shard_bytes", format_size(size), expected, fix)
    rule = rule_of(job)
    if (rule.name, rule.slots) != (manifest.rule, manifest.slots):
        expected = f"{manifest.rule}, as in the checkpoint"
        key = f"{section_of(job).name_in_file}.rule"
        raise UserError(key, rule.name, expected, fix)


def layout_difference(saved: Sequence[Parameter], built: Sequence[Parameter]) -> str:
    """The first parameter in which the model differs from the one in the checkpoint."""
    for one, other in zip(saved, built, strict=False):
        if one != other:
            return (
                f"the checkpoint holds another model: its parameter {_shown(one)} is "
                f"{_shown(other)} here; "
                "leave model.ref and model.args as they were"
            )
    return (
        f"the checkpoint holds another model: {len(saved)} parameters, here are {len(built)}; "
        "leave model.ref and model.args as they were"
    )


def _shown(parameter: Parameter) -> str:
    decay = "" if parameter.decays else " without weight decay"
    kind = ", averaged" if parameter.averaged else ""
    return f"{parameter.name} {list(parameter.shape)}{decay}{kind}"
