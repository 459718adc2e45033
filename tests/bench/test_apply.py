"""`bench apply`: its rows, its check, and once for a moment the real thing."""

import numpy as np
import pytest

from dualshard.bench.apply import (
    AFTER,
    COPY,
    NAMES,
    OTHERS,
    WITHIN,
    bench_apply,
    make_rows,
    start,
    start_side,
)
from dualshard.common.errors import RoleError
from dualshard.common.rules import RULES
from dualshard.common.sharding import SHARD_ELEMENTS


def test_rows_count_the_bytes_that_are_streamed():
    times = {name: [0.1, 0.2, 0.9] for name in (COPY, *NAMES, *OTHERS)}
    streamed = {**dict.fromkeys(NAMES, 12), **OTHERS, "adam": 28}
    rows = make_rows({**times, AFTER: [0.3], WITHIN: [0.2]}, streamed, 10)
    found = {row.name.split(",")[0]: row for row in rows[:-1]}
    assert list(found) == [*NAMES, *OTHERS]
    assert found["adam"].value == pytest.approx(28 * 10 * SHARD_ELEMENTS / 0.2 / 1e9)
    assert found["adam"].against == pytest.approx(8 * 10 * SHARD_ELEMENTS / 0.2 / 1e9)
    assert found["adam"].ratio == pytest.approx(3.5)
    assert {found[name].goal for name in NAMES} == {0.8}
    assert {found[name].goal for name in OTHERS} == {None}
    assert (rows[-1].value, rows[-1].unit) == (pytest.approx(200), "ms")
    assert rows[-1].ratio == pytest.approx(1.5)
    assert rows[-1].holds


def test_the_whole_benchmark_runs_and_checks_itself():
    said = []
    rows = bench_apply(2, said.append, shards=1)
    assert all(row.value and row.against and row.ratio for row in rows)
    assert said == [
        "compiling and touching all memory",
        "warming up",
        "round 1 of 2",
        "round 2 of 2",
    ]


@pytest.mark.parametrize("name", RULES)
def test_parameters_that_are_not_what_the_updates_make_of_them_are_found(name):
    gradients, side = start(2, 0.01, 2), start_side(name, 2)
    assert side.bytes_streamed == {"sgd": 12, "adam": 28, "adamw": 28}.get(name, 20)
    for _ in range(3):
        for shard in range(2):
            side.apply(shard, gradients[shard])
    side.check(gradients)
    side.parameters[1][-1] += np.float32(0.01)
    with pytest.raises(RoleError, match="shard 1 is not what 3 updates make of it"):
        side.check(gradients)
