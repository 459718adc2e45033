"""The training mode of a job, as a server sees it: which clock, which update, which rule. Pure."""

from functools import partial

from ..common import modes
from ..common.job import Job
from ..common.rules import make_rule
from ..common.schedules import factor
from .consistency import Barrier, Bounded, Clock, Crowd, Free
from .store import ShardStore
from .updates import AtOnce, Elastic, Together, Update

MOST_ELASTIC = 0.5
"""The largest α: with more, a worker and the centre would change places."""


def make_store(job: Job) -> ShardStore:
    """An empty store that does what the job's mode asks."""
    outer = job.train.mode == "local"
    section = job.outer if outer else job.optimizer
    rule = make_rule(
        section.rule,
        lr=section.lr,
        momentum=section.momentum,
        weight_decay=section.weight_decay,
        section=section.name_in_file,
    )
    return ShardStore(rule, _update(job, rule, partial(factor, section.schedule)), _clock(job))


def _update(job, rule, schedule) -> Update:
    if job.train.mode == "easgd":
        return Elastic(min(job.outer.lr / job.worker.count, MOST_ELASTIC))
    if modes.closes_steps(job):
        return Together(rule, schedule)
    local = job.train.mode == "local"
    return AtOnce(rule, schedule, job.train.staleness_scaling, per_minibatch=not local)


def _clock(job: Job):
    def make(crowd: Crowd) -> Clock:
        if job.train.mode == "ssp":
            return Bounded(crowd, job.train.staleness)
        if modes.closes_steps(job):
            return Barrier(crowd, job.train.quorum)
        return Free(crowd)

    return make
