"""Streams, marks and page-locked buffers of a real device."""

import numpy as np
import pytest

from dualshard.common.segment import Segment
from dualshard.worker.staging import SLOTS, Measures, Staging

SIZE = 1 << 22


def test_copies_keep_the_order_of_their_stream(device):
    stream, there = device.stream(), None
    source, target = (device.pinned(4 * SIZE).view(np.float32) for _ in range(2))
    source[:] = np.arange(SIZE)
    with stream.current():
        there = device.xp.empty(SIZE, np.float32)
        stream.upload(source, there)
        there *= 2
        stream.download(there, target)
        mark = stream.mark()
    mark.wait()
    np.testing.assert_array_equal(target, 2 * source)


def test_a_stream_that_was_told_to_waits_for_another(device):
    first, second = device.stream(), device.stream()
    source, target = (device.pinned(4 * SIZE).view(np.float32) for _ in range(2))
    with first.current():
        there = device.xp.zeros(SIZE, np.float32)
    for number in range(20):
        source[:] = number
        with first.current():
            first.upload(source, there)
            for _ in range(20):
                there += 1
        mark = first.mark()
        with second.current():
            second.after(mark)
            second.download(there, target)
        second.mark().wait()
        assert target.min() == target.max() == number + 20


@pytest.mark.parametrize("shared", [False, True])
def test_memory_is_page_locked_where_it_lies(shared, device):
    array = Segment.create(SIZE).array if shared else np.zeros(SIZE, np.float32)
    assert device.pin(array)
    stream = device.stream()
    with stream.current():
        there = device.xp.arange(SIZE, dtype=np.float32)
        stream.download(there, array)
        stream.mark().wait()
    np.testing.assert_array_equal(array, np.arange(SIZE, dtype=np.float32))


def test_arrays_may_be_overwritten_as_soon_as_they_were_put(device):
    stream = device.stream()
    staging = Staging(device, stream)
    array = np.zeros(SIZE, np.float32)
    with stream.current():
        there = []
        for number in range(4 * SLOTS):
            array[:] = number
            there.append(staging.put(array))
        found = [(float(values.min()), float(values.max())) for values in there]
    assert found == [(number, number) for number in range(4 * SLOTS)]


def test_measures_come_down_together(device):
    stream = device.stream()
    measures = Measures(device, stream)
    with stream.current():
        for number in range(5):
            loss = device.xp.full(7, number, np.float32).mean()
            measures.add({"loss": loss, "accuracy": 0.5})
        measures.bring()
        stream.mark().wait()
    assert measures.read() == [{"loss": float(n), "accuracy": 0.5} for n in range(5)]
