"""Roles of which a job has lost the last member: how long it waits for another one. Pure."""

from ...common.types import Role

MAY_BE_MISSED = (Role.WORKER, Role.DATASERVER)
"""Roles that hold nothing which the job could not go on without."""


class Deserted:
    """Roles without a member, and until when they are waited for.

    Arguments:
        patience: seconds; 0: nobody is waited for.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._until: dict[Role, float] = {}

    def may_be(self, role: Role) -> bool:
        """Whether the job goes on, for a while, without anybody of this role."""
        return self.patience > 0 and role in MAY_BE_MISSED

    def wait(self, role: Role, now: float) -> None:
        """The last one is gone."""
        self._until[role] = now + self.patience

    def joined(self, role: Role) -> bool:
        """Somebody is there; whether that was waited for."""
        return self._until.pop(role, None) is not None

    def over(self, now: float) -> list[Role]:
        """The roles that nobody has joined in time."""
        return [role for role, until in self._until.items() if until <= now]

    def wake_at(self) -> float:
        """When the next wait is over; infinity if nobody is waited for."""
        return min(self._until.values(), default=float("inf"))
