"""Coupling `activations`: who is trained on what, in which order, and what is measured."""

import pytest
from cut_net import CutNet, job_of

WAITING = pytest.mark.parametrize("wait", [True, False])


@WAITING
@pytest.mark.parametrize("parts", [2, 3, 4, 5])
def test_every_part_is_trained_once_on_every_sample(parts: int, wait: bool) -> None:
    net = CutNet(job_of(parts, admm__wait=wait))
    net.run()
    net.check()
    assert not +net.part(0).boundary.counters
