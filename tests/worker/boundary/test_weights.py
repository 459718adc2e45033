"""Coupling `weights`: nobody waits but for credit, and everyone uses the newest copies."""

import pytest
from cut_net import CutNet, job_of


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_every_part_is_trained_once_on_every_sample(parts: int, head: bool) -> None:
    net = CutNet(job_of(parts, "weights", admm__head=head))
    net.run()
    net.check()
