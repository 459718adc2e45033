"""Who is in the cluster: seats, ranks, leases. Pure: `now` is handed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...common.delivery import Peer
from ...common.types import Member, Role


@dataclass(slots=True)
class Seat:
    """A member, how to reach it, and what it last said. `seen` is the IP address that its
    connection comes from, empty for the controller's own machine."""

    member: Member
    peer: Peer
    heard_at: float
    seen: str = ""
    view: int = 0
    state: str = "joined"
    counters: dict[str, float] = field(default_factory=dict)


class Roster:
    """Seats by incarnation.

    Arguments:
        expected: how many of each role the job has places for.
        lease: seconds; a member that is silent for longer is out.
        needed: how many must be there before training begins; of roles that are not named, all.
    """

    def __init__(
        self, expected: dict[Role, int], lease: float, needed: Mapping[Role, int] | None = None
    ) -> None:
        self.expected, self.lease = expected, lease
        self.needed = {**expected, **(needed or {})}
        self.seats: dict[int, Seat] = {}
        self.gone: set[int] = set()

    def join(self, member: Member, wanted: int, peer: Peer, now: float) -> Seat | str:
        """A seat of the wanted rank (-1: the lowest free one), or why there is none."""
        known = self.seats.get(member.incarnation)
        if known is not None:
            return known
        for seat in self.seats.values():  # whoever connects there expects the key in the view
            there = seat.member
            if member.address and there.address == member.address and there.key != member.key:
                return f"its address is that of {there.name}, whose key is another"
        places = self.expected.get(member.role, 0)
        taken = {seat.member.rank for seat in self.of_role(member.role)}
        free = [rank for rank in range(places) if rank not in taken]
        if not free:
            return (
                f"all {places} places of role {member.role} are taken; "
                f"raise {member.role}.count to have more"
            )
        if wanted >= 0 and wanted not in free:
            return f"{member.role}-{wanted} is taken or not one of the {places} that the job wants"
        rank = wanted if wanted >= 0 else free[0]
        seat = self.seats[member.incarnation] = Seat(replace(member, rank=rank), peer, now)
        return seat

    def hear(self, incarnation: int, now: float) -> Seat | None:
        """Renew a lease."""
        seat = self.seats.get(incarnation)
        if seat is not None:
            seat.heard_at = now
        return seat

    def remove(self, incarnation: int) -> Seat | None:
        """A member has left or is out; it cannot come back under the same incarnation."""
        seat = self.seats.pop(incarnation, None)
        if seat is not None:
            self.gone.add(incarnation)
        return seat

    def silent(self, now: float) -> list[Seat]:
        """Members whose lease has run out."""
        return [seat for seat in self.seats.values() if now - seat.heard_at > self.lease]

    def lease_ends(self) -> float:
        """When the next lease runs out if nobody is heard."""
        return min((s.heard_at for s in self.seats.values()), default=float("inf")) + self.lease

    def of_role(self, role: Role) -> list[Seat]:
        """Seats of one role, by rank."""
        seats = [seat for seat in self.seats.values() if seat.member.role is role]
        return sorted(seats, key=lambda seat: seat.member.rank)

    def holders(self, role: Role, rank: int) -> list[Seat]:
        """Those whose place somebody wants who asks for this rank (-1: for any)."""
        return [seat for seat in self.of_role(role) if rank in (-1, seat.member.rank)]

    def missing(self) -> list[str]:
        """Names of the places that nobody has taken and somebody must take."""
        names = []
        for role, count in self.expected.items():
            taken = {seat.member.rank for seat in self.of_role(role)}
            free = [f"{role}-{rank}" for rank in range(count) if rank not in taken]
            names += free[: max(0, self.needed[role] - len(taken))]
        return names

    def at(self, host: str, pid: int) -> Seat | None:
        """The member that is this process."""
        members = (s for s in self.seats.values() if (s.member.host, s.member.pid) == (host, pid))
        return next(members, None)
