"""Whose loss is waited out: the last worker or data server, and parts of a cut net. Pure.

Without a worker, or a data server, a job waits for another one as long as `job.vacancy` says.

A part of a cut net waits for another worker to take it. Neighbours keep what they have sent and not
heard of, and send it again to whoever takes the place. If nobody does within `job.start_timeout`,
and another replica is whole, the rest of the broken one is put out, so that its portions are served
again; if none is, the job ends.
"""

from collections.abc import Collection

from ...common import partition
from ...common.delivery import Courier
from ...common.job import Job
from ...common.types import Role
from .checkpoints import Place
from .deserted import MAY_BE_MISSED, Deserted
from .membership import Seat
from .resuming import Resumed
from .setting_up import SettingUp
from .vacancies import Vacancies


class Replacing(SettingUp):
    """Waits for those who take the place of lost parts; arguments as there."""

    def __init__(
        self,
        courier: Courier,
        job: Job,
        address: str,
        versions: dict[str, str],
        place: Place | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        super().__init__(courier, job, address, versions, place, resumed)
        patience = job.job.start_timeout
        self._deserted = Deserted(job.job.vacancy)
        self._vacancies = Vacancies(partition.parts(job), partition.replicas(job), patience)

    # What the job's state fills in.

    def forget(self, seat: Seat) -> None:
        """Drop what this member, who is gone, was asked."""

    def check_epoch(self) -> None:
        """End the epoch if it is over."""

    def replaces(self, role: Role) -> bool:
        """Whether the job goes on, for a while, without anybody of this role."""
        if self.cluster.phase not in ("preparing", "training"):
            return False
        at_the_door = role in MAY_BE_MISSED and self.wants_in(role)
        return self._replaces_parts(role) or self._deserted.may_be(role) or at_the_door

    def _replaces_parts(self, role: Role) -> bool:
        waits = self.cluster.phase in ("preparing", "training")
        return role is Role.WORKER and partition.is_cut(self.job) and waits

    def look_for_the_last(self, role: Role) -> None:
        """One of this role is gone: wait for another if it was the last one."""
        if self.roster.of_role(role) or not self._deserted.may_be(role):
            return
        if not self._replaces_parts(role):
            self._deserted.wait(role, self.now)
            self.event(
                f"there is no {role} left; the job goes on with whoever joins within "
                f"{self._deserted.patience:g} s: dualshard {role} --controller {self.address}"
            )

    def _taken(self) -> Collection[int]:
        return {seat.member.rank for seat in self.roster.of_role(Role.WORKER)}

    def joined(self) -> None:
        super().joined()
        for role in MAY_BE_MISSED:
            if self.roster.of_role(role) and self._deserted.joined(role):
                self.event(f"there is a {role} again")
        self.look_for_parts()

    def look_for_parts(self) -> None:
        """Say which parts have come to be missing, and which are there again."""
        if not self._replaces_parts(Role.WORKER):
            return
        fresh, filled = self._vacancies.look(self._taken(), self.now)
        for rank in filled:
            self.event(f"worker-{rank} holds {self._part(rank)} again")
        for rank in fresh:
            self.event(
                f"{self._part(rank)} is missing; whoever takes it within "
                f"{self.job.job.start_timeout:g} s goes on with it: dualshard worker --controller "
                f"{self.address} --rank {rank}"
            )

    def ticked(self) -> None:
        super().ticked()
        if self._replaces_parts(Role.WORKER):
            self._give_up(self._vacancies.over(self.now))
        if self.cluster.phase in ("preparing", "training"):
            for role in self._deserted.over(self.now):
                self.stop(1, f"no {role} has joined within {self._deserted.patience:g} s")

    def wake_at(self) -> float:
        moment = super().wake_at()
        if self.cluster.phase in ("preparing", "training"):
            moment = min(moment, self._deserted.wake_at())
        if self._replaces_parts(Role.WORKER):
            moment = min(moment, self._vacancies.wake_at())
        return moment

    def _give_up(self, missing: list[int]) -> None:
        """Nobody has taken these places in time: go on without their replicas, if one is whole."""
        if not missing:
            return
        why = f"nobody took {self._part(missing[0])} within {self.job.job.start_timeout:g} s"
        if not self._vacancies.complete(self._taken()):
            self.stop(1, f"{why}, and no other replica is whole")
            return
        for replica in sorted({partition.place(self.job, rank)[0] for rank in missing}):
            self._vacancies.give_up(replica)
            self._put_out(replica, why)
        self.change()
        self.check_epoch()

    def _put_out(self, replica: int, why: str) -> None:
        """Go on without what is left of a replica."""
        ranks = self._vacancies.ranks(replica)
        rest = [seat for seat in self.roster.of_role(Role.WORKER) if seat.member.rank in ranks]
        for seat in rest:
            self.put_out[seat.member.incarnation] = why
            self.roster.remove(seat.member.incarnation)
        for seat in rest:
            self.forget(seat)
        names = ", ".join(seat.member.name for seat in rest) or "nobody"
        self.event(f"goes on without replica {replica}: {why}; put out: {names}")

    def _part(self, rank: int) -> str:
        replica, part = partition.place(self.job, rank)
        return f"part {part} of replica {replica}"
