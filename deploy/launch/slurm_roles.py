"""Which role a task of Slurm's becomes, and with which arguments. Pure: the environment comes in.

Task 0 is the controller, then come parameter servers, data servers and workers. The controller's
node is the first of the list that Slurm gives to all, and its port follows from the job's number:
so everyone knows its address without being told.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ...common.errors import UserError
from ...common.transport.addresses import is_loopback
from ...common.types import Role
from .nodelist import expand

FIRST_PORT, PORTS = 20_000, 10_000
"""Ports 20000 to 29999: below those that Linux gives to outgoing connections (from 32768 on). Two
jobs that share a node have different ones unless their numbers differ by a multiple of 10,000."""

LOOPBACK, ALL = "127.0.0.1", "0.0.0.0"  # noqa: S104 (what Options.bind may be; keys guard it)

OUTSIDE = "start it with srun inside of the script that `dualshard launch --launcher slurm` writes"


@dataclass(frozen=True)
class Task:
    """One task of a job step, as Slurm describes it to the task itself."""

    number: int
    tasks: int
    node: str
    nodes: tuple[str, ...]
    job: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Task":
        """The task whose environment this is.

        Raises:
            UserError: a variable is missing or malformed.
        """
        key = (
            "SLURM_STEP_NODELIST" if "SLURM_STEP_NODELIST" in environment else "SLURM_JOB_NODELIST"
        )
        nodes = expand(_text(environment, key), key)
        task = cls(
            _number(environment, "SLURM_PROCID"),
            _number(environment, "SLURM_NTASKS"),
            _text(environment, "SLURMD_NODENAME"),
            tuple(dict.fromkeys(nodes)),
            _number(environment, "SLURM_JOB_ID"),
        )
        if task.number >= task.tasks:
            expected = f"a number below SLURM_NTASKS = {task.tasks}"
            raise UserError("SLURM_PROCID", task.number, expected, OUTSIDE)
        if task.number == 0 and task.node != task.nodes[0]:
            fix = "start the tasks with srun --distribution=cyclic or block"
            expected = f"task 0 on the first node, {task.nodes[0]}"
            raise UserError("SLURMD_NODENAME", task.node, expected, fix)
        return task

    @property
    def alone(self) -> bool:
        """Whether all tasks are on one node."""
        return len(self.nodes) == 1

    @property
    def other(self) -> str:
        """A node that this one must be able to reach: the controller's, or the second one."""
        return self.nodes[0] if self.node != self.nodes[0] else self.nodes[-1]


def role_of(task: Task, counts: Mapping[str, int]) -> tuple[Role, int]:
    """The role of a task and its rank in it; `counts` are the roles in the order of tasks.

    Raises:
        UserError: there are not as many tasks as roles.
    """
    wanted = sum(counts.values())
    if task.tasks != wanted:
        roles = ", ".join(f"{count} {name}" for name, count in counts.items())
        fix = "submit the job with --ntasks of that number"
        raise UserError("SLURM_NTASKS", task.tasks, f"{wanted}: {roles}", fix)
    rank = task.number
    for name, count in counts.items():
        if rank < count:
            return Role(name), rank
        rank -= count
    raise AssertionError("a task's number is below the sum")


def controller_address(task: Task, port: int) -> str:
    """HOST:PORT of the controller; `port` 0 stands for the one that follows from the job."""
    host = LOOPBACK if task.alone else task.nodes[0]
    return f"{host}:{port or FIRST_PORT + task.job % PORTS}"


def listens_on(task: Task, own: str, other: str) -> str:
    """The address that a task's role listens on, in numbers.

    `own` is what this node's name leads to here, `other` what `task.other` does. Where all is on
    one node nobody else can reach it. Where the own name leads to a loopback address alone, as
    Debian sets it up, other nodes know another one: the role listens on all.
    """
    if task.alone:
        return LOOPBACK
    return ALL if is_loopback(own) and not is_loopback(other) else own


def _text(environment: Mapping[str, str], name: str) -> str:
    if name not in environment:
        raise UserError(name, "", "to be set by Slurm", OUTSIDE)
    return environment[name]


def _number(environment: Mapping[str, str], name: str) -> int:
    text = _text(environment, name)
    if not (text.isascii() and text.isdigit()):
        raise UserError(name, text, "a number", OUTSIDE)
    return int(text)
