"""Where a role's process listens, what it tells others, and looking whether others can be reached:
all that a role's runtime asks of the machine about addresses."""

from collections.abc import Callable

from .loop import Background
from .reaching import Probed
from .telemetry import Telemetry
from .transport.addresses import (
    as_ip,
    card_address,
    check_listening,
    is_everywhere,
    is_loopback,
    listening,
)
from .transport.local import (
    address_towards,
    network_cards,
    own_addresses,
    public_address,
    reach,
    resolve,
)
from .types import Role

CONTROLLER_PORT = 7077
"""Where a controller listens by default."""
AT_ONCE = 4
"""Addresses that are looked up, or probed, at once."""
PATIENCE = 3.0
"""Seconds that a connection may take to be opened."""


class Listening:
    """What the options `bind`, `interface` and `advertise` mean on this machine.

    `bind` is where to listen, HOST:PORT, by default this machine alone; `advertise` is what others
    are told if it is not that.

    Raises:
        UserError: they contradict each other, or there is no such address or network card.
    """

    def __init__(self, role: Role, bind: str, interface: str, advertise: str) -> None:
        check_listening(bind, interface, advertise)
        port = CONTROLLER_PORT if role is Role.CONTROLLER else 0
        self.bind = listening(bind or "127.0.0.1", port)
        if interface:
            self.bind = f"{card_address(interface, network_cards())}:{port}"
        self._named = advertise
        self._everywhere = is_everywhere(self.bind) and not advertise
        if self._everywhere and role is Role.CONTROLLER:
            advertise = public_address()
        self.advertise = advertise

    def told(self, address: str, controller: str) -> str:
        """What others are told, both `tcp://HOST:PORT`: `address`, unless this role listens at all
        addresses of its machine. Then it is the one that the way to the controller leaves from; to
        a controller of this machine, the one that others most likely reach.

        Raises:
            OSError: the controller's host has no address, or not yet.
        """
        if not self._everywhere:
            return address
        host = address_towards(_split(controller)[0])
        if not host or is_loopback(host):
            public = public_address()
            host = public if as_ip(public) or not host else host
        return f"tcp://{host}:{_split(address)[1]}"

    def check_advertised(self, say: Telemetry) -> None:
        """Warn of an advertised name that leads to another machine, or nowhere, as seen from here;
        may wait for a name server. Numbers the controller compares with what it sees."""
        host = self._named.partition(":")[0]
        if not host or as_ip(host):
            return
        try:
            found = resolve(host)
        except OSError as unknown:
            found, why = [], f"has no IPv4 address here ({unknown.strerror})"
        else:
            why = f"is {', '.join(found)}, which is no address of this machine"
        if not own_addresses() & set(found):
            say.log(
                "warning",
                f"--advertise {host} {why}: unless it is right where the others run, give an "
                f"address of this machine ({', '.join(sorted(own_addresses()))})",
            )


class Lookout:
    """Looks up names and opens connections beside a loop, which a name server or a firewall would
    hold up."""

    def __init__(self) -> None:
        self.post: Callable[[object], None] = lambda event: None
        """The loop's."""
        self._beside: Background | None = None

    def submit(self, work: Callable[[], object]) -> None:
        """Do this beside the loop, and post what it returns."""
        if self._beside is None:
            self._beside = Background(self.post, "addresses", AT_ONCE)
        self._beside.submit(work)

    def probe(self, address: str) -> None:
        """Look whether a connection to `tcp://HOST:PORT` can be opened; posts `Probed`."""
        host, port = _split(address)
        self.submit(lambda: Probed(address, reach(host, int(port), PATIENCE)))


def _split(address: str) -> tuple[str, str]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, port
