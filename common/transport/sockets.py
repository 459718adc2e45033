"""How every socket of ours is set up, and its errors in words."""

import zmq

FRAME_LIMIT = 1 << 30
"""Bytes of one frame; a longer one makes ZeroMQ drop the connection before it is allocated."""
QUEUE_LIMIT = 10_000
"""Messages queued per peer by ZeroMQ; credit keeps real queues far below it."""


def why(refused: zmq.ZMQError) -> str:
    """The system's words for an error, without the address that pyzmq adds to them."""
    return zmq.strerror(refused.errno) if refused.errno else str(refused)


def configure(link: "zmq.Socket[bytes]") -> None:
    """Limits of queues and frames; nothing lingers by itself."""
    link.set(zmq.SNDHWM, QUEUE_LIMIT)
    link.set(zmq.RCVHWM, QUEUE_LIMIT)
    link.set(zmq.MAXMSGSIZE, FRAME_LIMIT)
    link.set(zmq.LINGER, 0)
    link.set(zmq.TCP_KEEPALIVE, 1)
    link.set(zmq.RECONNECT_IVL, 50)
    link.set(zmq.RECONNECT_IVL_MAX, 1000)
    link.set(zmq.IPV6, 0)
