"""The training mode of a job, as a server sees it: which clock, which update, which rule. Pure."""

from collections.abc import Callable

from ..common import modes
from ..common.cluster import Cluster
from ..common.job import Job, RuleSection
from ..common.partition import is_consensus
from ..common.rates import Segments, make_segments
from ..common.rules import Rule, make_rule
from ..common.schedules import make_schedule
from .consistency import Barrier, Bounded, Clock, Crowd, Free
from .store import ShardStore
from .updates import AtOnce, Elastic, Together, Update

MOST_ELASTIC = 0.5
"""The largest α: with more, a worker and the centre would change places."""


def make_store(job: Job) -> ShardStore:
    """An empty store that does what the job's mode asks."""
    rule = make_rule(section_of(job))
    return ShardStore(rule, _update(job, rule), _clock(job))


def section_of(job: Job) -> RuleSection:
    """The settings of the servers' rule: in `local` and `admm` the workers have `[optimizer]`."""
    return job.outer if job.train.mode in ("local", "admm") else job.optimizer


def segments_of(job: Job, cluster: Cluster, begin: int, end: int) -> Segments:
    """Where the servers' rule treats the elements [begin, end) differently."""
    section = section_of(job)
    return make_segments(cluster.layout, section.rates, section.weight_decay, begin, end)


def _update(job: Job, rule: Rule) -> Update:
    schedule = make_schedule(section_of(job)).factor
    if job.train.mode == "easgd":
        return Elastic(min(job.outer.lr / job.worker.count, MOST_ELASTIC))
    if modes.closes_steps(job):
        return Together(rule, schedule, evenly=is_consensus(job))
    if job.train.mode in ("local", "admm"):
        return AtOnce(rule, schedule, job.train.staleness_scaling, per_minibatch=False)
    return AtOnce(
        rule,
        schedule,
        job.train.staleness_scaling,
        compensation=job.optimizer.delay_compensation,
        chained=modes.n_fetch(job) if modes.steps_locally(job) else 1,
    )


def _clock(job: Job) -> Callable[[Crowd], Clock]:
    def make(crowd: Crowd) -> Clock:
        if job.train.mode == "ssp":
            return Bounded(crowd, job.train.staleness)
        if modes.closes_steps(job):
            return Barrier(crowd, modes.quorum(job))
        return Free(crowd)

    return make
