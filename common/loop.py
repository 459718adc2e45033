"""The loop that joins a role's state to its transport and clock, the same for real and in memory.

One thread runs it; other threads hand in events with `post`. It performs what every role has in
common (send, forget, note, exit) and passes the rest to the role's process.
"""

from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from .clock import Clock
from .delivery import Peer, Send, routing_id
from .errors import DualshardError, RemoteError, describe
from .messages import Envelope
from .node import Action, Exit, Failed, Forget, Lend, Node, NoShortcut, Note, Shortcut, Trust
from .permissions import forbidden
from .telemetry import Telemetry
from .transport import Transport
from .wire import Frames, decode, encode

LOOK_EVERY = 0.2
"""Seconds between two looks at the world outside while there is much to do."""
LONGEST_WAIT = 0.5
"""Seconds between two looks at the world outside (signals, the parent) when nothing happens."""


class Loop:
    """Messages, local events and timers in; actions out.

    Arguments:
        perform: called with each action that is the role's own; an action that is done at once
            may return the event that it makes.
        look: called at least every `LONGEST_WAIT`; may return an event for the node.
    """

    def __init__(
        self,
        node: Node,
        transport: Transport,
        clock: Clock,
        telemetry: Telemetry,
        perform: Callable[[Action], object],
        look: Callable[[], object] = lambda: None,
    ) -> None:
        self.node, self.transport, self.clock, self.telemetry = node, transport, clock, telemetry
        node.counted = telemetry.counters
        node.seen, node.trouble = transport.seen, transport.trouble
        transport.report = telemetry
        self.ended: Exit | None = None
        self._perform_own, self._look = perform, look
        self._posted: SimpleQueue[object] = SimpleQueue()
        self._wake_at = node.wake_at()
        self._looked_at = float("-inf")

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
        wait = 0.0
        if self._posted.empty():
            wait = min(longest, max(0.0, self._wake_at - self.clock.now()))
        busy = False
        for peer, frames in self.transport.receive(wait):
            busy = True
            self._receive(peer, frames)
        while self.ended is None and not self._posted.empty():
            busy = True
            self._perform(self.node.local(self._posted.get(), self.clock.now()))
        now = self.clock.now()
        if self.ended is None and now >= self._looked_at + LOOK_EVERY:
            self._looked_at = now
            if (seen := self._look()) is not None:
                self._perform(self.node.local(seen, now))
        self._wake_at = self.node.wake_at()
        if self.ended is None and self._wake_at <= now:
            busy = True
            self._perform(self.node.tick(now))
            self._wake_at = self.node.wake_at()
        return busy

    def begin(self, actions: list[Action]) -> None:
        """Perform a role's first actions."""
        self._perform(actions)
        self._wake_at = self.node.wake_at()

    def _receive(self, peer: Peer, frames: Frames) -> None:
        """Decode and hand on one message; what the protocol forbids is counted, logged, dropped."""
        if self.ended is not None:
            return
        try:
            envelope = decode(frames)
            seen = self.transport.seen(peer)
            if why := forbidden(seen.role, envelope) or (seen.key and _foreign(peer, envelope)):
                self.telemetry.count("forbidden_messages")
                self.telemetry.log_rarely("warning", f"refused a message from {peer!r}: {why}")
                actions = self.node.forbidden(peer, envelope, why, self.clock.now())
            else:
                actions = self.node.receive(peer, envelope, self.clock.now())
        except RemoteError as broken:
            self.telemetry.count("malformed_frames")
            self.telemetry.log_rarely("warning", f"dropped a message from {peer!r}: {broken}")
            return
        self._perform(actions)

    def _perform(self, actions: list[Action]) -> None:
        """Perform actions in order; what follows from one that is done at once comes before the
        next, so that a gradient is on its way before the next one is computed."""
        waiting = deque(actions)
        while waiting:
            action = waiting.popleft()
            if isinstance(action, Send):
                self._send(action)
            elif isinstance(action, Note):
                self.telemetry.log(action.level, action.text)
            elif isinstance(action, Forget):
                self.transport.forget(action.peer)
            elif isinstance(action, Lend):
                self.transport.lend(action.block)
            elif isinstance(action, Trust):
                self.transport.trust(action.peer, action.key)
            elif isinstance(action, Shortcut):
                if not self.transport.shortcut(action.address):
                    self._posted.put(NoShortcut(action.address))
            elif isinstance(action, Exit):
                self.ended = action
                return
            elif (event := self._perform_own(action)) is not None:
                waiting.extendleft(reversed(self.node.local(event, self.clock.now())))

    def _send(self, send: Send) -> None:
        try:
            frames = encode(send.envelope)
        except DualshardError as refused:
            self._posted.put(Failed(refused.exit_status, str(refused)))
            return
        if not self.transport.send(send.peer, frames):
            self.telemetry.count("unsent_messages")


