"""One sealed lane as one of its ends sees it, and what the two ends tell each other about it. Pure.

A lane is a second connection between two roles whose first one is CURVE's, and carries large
messages sealed (`sealing`). It is agreed on over CURVE, in frames that begin with `MARK` and never
reach a role:

    asker (who has connected)                      answerer (who listens)
    hello  its random half                 ->
                                           <-      here   that half, its own, its name, a port
    over the lane: a greeting              ->
                                           <-      over the lane: a greeting

Only a greeting from the other end, over the lane itself, makes an end use it: a port that nothing
reaches costs no message. Later, over CURVE again:

    want          (answerer) there is something large for you: say hello
    probe, got    how far have you come on this lane? This far.
    gone          I know no such lane: let us agree anew

Moments are seconds of the transport's clock.
"""

from collections.abc import Callable, Iterator, Sequence

from ..delivery import Peer
from ..sealing import HALF, LANE, Opener, Sealer, Session
from ..wire import Frame, Frames, MalformedFrame

MARK = b"\xc1lane"
"""The first frame of what is said about lanes; no header of a message begins so."""
GREETING: Frames = [b""]
"""What a sealed message that is none for the role holds."""
ASK, DOUBT = 0.5, 1.0
"""Seconds without a sign from the other end, while something is under way, until it is asked, and
until messages go by CURVE. A request is repeated after two (`Courier`): not by a lane in doubt."""
PATIENCE = 20.0
"""Seconds of asking in vain until a lane is given up: 16 MiB may take as long at 1 MB/s."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts to agree on a lane; they double up to the second."""

HELLO, HERE, WANT, PROBE, GOT, GONE = b"hello", b"here", b"want", b"probe", b"got", b"gone"
COUNTER, NAME, PORT = 8, 9, 2
_SIZES = {
    HELLO: (HALF,),
    HERE: (HALF, HALF, NAME, PORT),
    WANT: (),
    PROBE: (LANE, COUNTER),
    GOT: (LANE, COUNTER),
    GONE: (LANE,),
}


def control(kind: bytes, *fields: bytes) -> Frames:
    """The frames that say this to the other end."""
    assert tuple(map(len, fields)) == _SIZES[kind]
    return [MARK, kind, *fields]


def parse(frames: Sequence[Frame]) -> tuple[bytes, list[bytes]]:
    """What the other end says: a kind, and fields of the right lengths.

    Raises:
        MalformedFrame: it is nothing that can be said about a lane.
    """
    mark, kind, *fields = [*(bytes(frame[:HALF]) for frame in frames[:6]), b"", b""][:6]
    fields = fields[: max(0, len(frames) - 2)]
    if mark != MARK or tuple(map(len, frames[2:])) != _SIZES.get(kind):
        raise MalformedFrame("nothing that is said about a lane")
    return kind, fields


class Lane:
    """One end of a lane. Not thread-safe: it belongs to the transport.

    Arguments:
        peer: the other end, as the transport calls it.
        keys: both ends' public keys when the lane was agreed on.
        asks: whether this end has asked for the lane.
    """

    def __init__(
        self,
        peer: Peer,
        keys: tuple[str, str],
        session: Session,
        *,
        asks: bool,
        now: float,
    ) -> None:
        self.peer, self.keys, self.number = peer, keys, session.lane
        mine, theirs = session.asker_key, session.answerer_key
        if not asks:
            mine, theirs = theirs, mine
        self._sealer = Sealer(mine, session.lane)
        self._opener = Opener(theirs, session.lane)
        self.stands = False
        """Whether something has come from the other end: then the way leads there."""
        self.route = b""
        """At the end that listens: where the last authentic message has come from."""
        self.acknowledged = 0
        """The last of our counters that the other end has said it has opened."""
        self._settled = 0  # counters up to here are in question no more
        self._sign_at = self._asked_at = now
        self._doubt_since: float | None = None

    @property
    def counter(self) -> int:
        """Of the last message that was sealed."""
        return self._sealer.counter

    def seal(
        self, frames: Sequence[Frame], room: Callable[[int], memoryview], now: float
    ) -> Iterator[Frame]:
        """The sealed frames of a message, for the socket (see `Sealer.seal`).

        Raises:
            Spent: the key may seal no more.
        """
        if self._settled == self._sealer.counter:
            self._sign_at = now  # nothing was under way: waiting begins here
        return self._sealer.seal(frames, self._opener.counter, room)

    def open(self, frames: Sequence[Frame], now: float) -> Frames:
        """The frames of a message that has come by the lane.

        Raises:
            Replayed, Unsealed: see `Opener.open`.
        """
        opened = self._opener.open(frames)
        self.stands = True
        seen = min(self._opener.acknowledged, self._sealer.counter)
        self.acknowledged = max(self.acknowledged, seen)
        self._sign(self._sealer.counter, now)
        return opened

    def silent(self, now: float) -> bool:
        """Whether nothing has come from the other end for so long that it may be gone."""
        return now - self._sign_at >= PATIENCE

    def doubtful(self, now: float) -> bool:
        """Whether something is under way and nothing comes back: then messages go by CURVE."""
        return self._settled < self._sealer.counter and now - self._sign_at >= DOUBT

    def lost(self, now: float) -> bool:
        """Whether the other end was asked for so long in vain that the lane is to be given up."""
        return self._doubt_since is not None and now - self._doubt_since >= PATIENCE

    def to_ask(self, now: float) -> bool:
        """Whether the other end is to be probed now."""
        if self._settled == self._sealer.counter or now - self._sign_at < ASK:
            return False
        if self._doubt_since is None:
            self._doubt_since = now
        elif now - self._asked_at < ASK:
            return False
        self._asked_at = now
        return True

    def probe(self) -> Frames:
        """The question how far the other end has come."""
        return control(PROBE, self.number, self._sealer.counter.to_bytes(COUNTER, "big"))

    def came(self) -> Frames:
        """The answer to the other end's."""
        return control(GOT, self.number, self._opener.counter.to_bytes(COUNTER, "big"))

    def got(self, counter: int, now: float) -> None:
        """The other end has come so far; a sign of life if that is farther than before."""
        if self.acknowledged < counter <= self._sealer.counter:
            self.acknowledged = counter
            self._sign(max(counter, self._settled), now)

    def _sign(self, settled: int, now: float) -> None:
        self._settled, self._sign_at, self._doubt_since = settled, now, None
