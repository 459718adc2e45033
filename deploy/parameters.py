"""The parameters that a run has left, by name: from its latest checkpoint or its final model."""

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from ..common.config import read_job
from ..common.errors import UserError
from ..common.job import Job
from ..common.partition import is_extra
from ..common.types import Float32
from ..paramserver.checkpoint import has_checkpoint, open_checkpoint, read_vector, run_of

KEY = "RUN"
"""How the commands call the argument that names a run."""
MODEL = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What was found: the run's job, each parameter of the net by name in the model's order, and
    where it came from, in words."""

    job: Job
    named: dict[str, Float32]
    source: str


def read_parameters(path: Path) -> Parameters:
    """The parameters of a checkpoint, or of a run: its latest checkpoint, or else its final model.

    Raises:
        UserError: there are none, or they are damaged.
    """
    run = run_of(path, KEY)
    job = read_job(run / "job.toml")
    if path != run or has_checkpoint(run):
        return _of_the_net(_from_checkpoint(path, job))
    if (run / MODEL).is_file():
        return _of_the_net(Parameters(job, _read_model(run), MODEL))
    fix = "its job was not complete; train with job.checkpoint_every above 0"
    raise UserError(KEY, str(run), f"a run with a checkpoint or a {MODEL}", fix)


def _of_the_net(found: Parameters) -> Parameters:
    """Without what the parts of a cut net had for their training alone."""
    named = {n: view for n, view in found.named.items() if not is_extra(found.job, n)}
    return replace(found, named=named)


def _from_checkpoint(path: Path, job: Job) -> Parameters:
    found = open_checkpoint(path, KEY)
    vector, named, begin = read_vector(found, KEY), dict[str, Float32](), 0
    for parameter in found.manifest.layout:
        end = begin + prod(parameter.shape)
        named[parameter.name] = vector[begin:end].reshape(parameter.shape)
        begin = end
    return Parameters(job, named, f"checkpoint {found.path.name}")


def _read_model(run: Path) -> dict[str, Float32]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(run / MODEL)
    except (OSError, SafetensorError) as broken:
        raise UserError(KEY, str(run), f"a readable {MODEL}", str(broken)) from None
