"""Coupling `backprop`: minibatches in pieces, and the exact order of steps."""

import pytest
from cut_net import CutNet, job_of


@pytest.mark.parametrize("pieces", [1, 2, 3, 9])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_every_part_makes_the_same_steps_in_the_same_order(parts: int, pieces: int) -> None:
    net = CutNet(job_of(parts, "backprop", partition__micro_batches=pieces))
    net.run()
    net.check()
    first = net.part(0).trained
    assert len(first) == len(net.expected)
    assert all(net.part(rank).trained == first for rank in range(parts))
