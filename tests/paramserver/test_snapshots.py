"""Copy on first write: what is handed out is how everything was at the moment of `begin`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.paramserver.snapshots import CopyOnWrite


def drain(copies: CopyOnWrite[tuple[int, int]]) -> list[tuple[int, int]]:
    handed = []
    while (copy := copies.next()) is not None:
        handed.append(copy)
    return handed


def test_nothing_is_copied_before_a_snapshot_or_by_a_change_without_one() -> None:
    made: list[int] = []
    copies = CopyOnWrite(made.append)
    copies.before_change(3)
    assert copies.done
    assert copies.next() is None
    assert made == []


def test_a_shard_is_copied_once_at_its_first_change_or_when_asked_for() -> None:
    made: list[int] = []

    def copy(shard: int) -> int:
        made.append(shard)
        return shard

    copies = CopyOnWrite(copy)
    copies.begin([2, 0, 1])
    assert made == []
    copies.before_change(2)
    copies.before_change(2)
    assert (made, copies.waiting) == ([2], 1)
    assert copies.next() == 0
    copies.before_change(0)  # it is with the writer already
    assert made == [2, 0]
    assert [copies.next(), copies.next(), copies.next()] == [1, 2, None]
    assert (made, copies.waiting, copies.done) == ([2, 0, 1], 0, True)


@given(
    shards=st.integers(1, 6),
    steps=st.lists(st.one_of(st.integers(0, 5), st.just("next")), max_size=40),
)
def test_any_interleaving_hands_out_the_moment_of_the_cut(
    shards: int, steps: list[int | str]
) -> None:
    """Oracle: a plain copy of everything at the moment of `begin`."""
    values = {shard: 100 * shard for shard in range(shards)}
    copies = CopyOnWrite(lambda shard: (shard, values[shard]))
    expected = sorted(values.items())
    copies.begin(values)
    handed = []
    for step in steps:
        if step == "next":
            copy = copies.next()
            handed += [copy] if copy is not None else []
        elif step in values:
            copies.before_change(int(step))
            values[int(step)] += 1
        assert len(handed) + copies.waiting <= shards
    assert handed + drain(copies) == expected
    assert copies.done


def test_a_cancelled_snapshot_hands_out_nothing_and_another_may_begin() -> None:
    values = np.zeros(3)
    copies = CopyOnWrite(lambda shard: float(values[shard]))
    copies.begin(range(3))
    copies.before_change(1)
    copies.cancel()
    assert (copies.done, copies.waiting, copies.next()) == (True, 0, None)
    values[:] = 7
    copies.begin([1])
    assert copies.next() == 7


def test_two_at_once_is_our_own_mistake() -> None:
    copies = CopyOnWrite(lambda shard: shard)
    copies.begin([1])
    with pytest.raises(AssertionError):
        copies.begin([1])
