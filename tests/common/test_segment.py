"""Shared memory: seen by both sides, gone with its processes, closed to everything else."""

import os
import subprocess
import sys

import numpy as np
import pytest

from dualshard.common.errors import RemoteError
from dualshard.common.segment import Segment, place


def test_both_sides_see_the_same_elements() -> None:
    ours = Segment.create(1000)
    theirs = Segment.attach(os.getpid(), ours.descriptor, 1000)
    ours.array[:] = np.arange(1000)
    theirs.array[7] = -1
    assert theirs.array[999] == 999
    assert ours.array[7] == -1
    os.close(ours.descriptor)


def test_another_process_reads_and_writes() -> None:
    ours = Segment.create(64)
    ours.array[:] = 3
    code = (
        "import sys; from dualshard.common.segment import Segment; "
        "s = Segment.attach(int(sys.argv[1]), int(sys.argv[2]), 64); "
        "s.array[:] *= 2; print(s.array.sum())"
    )
    command = [sys.executable, "-c", code, str(os.getpid()), str(ours.descriptor)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert float(said) == 2 * 3 * 64
    assert ours.array.sum() == 2 * 3 * 64
    os.close(ours.descriptor)


def test_it_outlives_its_descriptor_and_leaves_no_name() -> None:
    before = set(os.listdir("/dev/shm"))
    ours = Segment.create(16)
    theirs = Segment.attach(os.getpid(), ours.descriptor, 16)
    os.close(ours.descriptor)
    ours.array[3] = 5
    assert theirs.array[3] == 5
    assert set(os.listdir("/dev/shm")) <= before


def test_its_size_cannot_be_changed() -> None:
    ours = Segment.create(16)
    for size in (4, 4096):
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(ours.descriptor, size)
    os.close(ours.descriptor)


def test_another_size_is_refused() -> None:
    ours = Segment.create(16)
    with pytest.raises(RemoteError, match=r"64 bytes with seals .*, expected 68"):
        Segment.attach(os.getpid(), ours.descriptor, 17)
    os.close(ours.descriptor)


def test_a_file_that_is_not_sealed_is_refused() -> None:
    descriptor = os.memfd_create("loose", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 64)
    with pytest.raises(RemoteError, match="seals 0x0"):
        Segment.attach(os.getpid(), descriptor, 16)
    os.close(descriptor)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(RemoteError, match="no shared memory of process"):
        Segment.attach(os.getpid(), 999_999, 16)


def test_place_names_this_machine() -> None:
    code = "from dualshard.common.segment import place; print(place())"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert place()
    assert said.strip() == place()
