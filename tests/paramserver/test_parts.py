"""A parameter server of a cut net: pushes of a part, and the memory that a part shares."""

from dataclasses import replace

import numpy as np
import pytest
from test_bad_pushes import ELEMENTS, ONE, SHARDS, TWO, VIEW, Desk, push

from dualshard.common.job import Job
from dualshard.common.messages import Ack, Attach, Refused, Shard
from dualshard.common.types import Float32
from dualshard.paramserver.consistency import Crowd, Free
from dualshard.paramserver.modes import make_store, section_of
from dualshard.paramserver.updates import AtOnce, Part

STARTS = (0, ELEMENTS)
"""The lower part has shard 0, the upper one shards 1 and 2."""


class Memory:
    """Takes whatever is offered."""

    def __init__(self) -> None:
        self.taken: list[Attach] = []

    def attach(self, source: int, wanted: Attach) -> None:
        self.taken.append(wanted)

    def gradient(self, source: int, lane: int, begin: int, end: int) -> Float32 | None:
        return None

    def parameters(self, source: int, begin: int, end: int) -> Float32 | None:
        return None

    def keep_only(self, present: set[int]) -> None:
        return


def desk(starts: tuple[int, ...] = STARTS) -> tuple[Desk, Memory]:
    """A server that begins with the view of a net that is cut there."""
    made, memory = Desk("admm"), Memory()
    made.server._lanes = memory
    table = replace(VIEW.table, epoch=2)
    made.view(replace(VIEW, number=3, table=table, starts=starts))
    return made, memory


def attach(begin: int, size: int) -> Attach:
    return Attach("here", 1, 2, 2, size, begin)


def test_a_push_of_a_part_touches_its_shards_alone_and_is_answered_at_once() -> None:
    """How far a worker's steps led is taken as it is: the outer rule is sgd with rate 1."""
    made, _ = desk()
    for source, shard in ((ONE, 0), (TWO, 1), (TWO, 2)):
        ((to, reply),) = made.say(source, push(shard, table_epoch=2, count=5))
        assert isinstance(reply, Shard)
        assert to == source
        np.testing.assert_array_equal(reply.values, np.ones(ELEMENTS, np.float32))
    assert made.versions == [1, 1, 1]
    made.say(TWO, push(1, table_epoch=2, versions=[1]))
    assert made.versions == [1, 2, 1]
    np.testing.assert_array_equal(made.values, np.repeat(np.float32([1, 2, 1]), ELEMENTS))


@pytest.mark.parametrize(("begin", "shards"), [(0, 1), (1, 2)])
def test_a_worker_may_share_the_memory_of_its_part(begin: int, shards: int) -> None:
    made, memory = desk()
    offer = attach(begin * ELEMENTS, shards * ELEMENTS)
    assert made.say(TWO, offer) == [(TWO, Ack())]
    assert memory.taken == [offer]


@pytest.mark.parametrize(
    ("begin", "size"), [(0, SHARDS * ELEMENTS), (0, 2 * ELEMENTS), (1, ELEMENTS), (-16, ELEMENTS)]
)
def test_other_memory_is_refused(begin: int, size: int) -> None:
    made, memory = desk()
    words = f"rows of {size} elements from {begin} on, not 16 or 32"
    assert made.say(TWO, attach(begin, size)) == [(TWO, Refused("lane", words))]
    assert memory.taken == []


def test_of_a_whole_net_only_all_is_taken() -> None:
    made, memory = desk(starts=())
    assert made.say(ONE, attach(0, SHARDS * ELEMENTS)) == [(ONE, Ack())]
    words = "rows of 16 elements from 0 on, not 48"
    assert made.say(ONE, attach(0, ELEMENTS)) == [(ONE, Refused("lane", words))]
    assert len(memory.taken) == 1


@pytest.mark.parametrize("coupling", ["activations", "weights", "backprop"])
def test_parts_wait_for_nobody_and_stale_pushes_count_less(coupling: str) -> None:
    """(1 + 3)^-1/2 of a push that is three updates old, however many minibatches are in it."""
    job = Job.from_dict(
        {
            "train": {"mode": "admm", "staleness_scaling": 0.5},
            "partition": {"coupling": coupling},
            "worker": {"count": 4},
        }
    )
    store = make_store(job)
    assert section_of(job) is job.outer
    assert isinstance(store.update, AtOnce)
    store.start(0, np.zeros(4, np.float32), ())
    held = store.shards[0]
    assert isinstance(held.clock, Free)
    assert held.clock.crowd is store.crowd
    assert isinstance(store.crowd, Crowd)
    store.update.apply(held, (ONE, 0), Part(np.full(4, -2, np.float32), 64), 3)
    np.testing.assert_array_equal(held.values, np.ones(4, np.float32))
    assert held.minibatches == 64
