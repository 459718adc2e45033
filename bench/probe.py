"""What a link really is, measured by two processes, one on each host: the time of a round trip,
and the bytes a second each way, over TCP.

    python -m dualshard.bench.probe serve ADDRESS
    python -m dualshard.bench.probe ask ADDRESS BYTES
"""

import json
import socket
import sys
import time

PORT = 7000
TRIPS = 10
PATIENCE = 20.0
"""Seconds to wait for the other side."""


def serve(address: str) -> None:
    """Answer one asker: each byte, then so many bytes that come, then as many that go."""
    with socket.create_server((address, PORT)) as listener:
        listener.settimeout(PATIENCE)
        print("ready", flush=True)
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(TRIPS):
            connection.sendall(_receive(connection, 1))
        size = int.from_bytes(_receive(connection, 8), "big")
        _receive(connection, size)
        connection.sendall(b"\0")
        _receive(connection, 1)
        connection.sendall(bytes(size))


def ask(address: str, size: int) -> dict[str, float]:
    """`round_trip` in seconds (the median), `up` and `down` in bytes a second."""
    with socket.create_connection((address, PORT), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = sorted(_timed(connection, b"\0", 1) for _ in range(TRIPS))
        trip = trips[TRIPS // 2]
        up = _timed(connection, size.to_bytes(8, "big") + bytes(size), 1)
        down = _timed(connection, b"\0", size)
    return {"round_trip": trip, "up": size / (up - trip), "down": size / (down - trip)}


def _timed(connection: socket.socket, sent: bytes, expected: int) -> float:
    """Seconds until so many bytes have come in answer to what was sent."""
    began = time.monotonic()
    connection.sendall(sent)
    _receive(connection, expected)
    return time.monotonic() - began


def _receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        more = connection.recv(min(size - len(received), 1 << 16))
        if not more:
            raise ConnectionError(f"the other side has left after {len(received)} of {size} bytes")
        received += more
    return bytes(received)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(ask(sys.argv[2], int(sys.argv[3]))))
