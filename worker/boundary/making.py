"""Which state machine a worker of a cut net has. Pure."""

from ...common.job import Job
from .activations import ByActivations
from .backprop import ByBackprop
from .boundary import Boundary, Host
from .early import Early
from .weights import ByWeights

_COUPLINGS: dict[str, type[ByActivations] | type[ByWeights] | type[ByBackprop]] = {
    "activations": ByActivations,
    "weights": ByWeights,
    "backprop": ByBackprop,
}


def make_boundary(node: Host, job: Job, rank: int, early: Early | None = None) -> Boundary:
    """The boundary of the worker of this rank, as the job says.

    Arguments:
        node: the worker's state.
        early: what has come before the job.
    """
    return _COUPLINGS[job.partition.coupling](node, job, rank, early)
