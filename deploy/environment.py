"""Which variables of the environment mean what, beside `DUALSHARD_*`. Pure: the environment comes
in.

The variables of DMLC (ps-lite, BytePS, MXNet) that mean the same as an option of ours stand for it
where it is not given; those for settings are in `common.config`. Slurm's describe a task, not a
job, and only `launch.slurm_task` reads them.
"""

from collections.abc import Mapping

ADVERTISE, INTERFACE = "DMLC_NODE_HOST", "DMLC_INTERFACE"
"""Where others reach this role; the network card that it listens on."""
ROOT_URI, ROOT_PORT = "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT"
"""Where the scheduler, our controller, is."""


def controller_of(environment: Mapping[str, str]) -> str | None:
    """HOST:PORT of the controller as DMLC names it; None unless both are there."""
    uri, port = environment.get(ROOT_URI), environment.get(ROOT_PORT)
    return f"{uri}:{port}" if uri and port else None


def of_a_role(environment: Mapping[str, str]) -> dict[str, str]:
    """What a role that is launched gets: its job is resolved, nothing must change that again."""
    ours = ("DUALSHARD_", "DMLC_")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}
