"""What a cut net means for every role: how many parts, whose part a worker's is. Pure facts.

In mode admm with any coupling but `replicas` the net is cut. A worker of rank r has part
r mod P of replica r // P, where P is the number of parts: part 0 is the lowest, nearest to the
inputs. `worker.count` is P times the number of replicas.
"""

import re

from .job import Job

RHO_START, RHO_CAP = 1e-4, 0.01
"""ρ where boundary activations agree (ADMM.md: ×10 from 1e-4 capped at 0.01 is the best tested)."""
RHO_PARAMETERS = 0.1
"""ρ where parameters agree: copies of a boundary layer, or replicas."""


_EXTRA = re.compile(r"part\d+\.(copy|head)\.")


def is_cut(job: Job) -> bool:
    """Whether workers hold parts of the net."""
    return job.train.mode == "admm" and job.partition.coupling != "replicas"


def is_consensus(job: Job) -> bool:
    """Whether workers hold whole nets that agree by ADMM (coupling `replicas`)."""
    return job.train.mode == "admm" and job.partition.coupling == "replicas"


def parts(job: Job) -> int:
    """Parts of the net, 1 if it is not cut."""
    return job.partition.count if is_cut(job) else 1


def replicas(job: Job) -> int:
    """Copies of the whole net that are trained: all workers where it is not cut."""
    return job.worker.count // parts(job)


def place(job: Job, rank: int) -> tuple[int, int]:
    """The (replica, part) of the worker of this rank."""
    return divmod(rank, parts(job))


def has_head(job: Job, part: int) -> bool:
    """Whether a part needs labels: the top one, and lower ones where they have heads."""
    if part == parts(job) - 1:
        return True
    return job.partition.coupling == "weights" and job.admm.head


def is_extra(job: Job, name: str) -> bool:
    """Whether a parameter is none of the net itself: what a lower part has at the end of its slice
    in coupling `weights`, its copy of the boundary layer and its head."""
    return is_cut(job) and job.partition.coupling == "weights" and bool(_EXTRA.match(name))


def first_rho(job: Job) -> float:
    """The ρ that training begins with."""
    if job.admm.rho:
        return job.admm.rho
    if job.partition.coupling in ("weights", "replicas"):
        return RHO_PARAMETERS
    return RHO_START if job.admm.schedule in ("capped", "x10") else RHO_CAP


def rho_cap(job: Job) -> float:
    """What ρ grows to in schedule `capped`."""
    if job.admm.cap:
        return job.admm.cap
    return RHO_PARAMETERS if job.partition.coupling in ("weights", "replicas") else RHO_CAP


def under_way(job: Job) -> int:
    """Macro-batches that a lower part may have sent up without an answer."""
    return 1 if job.admm.wait else job.admm.ahead


def takes_data(job: Job, rank: int) -> bool:
    """Whether the worker of this rank fetches portions: only bottom parts see inputs."""
    return place(job, rank)[1] == 0


def portion_batches(job: Job) -> int:
    """Minibatches of a portion: where parts agree by ADMM it is a macro-batch, what passes the cut
    at once; else what `dataserver.portion` says."""
    if is_cut(job) and job.partition.coupling != "backprop":
        return max(1, job.admm.macro_batch // job.data.batch_size)
    return job.dataserver.portion
