"""What becomes of a socket's handshakes, as ZeroMQ's monitors tell it."""

import itertools
import struct
from collections import deque
from dataclasses import dataclass

import zmq

from .contract import Report

MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
_EVENT = struct.Struct("=hi")
_BROKEN = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_FAILED = {
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "unfinished",
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "refused",
    _BROKEN: "failed",
}
_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_ACCEPTED = int(zmq.EVENT_ACCEPTED)
_DISCONNECTED, _RETRIED = int(zmq.EVENT_DISCONNECTED), int(zmq.EVENT_CONNECT_RETRIED)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Handshake:
    """How one ended: "succeeded"; "refused" for the key; "failed" against the protocol, with
    `mismatch` where only one side has keys; "unfinished" within the time, or broken off. `place` is
    where the socket listens, or has connected to."""

    outcome: str
    mismatch: bool = False
    place: str = ""

    def advice(self) -> str:
        """What to do about a failed one where we have no keys. Whoever hears first that only one
        side has any hangs up: the other may never hear why."""
        which = "it takes" if self.mismatch else "it breaks off; perhaps it takes"
        return f"{which} only connections with keys: give --keys DIR, see `dualshard keygen`"


class Monitor:
    """Follows one socket. ZeroMQ waits while nobody takes what it has to tell, with its own thread:
    so there is room without limit, and whoever has a monitor looks at it at least every second.

    ZeroMQ 4.3 does not close a connection on which a frame turns out to be forged if it has told a
    monitor so: what comes after waits there for ever. So a socket that listens does not ask for
    that event, and one that has connected is to be connected again when it comes.

    Close it before its socket: an open one would hold up the end of the context.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        watched: "zmq.Socket[bytes]",
        limit: float = 0.0,
    ) -> None:
        """`limit`: of a socket that listens, the seconds in which a handshake certainly ends."""
        self._watched, self._limit = watched, limit
        self._accepted, self._ended, self._vanished = 0, 0, 0
        self._looks_down = -1
        self._history: deque[tuple[float, int]] = deque()
        place = f"inproc://monitor-{next(_numbers)}"
        self._socket = context.socket(zmq.PAIR)
        self._socket.set(zmq.RCVHWM, 0)
        events = _SUCCEEDED | (_ACCEPTED if limit else _DISCONNECTED | _RETRIED)
        for event in _FAILED:
            events |= 0 if limit and event == _BROKEN else event
        watched.monitor(place, events)
        self._socket.connect(place)

    def take(self) -> list[Handshake]:
        """What has ended since the last call, in order."""
        ended = []
        while self._socket.poll(0):
            told, place = self._socket.recv_multipart()
            event, value = _EVENT.unpack(told)
            self._looks_down = 0 if event == _DISCONNECTED else -1
            if event in (_DISCONNECTED, _RETRIED):
                continue
            if event == _ACCEPTED:
                self._accepted += 1
                continue
            self._ended += 1
            outcome = "succeeded" if event == _SUCCEEDED else _FAILED.get(event, "failed")
            mismatch = outcome == "failed" and value == MISMATCH
            ended.append(Handshake(outcome, mismatch, place.decode(errors="replace")))
        return ended

    def is_given_up(self) -> bool:
        """Whether a socket that has connected lost its connection and ZeroMQ does not try again, as
        after bytes that are none of its protocol. To be asked once after each `take`."""
        if self._looks_down < 0:
            return False
        self._looks_down += 1  # that it tries again may come a moment after that it is lost
        return self._looks_down > 1

    def count_failures(self, now: float, report: Report) -> None:
        """Count the handshakes of those who connected to us that have come to nothing. Who was
        refused is counted at the door; whoever looks for a shortcut (see `beside`) has none."""
        for handshake in self.take():
            local = handshake.place.startswith("ipc:")
            if handshake.outcome == "unfinished" and not local:
                report.count("unfinished_handshakes")
        if vanished := self._silent(now):
            report.count("failed_handshakes", vanished)

    def close(self) -> None:
        """Look no longer."""
        self._watched.disable_monitor()
        self._socket.close(0)

    def _silent(self, now: float) -> int:
        """How many more connections have come to nothing without a word: forged frames, another
        protocol. What was accepted more than the limit ago, and has no end, is one of them."""
        self._history.append((now, self._accepted))
        while len(self._history) > 1 and self._history[1][0] <= now - self._limit:
            self._history.popleft()
        at, accepted = self._history[0]
        if at > now - self._limit:
            return 0
        fresh = max(0, accepted - self._ended - self._vanished)
        self._vanished += fresh
        return fresh
