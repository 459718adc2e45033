"""What becomes of a socket's handshakes, as ZeroMQ's monitors tell it."""

import itertools
import struct
from dataclasses import dataclass

import zmq

MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
_EVENT = struct.Struct("=hi")
_FAILED = {
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "unfinished",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "failed",
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "refused",
}
_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Handshake:
    """How one ended: "succeeded"; "refused" for the key; "failed" against the protocol, with
    `mismatch` where only one side has keys; "unfinished" within the time, or broken off."""

    outcome: str
    mismatch: bool = False


class Monitor:
    """Follows one socket. ZeroMQ waits while nobody takes what it has to tell, with its own thread:
    so there is room without limit, and whoever has a monitor looks at it at least every second.

    Close it before its socket: an open one would hold up the end of the context.
    """

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", watched: "zmq.Socket[bytes]"
    ) -> None:
        self._watched = watched
        place = f"inproc://monitor-{next(_numbers)}"
        self._socket = context.socket(zmq.PAIR)
        self._socket.set(zmq.RCVHWM, 0)
        events = _SUCCEEDED
        for event in _FAILED:
            events |= event
        watched.monitor(place, events)
        self._socket.connect(place)

    def take(self) -> list[Handshake]:
        """What has ended since the last call, in order."""
        ended = []
        while self._socket.poll(0):
            event, value = _EVENT.unpack(self._socket.recv_multipart()[0])
            outcome = "succeeded" if event == _SUCCEEDED else _FAILED.get(event, "failed")
            ended.append(Handshake(outcome, outcome == "failed" and value == MISMATCH))
        return ended

    def close(self) -> None:
        """Look no longer."""
        self._watched.disable_monitor()
        self._socket.close(0)
