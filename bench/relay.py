"""The process that is the link of `link`: a tap device in each of two network namespaces, and the
frames between them, which take their time. Needs root and /dev/net/tun; no netem in the kernel.

In each direction a frame leaves when those before it have left, which takes its bytes by the rate,
and arrives `delay` seconds later. The queue has no bound: nothing is ever dropped. Namespaces and
devices live as long as this process, which ends with its standard input or with SIGTERM.
"""

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
from collections import deque
from contextlib import ExitStack, suppress
from math import inf
from time import monotonic
from types import FrameType

ADDRESSES = ("10.79.0.1", "10.79.0.2")
"""Of the two hosts; nobody but they can see them."""
MTU = 1500
BURST = 64
"""Frames that are read before one looks at the clock again."""
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


class Direction:
    """The frames that are under way in one direction. Pure: `now` is handed in, seconds.

    Arguments:
        delay: seconds between a frame's leaving and its arrival.
        rate: bytes a second.
    """

    def __init__(self, delay: float, rate: float) -> None:
        self._delay, self._rate = delay, rate
        self._free_at = 0.0
        self._frames: deque[tuple[float, bytes]] = deque()

    def take(self, frame: bytes, now: float) -> None:
        """A frame is to be sent."""
        self._free_at = max(self._free_at, now) + len(frame) / self._rate
        self._frames.append((self._free_at + self._delay, frame))

    def arrived(self, now: float) -> list[bytes]:
        """The frames that are there by now, in their order; each is given once."""
        frames = []
        while self.next_at <= now:
            frames.append(self._frames.popleft()[1])
        return frames

    @property
    def next_at(self) -> float:
        """When the next one arrives; infinity if none is under way."""
        return self._frames[0][0] if self._frames else inf


def names(link: str) -> tuple[str, str]:
    """The two namespaces of a link, and of the devices in them."""
    return f"{link}a", f"{link}b"


def ip(*arguments: str) -> None:
    """Run `ip`. Raises OSError with its own words if it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def remove(namespace: str) -> None:
    """Remove a namespace, if it is there; what is in it goes with it."""
    with suppress(OSError):
        ip("netns", "del", namespace)


def main(arguments: list[str]) -> None:
    """Join the hosts: the link's name, its delay in seconds, its rate in bytes a second."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark tells us when
    link, delay, rate = arguments[0], float(arguments[1]), float(arguments[2])
    with ExitStack() as stack:
        taps = []
        for name, address in zip(names(link), ADDRESSES, strict=True):
            stack.callback(remove, name)
            ip("netns", "add", name)
            taps.append(_open_tap(name, address, stack))
        print("ready", flush=True)
        _relay(taps[0], taps[1], delay, rate)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _open_tap(name: str, address: str, stack: ExitStack) -> int:
    """A device in the namespace of its name; what is sent through it can be read here."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    stack.callback(os.close, tap)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    ip("link", "set", name, "netns", name)
    ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
    ip("-n", name, "link", "set", name, "mtu", str(MTU), "up")
    ip("-n", name, "link", "set", "lo", "up")
    return tap


def _relay(one: int, other: int, delay: float, rate: float) -> None:
    """Carry frames until standard input ends."""
    ways = {one: (Direction(delay, rate), other), other: (Direction(delay, rate), one)}
    while True:
        due = min(way.next_at for way, _ in ways.values()) - monotonic()
        ready, _, _ = select.select([0, one, other], [], [], min(max(due, 0.0), 1.0))
        if 0 in ready and not os.read(0, 4096):
            return
        for tap, (way, to) in ways.items():
            if tap in ready:
                _read(tap, way)
            for frame in way.arrived(monotonic()):
                with suppress(OSError):  # the other host is being taken down
                    os.write(to, frame)


def _read(tap: int, way: Direction) -> None:
    """Take the frames that wait at a device."""
    for _ in range(BURST):
        try:
            frame = os.read(tap, MTU + 64)
        except BlockingIOError:
            return
        way.take(frame, monotonic())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as refused:
        sys.exit(str(refused))
