"""A checkpoint read by a job that cuts the net elsewhere, or nowhere: nothing lost or moved."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from checkpoint_samples import SHARD_BYTES, SLOTS, copies_of, write_checkpoint

from dualshard.common.errors import UserError
from dualshard.common.sharding import Shards
from dualshard.paramserver import recutting
from dualshard.paramserver.checkpoint import open_checkpoint, read_vector
from dualshard.paramserver.recutting import read_cut

CUTS = [(), (0, 5), (0, 1, 17, 41), (0, 8, 16, 24, 32, 40)]
PER = SHARD_BYTES // 4


def cut(starts: tuple[int, ...]) -> Shards:
    return Shards(42, PER, 16, starts)


@pytest.mark.parametrize(("saved", "wanted"), [*itertools.product(CUTS, CUTS)])
def test_each_element_and_what_is_remembered_of_it_comes_back(
    tmp_path: Path, saved: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    """Oracle: all shards one behind the other are the same vector, however they are cut."""
    write_checkpoint(tmp_path, 3, starts=saved)
    found, shards, old = open_checkpoint(tmp_path, "RUN"), cut(wanted), cut(saved)
    copies = copies_of(1, starts=saved)
    np.testing.assert_array_equal(
        read_vector(found, "RUN"), np.concatenate([copy.values for copy in copies])
    )
    read = sorted(read_cut(found, shards, range(shards.count), "RUN"), key=lambda c: c.shard)
    assert [copy.shard for copy in read] == list(range(shards.count))
    assert [copy.values.size for copy in read] == [
        end - begin for begin, end in map(shards.span, range(shards.count))
    ]

    def whole(name: str, of: list[recutting.ShardCopy]) -> np.ndarray:
        return np.concatenate([copy.slots[name] if name else copy.values for copy in of])

    for name in ("", *SLOTS):
        np.testing.assert_array_equal(whole(name, read), whole(name, copies))
    for copy in read:
        begin, end = shards.span(copy.shard)
        from_these = [
            o for o in copies if old.span(o.shard)[0] < end and begin < old.span(o.shard)[1]
        ]
        for count in ("version", "minibatches", "steps"):
            assert getattr(copy, count) == max(getattr(one, count) for one in from_these)


def test_only_the_files_that_hold_something_of_a_wanted_shard_are_read(tmp_path: Path) -> None:
    """Shard 1 of a net that is cut at 5 is elements 5 to 12: they lie in shards 0 and 1 of the
    whole one, the third server holds shards 2 and 5."""
    path = write_checkpoint(tmp_path, servers=3)
    (path / "server-2.safetensors").unlink()
    found = open_checkpoint(tmp_path, "RUN")
    (copy,) = read_cut(found, cut((0, 5)), [1], "RUN")
    whole = np.concatenate([copy.values for copy in copies_of(1)])
    np.testing.assert_array_equal(copy.values, whole[5:13])
    with pytest.raises(UserError, match=r"server-2\.safetensors"):
        read_cut(found, cut((0, 5)), [2], "RUN")