def _foreign(peer: Peer, envelope: Envelope) -> str:
    """Why a message is not of whom it came under the name of; empty if it is."""
    if isinstance(peer, bytes) and peer != routing_id(envelope.source):
        return f"it claims to be {envelope.source:016x}"
    return ""


def attempt(who: str, work: Callable[[], object]) -> object:
    """What `work` returns, or the `Failed` that ends the role if it raises, even `SystemExit`: a
    `DualshardError` with its own words and status, anything else as a fault of the code that ran,
    named by `who`."""
    try:
        return work()
    except DualshardError as error:
        return Failed(error.exit_status, str(error))
    except BaseException as error:
        return Failed(1, f"{who}: {describe(error)}")


class Background:
    """Daemon threads that run pieces of work beside the loop and post what each returns, if
    anything, in the order in which the work was submitted.

    A role's threads end with its process; `close` ends them before.
    """

    def __init__(self, post: Callable[[object], None], who: str, threads: int = 1) -> None:
        self._post, self._who = post, who
        self._work: SimpleQueue[tuple[int, Callable[[], object]] | None] = SimpleQueue()
        self._submitted, self._posted = 0, 0
        self._early: dict[int, object] = {}
        self._order = Lock()
        self._threads: list[Thread] = []
        self.widen(threads)

    def widen(self, threads: int) -> None:
        """Have at least so many threads."""
        while len(self._threads) < threads:
            thread = Thread(target=self._run, name=self._who, daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(self, work: Callable[[], object]) -> None:
        """Run `work`; with one thread, after what was submitted before. Any thread may call it."""
        with self._order:
            self._work.put((self._submitted, work))
            self._submitted += 1

    def close(self, patience: float) -> bool:
        """Finish what was submitted, then end the threads.

        Returns:
            whether they have ended within `patience` seconds each.
        """
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(patience)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            number, work = item
            self._done(number, attempt(self._who, work))
            del item, work

    def _done(self, number: int, event: object) -> None:
        """Post this event and those that have waited for it, unless it must wait itself."""
        with self._order:
            self._early[number] = event
            while self._posted in self._early:
                if (ready := self._early.pop(self._posted)) is not None:
                    self._post(ready)
                self._posted += 1


class Crew:
    """Threads that do pieces of work together with the one that asks, which waits for all.

    One thread at a time may ask. They end with the process; `close` ends them before.
    """

    def __init__(self, threads: int, who: str) -> None:
        """`threads` counts the one that asks."""
        self._pieces: deque[tuple[int, Callable[[], Any]]] = deque()
        self._results: list[Any] = []
        self._errors: list[BaseException] = []
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._answers: SimpleQueue[None] = SimpleQueue()
        self._threads = [
            Thread(target=self._help, name=f"{who} {number}", daemon=True)
            for number in range(1, threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, pieces: Sequence[Callable[[], Any]]) -> list[Any]:
        """Do all pieces, in any order; what each returns, in theirs.

        Raises whatever one of them raised, after all are done.
        """
        helpers = min(len(self._threads), len(pieces) - 1)
        if helpers < 1:
            return [piece() for piece in pieces]
        self._results = [None] * len(pieces)
        self._pieces.extend(enumerate(pieces))
        for _ in range(helpers):
            self._calls.put(True)
        self._work()
        for _ in range(helpers):
            self._answers.get()
        if self._errors:
            error, self._errors = self._errors[0], []
            raise error
        return self._results

    def close(self, patience: float) -> bool:
        """End the threads; whether they have ended within `patience` seconds each."""
        for _ in self._threads:
            self._calls.put(False)
        for thread in self._threads:
            thread.join(patience)
        return not any(thread.is_alive() for thread in self._threads)

    def _help(self) -> None:
        while self._calls.get():
            self._work()
            self._answers.put(None)

    def _work(self) -> None:
        while self._pieces:
            try:
                index, piece = self._pieces.popleft()
            except IndexError:  # another has just taken the last one
                return
            try:
                self._results[index] = piece()
            except BaseException as error:
                self._errors.append(error)
