"""Who may speak under which name, where connections have keys. Pure.

A name is the routing id of an incarnation. The first holder of a key who speaks under a name has
it, unless the controller's view has said whose it is; nobody else can take it. Each holder has room
for so many names, so that nobody can crowd out the names of others.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..delivery import SENDERS_LIMIT
from .contract import NOBODY, Seen


@dataclass(slots=True)
class Bearer:
    """Whose a name is, and where its last message came from; no route: it cannot be reached."""

    holder: str
    key: str = ""
    route: bytes = b""
    seen: Seen = NOBODY

    def lose(self) -> None:
        """Its key or its connection counts no more."""
        self.key, self.route, self.seen = "", b"", NOBODY


class Names:
    """Bearers by name; of each holder at most `limit`, beyond which its oldest is forgotten."""

    def __init__(self, limit: int = SENDERS_LIMIT) -> None:
        self._limit = limit
        self._bearers: dict[bytes, Bearer] = {}
        self._of: dict[str, dict[bytes, None]] = {}
        self.get: Callable[[bytes], Bearer | None] = self._bearers.get

    def __len__(self) -> int:
        return len(self._bearers)

    def claim(self, name: bytes, holder: str) -> Bearer | None:
        """The bearer of this name; None if it is not this holder."""
        bearer = self._bearers.get(name)
        if bearer is None:
            return self._add(name, holder)
        return bearer if bearer.holder == holder else None

    def bind(self, name: bytes, holder: str) -> None:
        """The name is this holder's, whoever has borne it."""
        bearer = self._bearers.get(name)
        if bearer is not None and bearer.holder != holder:
            del self._of[bearer.holder][name]
            bearer = None
        if bearer is None:
            self._add(name, holder)

    def keep_keys(self, valid: Callable[[str], bool]) -> None:
        """Lose those whose key is not valid any more."""
        for bearer in self._bearers.values():
            if bearer.key and not valid(bearer.key):
                bearer.lose()

    def _add(self, name: bytes, holder: str) -> Bearer:
        bearer = self._bearers[name] = Bearer(holder)
        own = self._of.setdefault(holder, {})
        own[name] = None
        if len(own) > self._limit:
            oldest = next(iter(own))
            del own[oldest], self._bearers[oldest]
        return bearer
