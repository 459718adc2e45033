"""What a launcher is asked to do: the job, the hosts, how roles are started there. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...common.job import Job
from .hostfile import Host

PORT = 7077
"""Where the controller listens, unless another port is given."""
RESTARTS = 3
"""How often roles are started again in one job, all together."""


@dataclass(frozen=True)
class Plan:
    """One launch, as the command line asked for it.

    Attributes:
        job: the resolved job.
        hosts: those of the hostfile; empty without one (Slurm and Kubernetes have their own).
        hostfile: how errors call it.
        out: the run directory; None: a new one.
        port: the controller's.
        own_port: whether the user has chosen it; Slurm's jobs have each one of their own else.
        keys: the folder of each host's keys; empty: there are none.
        insecure: whether roles may listen beyond their machine without keys.
        max_restarts: how often workers and data servers that fail are started again, in all.
        ssh: the command that is ssh, with options of the user's own.
        directory: where the launcher runs.
        options: settings of one launcher alone (`--option NAME=VALUE`).
        dry_run: whether nothing is started, but said what would be.
    """

    job: Job
    hosts: tuple[Host, ...] = ()
    hostfile: str = ""
    out: Path | None = None
    port: int = PORT
    own_port: bool = False
    keys: str = ""
    insecure: bool = False
    max_restarts: int = RESTARTS
    ssh: tuple[str, ...] = ("ssh",)
    directory: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
