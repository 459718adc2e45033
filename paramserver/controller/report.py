"""The status report: all that `dualshard status` and the live screen show. Pure; plain values."""

from typing import Any

from ...common import partition
from ...common.job import Job
from ...common.types import Member, Role
from .admission import Admission


def status_report(controller: Admission, epochs_done: float) -> dict[str, Any]:
    """Phase, progress, roles, newest rows and events, as msgpack and JSON can hold them."""
    now, board, cluster = controller.now, controller.board, controller.cluster
    roles = [
        {
            "name": seat.member.name,
            "role": str(seat.member.role),
            "rank": seat.member.rank,
            "host": seat.member.host,
            "pid": seat.member.pid,
            "address": seat.member.address,
            "state": seat.state,
            "silent_seconds": now - seat.heard_at,
            "counters": seat.counters,
            **_part_of(controller.job, seat.member),
        }
        for role in controller.roster.expected
        for seat in controller.roster.of_role(role)
    ]
    return {
        "phase": cluster.phase,
        "epoch": board.epoch,
        "epochs": controller.job.job.epochs,
        "epochs_done": epochs_done,
        "missing": controller.roster.missing(),
        "roles": roles,
        "samples_per_second_now": board.rate(now),
        "last_epoch": board.epochs[-1] if board.epochs else {},
        "last_evaluation": board.evaluations[-1] if board.evaluations else {},
        "events": list(board.events),
        "status": cluster.status,
        "reason": cluster.reason,
        "address": controller.address,
        "counters": dict(controller.counted),
        "summary": board.summary(now),
    }


def _part_of(job: Job, member: Member) -> dict[str, int]:
    """Which part of which replica a worker of a cut net holds."""
    if member.role is not Role.WORKER or not partition.is_cut(job):
        return {}
    replica, part = partition.place(job, member.rank)
    return {"replica": replica, "part": part}
