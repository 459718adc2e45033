"""Memory shared between two processes of one user on one host: the lane past the sockets.

A segment is an anonymous file in memory (memfd_create(2)). It has no name in any file system, so
that nothing is left behind when its processes die, however they die, and it can be opened only
through /proc/PID/fd of its owner, which the kernel allows to the same user alone. It is sealed
against changes of its size, so that a peer cannot make our reads fail.

Who may touch which part, and when, is the business of those who share it (see `Attach`).
"""

import fcntl
import mmap
import os
from functools import cache
from pathlib import Path

import numpy as np

from .errors import RemoteError
from .types import Float32

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Segment:
    """A block of float32 elements in shared memory; mapped as long as an array of it is alive."""

    def __init__(self, descriptor: int, elements: int) -> None:
        self.descriptor, self.elements = descriptor, elements
        self.array: Float32 = np.frombuffer(
            mmap.mmap(descriptor, max(4 * elements, 1)), np.float32, elements
        )

    @classmethod
    def create(cls, elements: int) -> "Segment":
        """A new block of zeros. Raises `OSError` where the system has no memfd or no memory."""
        descriptor = os.memfd_create("dualshard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, max(4 * elements, 1))
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            return cls(descriptor, elements)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def attach(cls, pid: int, descriptor: int, elements: int) -> "Segment":
        """The block that process `pid` of this host and user created as `descriptor`.

        Raises:
            RemoteError: it is not there, not ours to open, not sealed, or of another size.
        """
        try:
            ours = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as refused:
            raise RemoteError(f"no shared memory of process {pid}: {refused.strerror}") from None
        try:
            seals = fcntl.fcntl(ours, fcntl.F_GET_SEALS)
            size = os.fstat(ours).st_size
            if seals & _SEALS != _SEALS or size != max(4 * elements, 1):
                raise RemoteError(
                    f"shared memory of process {pid}: {size} bytes with seals "
                    f"{seals:#x}, expected {4 * elements} with {_SEALS:#x}"
                )
            return cls(ours, elements)
        except OSError as refused:
            raise RemoteError(f"shared memory of process {pid}: {refused.strerror}") from None
        finally:
            os.close(ours)


@cache
def place() -> str:
    """Names the machine, since its last start, and the process namespace: two processes with the
    same place can reach each other's segments. Empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
