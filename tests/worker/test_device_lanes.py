"""Lanes on a device: who gives work does not wait for it."""

from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from dualshard.common.node import Failed
from dualshard.worker.device_lanes import DeviceLanes
from dualshard.worker.events import Compute, Computed


class Gates:
    """A stepper whose steps finish when their lane's gate is opened."""

    def __init__(self, lanes: int) -> None:
        self.started: SimpleQueue[int] = SimpleQueue()
        self.gates = [SimpleQueue[None]() for _ in range(lanes)]

    def start(self, action: Compute) -> Any:
        self.started.put(action.lane)
        if action.lane == 2:
            raise RuntimeError("no luck")

        def finish() -> list[dict[str, float]]:
            self.gates[action.lane].get()
            return [{"loss": float(action.lane)}]

        return SimpleNamespace(finish=finish)


@pytest.fixture
def made() -> Any:
    stepper, posted = Gates(3), SimpleQueue[object]()
    lanes = DeviceLanes(stepper, 1, SimpleNamespace(post=posted.put))  # type: ignore[arg-type]
    yield stepper, posted, lanes
    for gate in stepper.gates:
        gate.put(None)
    assert lanes.close(5.0)


def test_the_next_lane_starts_while_the_one_before_is_on_its_way(made: Any) -> None:
    stepper, posted, lanes = made
    lanes.compute(Compute(0, []))
    lanes.compute(Compute(1, []))
    assert [stepper.started.get(timeout=5), stepper.started.get(timeout=5)] == [0, 1]
    assert posted.empty()
    for lane in (0, 1):
        stepper.gates[lane].put(None)
        assert posted.get(timeout=5) == Computed(lane, [{"loss": float(lane)}])


def test_what_a_step_raises_ends_the_role_in_one_line(made: Any) -> None:
    _, posted, lanes = made
    lanes.compute(Compute(2, []))
    failed = posted.get(timeout=5)
    assert isinstance(failed, Failed)
    assert failed.status == 1
    assert failed.reason.startswith("thread 0: RuntimeError: no luck")
