"""Buffers on the way to a device and back; the device is NumPy with late copies."""

import numpy as np
import pytest
from host_device import HostDevice

from dualshard.worker.staging import SLOTS, Measures, Staging


def test_an_array_may_be_overwritten_as_soon_as_it_was_put() -> None:
    device = HostDevice()
    staging = Staging(device, device.stream())
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    there = staging.put(array)
    array[:] = 0
    assert there.dtype == np.int64
    np.testing.assert_array_equal(there, [[0, 1, 2], [3, 4, 5]])


def test_a_buffer_is_used_again_only_after_its_copy() -> None:
    device = HostDevice()
    staging = Staging(device, device.stream())
    there = [staging.put(np.full(5, number, np.float32)) for number in range(3 * SLOTS)]
    assert [array[0] for array in there] == list(range(3 * SLOTS))
    device.streams[0].run(device.streams[0].given)  # asserts that no source has changed too early
    assert len(device.streams[0].copies) == 3 * SLOTS


def test_buffers_grow_and_take_any_dtype_and_order() -> None:
    device = HostDevice()
    staging = Staging(device, device.stream())
    random = np.random.default_rng(0)
    for array in (
        random.integers(0, 255, (3, 4, 4), np.uint8),
        random.random((50, 7))[::2],
        np.asfortranarray(random.random((9, 5), np.float32)),
        np.zeros((0, 3), np.float32),
    ):
        np.testing.assert_array_equal(staging.put(array), array)


def test_measures_come_down_in_one_copy() -> None:
    device = HostDevice()
    stream = device.stream()
    measures = Measures(device, stream)
    for number in range(3):
        loss = np.asarray(number + 0.5, np.float32)
        measures.add({"loss": loss, "accuracy": 0.25, "other": loss[None] * 2})
    measures.bring()
    stream.mark().wait()
    assert len(stream.copies) == 1
    expected = [
        {"loss": number + 0.5, "accuracy": 0.25, "other": 2 * number + 1.0} for number in range(3)
    ]
    found = measures.read()
    assert found == [pytest.approx(metrics) for metrics in expected]
    assert all(type(value) is float for metrics in found for value in metrics.values())
    measures.bring()
    assert measures.read() == []
