"""How the rate changes over a job: a factor on the rule's rate. Pure.

The clock of a schedule is the server's own: the minibatches applied to a shard, as a fraction of
those that the whole job will make. It needs no agreement between machines and goes on by itself
after a restart.
"""

from math import cos, pi

SCHEDULES = ("constant", "linear", "cosine")

LAST = 0.01
"""The factor at the end, and for pushes after the planned end (portions served again)."""


def factor(schedule: str, progress: float) -> float:
    """The factor on the rate at `progress`, from 0.0 (start) to 1.0 (end of the job).

    `linear` falls in a straight line from 1 to `LAST`; `cosine` follows half a wave (Loshchilov
    and Hutter 2017, "SGDR", equation 5, without restarts); `constant` is 1.
    """
    if schedule == "constant":
        return 1.0
    done = min(max(progress, 0.0), 1.0)
    shape = 1.0 - done if schedule == "linear" else 0.5 * (1.0 + cos(pi * done))
    return LAST + (1.0 - LAST) * shape
