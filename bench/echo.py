"""The raw ZeroMQ echo that `bench wire` compares with: DEALER here, ROUTER in another process.

The fastest that pyzmq is used plainly: small frames copied, large ones not, blocking calls, no
protocol. `python -m dualshard.bench.echo FILE` is the answering side; it writes its port to FILE.
"""

import os
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
from ..common.wire import Frames

PATIENCE = 30.0
"""Seconds that the answering side has to listen, and to answer."""


class Echo:
    """The asking side. A context: when it is left, the connection is closed."""

    def __init__(self, process: subprocess.Popen[str], announce: Path) -> None:
        """Raises `RoleError` if the other side does not listen within `PATIENCE` seconds."""
        deadline = perf_counter() + PATIENCE
        while not announce.exists():
            if process.poll() is not None or perf_counter() > deadline:
                raise RoleError("the raw ZeroMQ echo did not start")
            time.sleep(0.01)
        self._context = zmq.Context()
        self._link = self._context.socket(zmq.DEALER)
        self._link.set(zmq.RCVTIMEO, int(PATIENCE * 1000))
        self._link.connect(f"tcp://127.0.0.1:{announce.read_text()}")

    def measure(self, messages: Sequence[Frames], in_flight: int, seconds: float) -> float:
        """Round trips a second of these two-frame messages, taken in turn, for about `seconds`.

        Raises:
            RoleError: what came back is not what was sent.
        """
        asked = answered = 0
        begin = perf_counter()
        while True:
            while asked - answered < in_flight and perf_counter() - begin < seconds:
                header, array = messages[asked % len(messages)]
                self._link.send(header, zmq.SNDMORE)
                self._link.send(array, copy=False)
                asked += 1
            if asked == answered:
                break
            came = self._receive()
            answered += 1
        taken = perf_counter() - begin
        if came != messages[(answered - 1) % len(messages)]:
            raise RoleError("the raw ZeroMQ echo returned other bytes than it was sent")
        return answered / taken

    def _receive(self) -> Frames:
        try:
            return [self._link.recv(), self._link.recv(copy=False).buffer]
        except zmq.Again:
            raise RoleError(f"the raw ZeroMQ echo did not answer for {PATIENCE:g} s") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._link.close(0)
        self._context.term()


def answer(announce: Path) -> None:
    """Send every message back to where it came from, for ever."""
    keep_freed_memory()  # as our roles do, so that only the protocol makes the difference
    context = zmq.Context()
    link = context.socket(zmq.ROUTER)
    port = link.bind_to_random_port("tcp://127.0.0.1")
    fresh = announce.with_suffix(".new")
    fresh.write_text(str(port))
    os.replace(fresh, announce)
    while True:
        sender, header, array = link.recv(), link.recv(), link.recv(copy=False)
        link.send(sender, zmq.SNDMORE)
        link.send(header, zmq.SNDMORE)
        link.send(array, copy=False)


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
