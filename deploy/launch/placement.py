"""Where each role stands. Pure.

The controller stands on the first host that may have it. Parameter servers, and then data servers,
go round the hosts that may have them, in the order of the file. Each worker goes to the host that
is then filled least, as a fraction of its slots; the earlier one where they are equal.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ...common.errors import UserError
from ...common.job import Job
from ...common.types import Role
from .hostfile import Host


@dataclass(frozen=True)
class Placed:
    """One role, its rank, and the host that it stands on."""

    role: Role
    rank: int
    host: Host

    @property
    def name(self) -> str:
        """`worker-0`, as in logs and on the screen."""
        return f"{self.role}-{self.rank}"


def place(job: Job, hosts: Sequence[Host]) -> list[Placed]:
    """All roles of a job, each once: the controller, servers, data servers, workers, by rank.

    Raises:
        UserError: no host may have a role.
    """
    placed = [Placed(Role.CONTROLLER, 0, _allowed(hosts, Role.CONTROLLER)[0])]
    turn = 0
    for role, count in (
        (Role.PARAMSERVER, job.paramserver.count),
        (Role.DATASERVER, job.dataserver.count),
    ):
        allowed = _allowed(hosts, role)
        placed += [
            Placed(role, rank, allowed[(turn + rank) % len(allowed)]) for rank in range(count)
        ]
        turn += count
    return placed + _workers(job.worker.count, _allowed(hosts, Role.WORKER))


def _workers(count: int, hosts: Sequence[Host]) -> list[Placed]:
    taken = [0] * len(hosts)
    placed = []
    for rank in range(count):
        filled = [Fraction(n + 1, host.slots) for n, host in zip(taken, hosts, strict=True)]
        chosen = filled.index(min(filled))
        taken[chosen] += 1
        placed.append(Placed(Role.WORKER, rank, hosts[chosen]))
    return placed


def worker_slots(hosts: Sequence[Host]) -> int:
    """How many workers fill the hosts."""
    return sum(host.slots for host in hosts if Role.WORKER in host.roles)


def crowding(job: Job, hosts: Sequence[Host]) -> str:
    """A warning where workers are more than slots; empty if they are not."""
    slots, count = worker_slots(hosts), job.worker.count
    if count <= slots:
        return ""
    return f"{count} workers share {slots} slots: some hosts have more workers than slots"


def table(placed: Sequence[Placed]) -> list[str]:
    """The placement for people: one line a host, in the order in which they come."""
    by_host: dict[str, list[Placed]] = {}
    for one in placed:
        by_host.setdefault(one.host.name, []).append(one)
    width = max(map(len, by_host))
    return [f"{name:{width}}  {_shown(there)}" for name, there in by_host.items()]


def _shown(placed: Sequence[Placed]) -> str:
    counts = Counter(one.role for one in placed)
    ranks = {role: [str(one.rank) for one in placed if one.role is role] for role in counts}
    return "  ".join(
        str(role) if role is Role.CONTROLLER else f"{role} {','.join(ranks[role])}"
        for role in counts
    )


def _allowed(hosts: Sequence[Host], role: Role) -> list[Host]:
    allowed = [host for host in hosts if role in host.roles]
    if not allowed:
        names = ", ".join(host.name for host in hosts)
        fix = f"add {role} to the roles= of a host, or leave roles= out"
        raise UserError("--hostfile", names, f"a host that may have a {role}", fix)
    return allowed
