"""The raw ZeroMQ exchange that `bench pushpull` compares with: DEALER here, ROUTER in another
process.

The fastest that pyzmq is used plainly: small frames copied, large ones not, blocking calls, no
protocol, nothing applied; what came in goes out again as the same message of ZeroMQ's.
`python -m dualshard.bench.echo FILE` is the answering side; it writes its addresses to FILE.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Self

import zmq

from ..common.errors import RoleError
from ..common.runtime import keep_freed_memory
from ..common.wire import Frame, Frames

COPY_BELOW = 1 << 16
"""Bytes of a frame below which it is copied."""
PATIENCE = 30.0
"""Seconds that the answering side has to listen, and to answer."""


class Echo:
    """The asking side. A context: when it is left, the connection is closed.

    Arguments:
        way: `tcp` or `ipc`.
    """

    def __init__(self, process: "subprocess.Popen[str]", announce: Path, way: str) -> None:
        """Raises `RoleError` if the other side does not listen within `PATIENCE` seconds."""
        deadline = perf_counter() + PATIENCE
        while not announce.exists():
            if process.poll() is not None or perf_counter() > deadline:
                raise RoleError("the raw ZeroMQ exchange did not start")
            time.sleep(0.01)
        self._context = zmq.Context()
        self._link = self._context.socket(zmq.DEALER)
        self._link.set(zmq.RCVTIMEO, int(PATIENCE * 1000))
        self._link.connect(json.loads(announce.read_text())[way])
        self._ready: dict[int, zmq.Frame] = {}
        self._turn = 0

    def measure(self, messages: Sequence[Frames], in_flight: int, seconds: float) -> float:
        """Round trips a second of these messages, taken in turn, for about `seconds`.

        Raises:
            RoleError: what came back is not what was sent.
        """
        asked = answered = 0
        first = self._turn
        begin = perf_counter()
        while True:
            while asked - answered < in_flight and perf_counter() - begin < seconds:
                self._send(messages[(first + asked) % len(messages)])
                asked += 1
            if asked == answered:
                break
            came = self._receive()
            answered += 1
        taken = perf_counter() - begin
        self._turn = (first + answered) % len(messages)
        sent = messages[(first + answered - 1) % len(messages)]
        if came != [sent[0], sent[1]]:
            raise RoleError("the raw ZeroMQ exchange returned other bytes than it was sent")
        return answered / taken

    def _send(self, message: Frames) -> None:
        *first, last = message
        for frame in first:
            send(self._link, self._uncopied(frame), zmq.SNDMORE)
        send(self._link, self._uncopied(last), 0)

    def _uncopied(self, frame: Frame) -> "Frame | zmq.Frame":
        """A large frame as a message of ZeroMQ's, made once, as our transport does."""
        if len(frame) < COPY_BELOW:
            return frame
        if id(frame) not in self._ready:
            self._ready[id(frame)] = zmq.Frame(frame, copy=False)
        return self._ready[id(frame)]

    def _receive(self) -> Frames:
        try:
            return [self._link.recv(), self._link.recv(copy=False).buffer]
        except zmq.Again:
            raise RoleError(f"the raw ZeroMQ exchange was silent for {PATIENCE:g} s") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._link.close(0)
        self._ready.clear()
        self._context.term()


def send(link: "zmq.Socket[bytes]", frame: "Frame | zmq.Frame", flags: int) -> None:
    """Send one frame, large ones without copying."""
    link.send(frame, flags, copy=len(frame) < COPY_BELOW)


def answer(announce: Path) -> None:
    """Send the first two frames of every message back to where it came from, for ever."""
    keep_freed_memory()  # as our roles do, so that only the protocol makes the difference
    context = zmq.Context()
    link = context.socket(zmq.ROUTER)
    port = link.bind_to_random_port("tcp://127.0.0.1")
    addresses = {
        "tcp": f"tcp://127.0.0.1:{port}",
        "ipc": f"ipc://@dualshard-bench-{secrets.token_hex(8)}",
    }
    link.bind(addresses["ipc"])
    fresh = announce.with_suffix(".new")
    fresh.write_text(json.dumps(addresses))
    os.replace(fresh, announce)
    while True:
        sender, header = link.recv(), link.recv()
        arrays = [link.recv(copy=False)]
        while arrays[-1].more:
            arrays.append(link.recv(copy=False))
        link.send(sender, zmq.SNDMORE)
        link.send(header, zmq.SNDMORE)
        send(link, arrays[0], 0)


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
