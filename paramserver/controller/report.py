"""The status report: all that `dualshard status` and the live screen show. Pure; plain values."""

from typing import Any

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
        "summary": board.summary(now),
    }
