"""An operator's line to the controller: status, stop, and word of a dead process."""

import secrets
from pathlib import Path

from ..common.clock import SystemClock
from ..common.delivery import Courier, Send
from ..common.errors import UserError
from ..common.keys import KeyRing
from ..common.messages import AskStatus, Message, Obituary, Refused, Status, Stop
from ..common.permissions import OPERATOR
from ..common.transport import ZmqTransport
from ..common.types import Role
from ..common.wire import decode, encode

REPEAT = 0.5
"""Seconds after which a question that may have got lost is asked again."""


class Operator:
    """Asks one controller. Not thread-safe."""

    def __init__(self, address: str, keys: Path | None = None) -> None:
        """`address` is `tcp://host:port`, `keys` the folder with the operator's key, if any.

        Raises:
            UserError: the folder has no such key.
        """
        self.address, self._keys = address, keys
        incarnation = secrets.randbits(62)
        self._clock = SystemClock()
        self._courier = Courier(incarnation)
        ring = None if keys is None else KeyRing(keys, OPERATOR)
        self._transport = ZmqTransport(incarnation, keys=ring)
        self._transport.expect(address, Role.CONTROLLER)

    def status(self, patience: float) -> dict[str, object] | None:
        """The controller's report; None if there is no answer within `patience` seconds.

        Raises:
            UserError: the controller does not take this from us.
        """
        reply = self._ask(AskStatus(), patience)
        return reply.report if isinstance(reply, Status) else None

    def stop(self, status: int, reason: str, patience: float) -> bool:
        """End the job; whether the controller took note. Raises `UserError` as `status`."""
        return self._ask(Stop(status, reason), patience) is not None

    def report_death(self, host: str, pid: int, status: int) -> None:
        """Tell the controller that a process is dead, so that it need not wait for the lease."""
        self._send(self._courier.notify(self.address, Obituary(host, pid, status)))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close(0.2)

    def _ask(self, message: Message, patience: float) -> Message | None:
        deadline = self._clock.now() + patience
        request = self._courier.ask(self.address, message, self._clock.now(), pause=REPEAT)
        self._send(request)
        while (left := deadline - self._clock.now()) > 0:
            for peer, frames in self._transport.receive(min(left, REPEAT)):
                envelope = decode(frames)
                _, answered, _ = self._courier.receive(peer, envelope)
                if answered and answered.envelope.sequence == request.envelope.sequence:
                    if isinstance(envelope.message, Refused):
                        raise self._refused(envelope.message)
                    return envelope.message
            for again in self._courier.due(self._clock.now())[0]:
                self._send(again)
        for waiting in self._courier.open_requests():
            self._courier.withdraw(waiting)
        return None

    def _refused(self, reply: Refused) -> UserError:
        return UserError(
            "--keys",
            str(self._keys or ""),
            "a folder with the operator's key",
            f"refused: {reply.detail}",
        )

    def _send(self, send: Send) -> None:
        self._transport.send(send.peer, encode(send.envelope))

    def no_answer(self, patience: float) -> UserError:
        """The error to raise when nobody has answered within `patience` seconds."""
        return UserError(
            "--controller",
            self.address.removeprefix("tcp://"),
            f"a controller that answers within {patience:g} s",
            self._transport.trouble(self.address) or "start one there, or give its address",
        )
