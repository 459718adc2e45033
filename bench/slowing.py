"""A machine that is several times slower: a process that stands still most of the time, in slices
too short to count as dead. Whatever the process does takes as many times as long.

    python -m dualshard.bench.slowing TIMES     reads PID, and slows it until standard input ends

This is a process of its own, so that one that stands still is woken even when the benchmark is
killed; it imports nothing of ours, to be there at once. The other process is held by a descriptor:
a number that is used again is never hit.
"""

import os
import select
import signal
import sys
from contextlib import suppress

SLICE = 0.01
"""Seconds that the process runs between two stops."""


def main(pid: int, times: float) -> None:
    """Let a process run for one slice, and stand still for `times` - 1 of them."""
    descriptor = os.pidfd_open(pid)
    try:
        while not _waited(SLICE):
            signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
            ends = _waited(SLICE * (times - 1))
            signal.pidfd_send_signal(descriptor, signal.SIGCONT)
            if ends:
                return
    except ProcessLookupError:  # it has ended, and needs nobody to wake it
        return
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGCONT)
        os.close(descriptor)


def _waited(seconds: float) -> bool:
    """Wait; whether standard input has ended, which ends the wait."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 4096)


if __name__ == "__main__":
    number = os.read(0, 64)
    if number:
        main(int(number), float(sys.argv[1]))
