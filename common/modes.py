"""What each training mode means for workers and servers alike: lanes, lengths, rules. Pure facts.

| mode | a worker pushes | the server applies it | the worker goes on |
|---|---|---|---|
| async | a gradient | at once | at once (Downpour, Dean et al. 2012) |
| ssp | a gradient | at once | when the slowest is near enough (Ho et al. 2013) |
| bsp | a gradient | when the step closes: the mean of all | when the step closes |
| local | how far its own steps led it | the mean when a round closes, or at once | then |
| easgd | its parameters | moves the centre towards them | at once (Zhang et al. 2015) |
| admm, parts of a net | how far its own steps led it | at once | at once |
| admm, replicas | how far its copy is from z | the mean when a round closes | then |
"""

from .job import Job
from .partition import is_consensus, is_cut, replicas

CROWD = 8
"""Threads of a whole job beyond which `in_flight` leaves each a single lane."""
MERGE_EVERY = 16
"""Steps of a lane between two merges, where it has a copy of its own and the job does not say how
many: fewer cost time, more cost freshness (docs/benchmarks.md, `threads`)."""
_STEPS = {"local": 64, "easgd": 16, "admm": 64}


def n_push(job: Job) -> int:
    """Minibatches between two pushes."""
    return job.train.n_push or _STEPS.get(job.train.mode, 1)


def n_fetch(job: Job) -> int:
    """Minibatches between two pulls; every push pulls but in `async`."""
    if job.train.mode != "async":
        return n_push(job)
    return job.train.n_fetch or n_push(job)


def in_flight(job: Job) -> int:
    """Lanes of a thread: minibatches that are computed or exchanged at the same time.

    With two, a thread computes while the gradient before travels, at the price of one more update
    of staleness. Left to itself (0) a lone thread has one, so that its run is plain sequential
    training; and so have threads that are many, where staleness counts and servers never rest.
    Modes in which workers wait for each other, or step by themselves, have one.
    """
    if job.train.mode != "async":
        return 1
    threads = job.worker.count * job.worker.threads
    return job.train.in_flight or (2 if 2 <= threads <= CROWD else 1)


def lanes(job: Job) -> int:
    """Minibatches of one worker that may be under way at once."""
    return job.worker.threads * in_flight(job)


def rounds(job: Job) -> bool:
    """Whether all lanes of a worker step on its own parameters and exchange them together."""
    return job.train.mode in ("local", "easgd", "admm")


def merge_every(job: Job) -> int:
    """Steps that a lane makes on a private copy before it adds them to the worker's parameters,
    where it steps by itself; 1: on those themselves. A lane that is alone needs no copy."""
    if not rounds(job) or lanes(job) == 1:
        return 1
    return job.worker.merge_every or MERGE_EVERY


def participants(job: Job) -> int:
    """How many of a worker's lanes push by themselves."""
    return 1 if rounds(job) else lanes(job)


def closes_steps(job: Job) -> bool:
    """Whether updates wait until a quorum of pushes is there."""
    if job.train.mode == "admm":
        return is_consensus(job)
    return job.train.mode == "bsp" or (job.train.mode == "local" and job.train.quorum > 0)


def quorum(job: Job) -> float:
    """The fraction of the workers whose pushes close a step, where steps close."""
    return job.admm.quorum if job.train.mode == "admm" else job.train.quorum


def waits(job: Job) -> bool:
    """Whether workers ever wait for each other, so that one without data must say so."""
    return closes_steps(job) or job.train.mode == "ssp"


def told_the_end(job: Job) -> bool:
    """Whether a worker is told when an epoch has nothing left for it: then it pushes what it has
    gathered, and nobody waits for it. Otherwise it pushes whenever it runs out of data."""
    return waits(job) or rounds(job)


def in_order(job: Job) -> bool:
    """Whether it is fixed which worker trains on which minibatch in which step: then equal jobs
    give equal bits however the messages travel. So it is where one net is cut into parts, and these
    wait for each other."""
    if is_cut(job):
        return replicas(job) == 1
    return job.train.mode in ("bsp", "local") and job.train.quorum == 1.0


def paced(job: Job) -> bool:
    """Whether slower workers make fewer steps of their own, so that all exchange equally often."""
    return job.train.mode == "local" and job.train.quorum < 1.0


def steps_locally(job: Job) -> bool:
    """Whether a worker steps its own copy of the parameters between two exchanges."""
    if rounds(job):
        return True
    return job.train.mode == "async" and (n_push(job) > 1 or n_fetch(job) > 1)
