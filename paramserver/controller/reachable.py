"""Whether roles can reach each other, as far as their addresses tell when they join. Pure.

A role says where it listens; the transport sees where its connection comes from. Servers, and
workers of a cut net, must be reached by others; workers reach them. Names of hosts cannot be judged
here (a role looks up its own); where the transport sees nothing, everyone is on this machine.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from ...common.job import Job
from ...common.partition import is_cut
from ...common.transport.addresses import as_ip, is_loopback
from ...common.types import Role


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A role and its two addresses.

    `listens` is what it advertises, `tcp://HOST:PORT`; `seen` the IP address that its connection
    comes from, empty for the controller's own machine. `name` is how people are told of it.
    """

    name: str
    role: Role
    host: str
    listens: str
    seen: str

    @property
    def told(self) -> str:
        """The advertised address as people read it."""
        return self.listens.removeprefix("tcp://")

    @property
    def only_here(self) -> bool:
        """Whether nobody on another machine reaches it where it says: loopback, or 0.0.0.0."""
        host = self.told.rpartition(":")[0]
        ip = as_ip(host)
        return is_loopback(host) or (bool(ip) and ipaddress.IPv4Address(ip).is_unspecified)

    @property
    def where(self) -> str:
        """The host with the address that it is seen at, for people."""
        return f"{self.host} ({self.seen})" if self.seen else self.host


def normal(address: str, here: frozenset[str]) -> str:
    """`Whereabouts.seen` of what the transport sees; `here` are the addresses of the controller's
    machine."""
    ip = as_ip(address)
    return "" if ip in here or is_loopback(ip) else ip


def unreachable(job: Job, one: Whereabouts, others: Iterable[Whereabouts]) -> str:
    """Why a role cannot join, since somebody could not reach somebody; empty if all may be well."""
    if _must_be_reached(job, one) and one.only_here and one.seen:
        return (
            f"{one.name} on {one.host} says that it listens at {one.told}, where only its own "
            f"machine reaches it, but it joins from {one.seen}: {_fix('it')}"
        )
    for other in others:
        if other.seen == one.seen:
            continue
        for here, there in ((one, other), (other, one)):
            if there.role is Role.WORKER and _must_be_reached(job, here) and here.only_here:
                return (
                    f"{there.name} on {there.where} cannot reach {here.name} on {here.where}, "
                    f"which listens at {here.told} for its own machine alone: {_fix(here.name)}"
                )
    return ""


def suspicious(job: Job, one: Whereabouts) -> str:
    """What is odd about the addresses of a role that may join all the same; empty if nothing.

    Several network cards, or a translation of addresses on the way, may be meant.
    """
    advertised = as_ip(one.told.rpartition(":")[0])
    if not (advertised and one.seen and _must_be_reached(job, one)) or one.only_here:
        return ""
    if advertised == one.seen:
        return ""
    return (
        f"{one.name} on {one.host} says that it listens at {one.told}, but joins from {one.seen}: "
        "several network cards, or translated addresses; if others cannot reach it, start it with "
        f"--advertise {one.seen} or --interface NAME"
    )


def _must_be_reached(job: Job, one: Whereabouts) -> bool:
    """Whether others open connections to it."""
    return one.role is not Role.WORKER or is_cut(job)


def _fix(name: str) -> str:
    return (
        f"start {name} with --interface NAME or --bind HOST:PORT of a network that the others "
        "reach, or with --advertise HOST:PORT if something there leads to it"
    )
