"""The loop that joins a role's state to its transport and clock, the same for real and in memory.

One thread runs it; other threads hand in events with `post`. It performs what every role has in
common (send, forget, note, exit) and passes the rest to the role's process.
"""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

from .clock import Clock
from .delivery import Peer, Send
from .errors import DualshardError, describe
from .node import Action, Exit, Failed, Forget, Node, Note
from .telemetry import Telemetry
from .transport import Transport
from .wire import Frames, MalformedFrame, ProtocolMismatch, decode, encode

LONGEST_WAIT = 0.5
"""Seconds between two looks at the world outside (signals, the parent) when nothing happens."""


class Loop:
    """Messages, local events and timers in; actions out.

    Arguments:
        perform: called with each action that is the role's own.
        look: called at least every `LONGEST_WAIT`; may return an event for the node.
    """

    def __init__(
        self,
        node: Node,
        transport: Transport,
        clock: Clock,
        telemetry: Telemetry,
        perform: Callable[[Action], None],
        look: Callable[[], object] = lambda: None,
    ) -> None:
        self.node, self.transport, self.clock, self.telemetry = node, transport, clock, telemetry
        self.ended: Exit | None = None
        self._perform_own, self._look = perform, look
        self._posted: SimpleQueue[object] = SimpleQueue()

    def post(self, event: object) -> None:
        """Hand in a local event. Any thread may call it."""
        self._posted.put(event)
        self.transport.wake()

    def run(self) -> Exit:
        """Turn until the role ends."""
        while self.ended is None:
            self.turn(LONGEST_WAIT)
        return self.ended

    def turn(self, longest: float) -> bool:
        """Wait up to `longest` seconds for something to do, and do it; True if anything was."""
        wait = min(longest, max(0.0, self.node.wake_at() - self.clock.now()))
        busy = False
        for peer, frames in self.transport.receive(wait):
            busy = True
            self._receive(peer, frames)
        while self.ended is None:
            try:
                event = self._posted.get_nowait()
            except Empty:
                break
            busy = True
            self._perform(self.node.local(event, self.clock.now()))
        if self.ended is None and (seen := self._look()) is not None:
            self._perform(self.node.local(seen, self.clock.now()))
        if self.ended is None and self.node.wake_at() <= self.clock.now():
            busy = True
            self._perform(self.node.tick(self.clock.now()))
        return busy

    def begin(self, actions: list[Action]) -> None:
        """Perform a role's first actions."""
        self._perform(actions)

    def _receive(self, peer: Peer, frames: Frames) -> None:
        """Decode and hand on one message; what is no message is counted, logged and dropped."""
        if self.ended is not None:
            return
        try:
            envelope = decode(frames)
        except (MalformedFrame, ProtocolMismatch) as broken:
            self.telemetry.count("malformed_frames")
            self.telemetry.log_rarely("warning", f"dropped a message from {peer!r}: {broken}")
            return
        self._perform(self.node.receive(peer, envelope, self.clock.now()))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                frames = encode(action.envelope)
                if not self.transport.send(action.peer, frames):
                    self.telemetry.count("unsent_messages")
            elif isinstance(action, Note):
                self.telemetry.log(action.level, action.text)
            elif isinstance(action, Forget):
                self.transport.forget(action.peer)
            elif isinstance(action, Exit):
                self.ended = action
                return
            else:
                self._perform_own(action)


class Background:
    """One daemon thread that runs pieces of work in order and posts what each returns.

    Work that raises ends the role: a `DualshardError` with its own words and status, anything
    else as a fault of the code that ran, named by `who`.
    """

    def __init__(self, post: Callable[[object], None], who: str) -> None:
        self._post, self._who = post, who
        self._work: SimpleQueue[Callable[[], object]] = SimpleQueue()
        Thread(target=self._run, name=who, daemon=True).start()

    def submit(self, work: Callable[[], object]) -> None:
        """Run `work` after what was submitted before. Any thread may call it."""
        self._work.put(work)

    def _run(self) -> None:
        while True:
            work = self._work.get()
            try:
                event = work()
            except DualshardError as error:
                event = Failed(error.exit_status, str(error))
            except Exception as error:
                event = Failed(1, f"{self._who}: {describe(error)}")
            self._post(event)
            del work, event
