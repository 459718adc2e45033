"""What the controller says of addresses at which nobody would be reached."""

import pytest
from desk import DATA, ONE, SERVER, TWO, Desk

from dualshard.common.delivery import Peer, routing_id
from dualshard.common.messages import Heartbeat, Join, Message, Refused, Welcome
from dualshard.common.transport import Seen

CUT = {"train": {"mode": "admm"}}
FIX = (
    "start {} with --interface NAME or --bind HOST:PORT of a network that the others reach, or "
    "with --advertise HOST:PORT if something there leads to it"
)


class Gate:
    """A controller that sees where connections come from. Its own machine has 10.0.0.1."""

    def __init__(self, **settings: dict[str, object]) -> None:
        self.desk = Desk(**settings)
        self.desk.controller.here = frozenset({"127.0.0.1", "10.0.0.1"})
        self.seen: dict[Peer, Seen] = {}
        self.desk.controller.seen = lambda peer: self.seen.get(peer, Seen())

    def join(self, source: int, role: str, listens: str, seen: str, host: str = "far") -> Message:
        self.seen[routing_id(source)] = Seen(address=seen)
        return self.desk.say(source, Join(role, -1, f"tcp://{listens}", host, 77, {}))

    def events(self) -> list[str]:
        return [str(event["text"]) for event in self.desk.controller.board.events]


@pytest.mark.parametrize("role", ["paramserver", "dataserver"])
@pytest.mark.parametrize("listens", ["127.0.0.1:4000", "localhost:4000", "0.0.0.0:4000"])
def test_a_server_elsewhere_that_listens_for_itself_alone_is_refused(
    role: str, listens: str
) -> None:
    gate = Gate()
    why = (
        f"{role} on far says that it listens at {listens}, where only its own machine reaches it, "
        f"but it joins from 10.0.0.2: {FIX.format('it')}"
    )
    assert gate.join(SERVER, role, listens, "10.0.0.2") == Refused("unreachable", why)
    assert gate.events()[-1] == f"refused: {why}"
    assert not gate.desk.controller.roster.seats


def test_a_worker_elsewhere_need_not_be_reached_unless_the_net_is_cut() -> None:
    assert isinstance(Gate().join(ONE, "worker", "127.0.0.1:4000", "10.0.0.2"), Welcome)
    refused = Gate(**CUT).join(ONE, "worker", "127.0.0.1:4000", "10.0.0.2")
    assert isinstance(refused, Refused)
    assert refused.detail.startswith("worker on far says that it listens at 127.0.0.1:4000, ")


@pytest.mark.parametrize(
    "seen", ["", "127.0.0.1", "127.0.0.2", "10.0.0.1", "@a-socket-of-this-host"]
)
def test_on_one_machine_loopback_is_enough_for_all(seen: str) -> None:
    gate = Gate()
    for source, role in ((SERVER, "paramserver"), (DATA, "dataserver"), (ONE, "worker")):
        assert isinstance(gate.join(source, role, "127.0.0.1:4000", seen), Welcome)
    assert not [event for event in gate.events() if " joined from " not in event]


def test_a_worker_that_could_not_reach_a_server_is_refused() -> None:
    gate = Gate()
    gate.join(SERVER, "paramserver", "127.0.0.1:4000", "127.0.0.1", "near")
    why = (
        "worker on far (10.0.0.2) cannot reach paramserver-0 on near, which listens at "
        f"127.0.0.1:4000 for its own machine alone: {FIX.format('paramserver-0')}"
    )
    assert gate.join(ONE, "worker", "127.0.0.1:5000", "10.0.0.2") == Refused("unreachable", why)
    assert gate.events()[-1] == f"refused: {why}"


def test_a_server_that_a_worker_could_not_reach_is_refused() -> None:
    gate = Gate()
    gate.join(ONE, "worker", "127.0.0.1:5000", "10.0.0.2")
    refused = gate.join(DATA, "dataserver", "127.0.0.1:4000", "10.0.0.1", "near")
    assert refused == Refused(
        "unreachable",
        "worker-0 on far (10.0.0.2) cannot reach dataserver on near, which listens at "
        f"127.0.0.1:4000 for its own machine alone: {FIX.format('dataserver')}",
    )


def test_servers_do_not_reach_each_other() -> None:
    gate = Gate()
    gate.join(SERVER, "paramserver", "127.0.0.1:4000", "127.0.0.1", "near")
    assert isinstance(gate.join(DATA, "dataserver", "10.0.0.2:4000", "10.0.0.2"), Welcome)


def test_parts_of_a_cut_net_must_reach_each_other() -> None:
    gate = Gate(**CUT)
    gate.join(ONE, "worker", "127.0.0.1:5000", "127.0.0.1", "near")
    refused = gate.join(TWO, "worker", "10.0.0.2:5000", "10.0.0.2")
    assert isinstance(refused, Refused)
    assert refused.detail.startswith("worker on far (10.0.0.2) cannot reach worker-0 on near, ")


@pytest.mark.parametrize("listens", ["10.0.0.2:4000", "far:4000"])
@pytest.mark.parametrize("seen", ["10.0.0.2", "", "127.0.0.1"])
def test_what_agrees_or_cannot_be_compared_is_not_spoken_of(listens: str, seen: str) -> None:
    gate = Gate()
    assert isinstance(gate.join(SERVER, "paramserver", listens, seen), Welcome)
    assert isinstance(gate.join(ONE, "worker", "10.0.0.3:1", "10.0.0.4"), Welcome)
    assert not [event for event in gate.events() if " joined from " not in event]


def test_two_addresses_that_differ_are_an_event() -> None:
    gate = Gate()
    assert isinstance(gate.join(SERVER, "paramserver", "192.168.7.2:4000", "10.0.0.2"), Welcome)
    assert gate.events()[-1] == (
        "paramserver-0 on far says that it listens at 192.168.7.2:4000, but joins from 10.0.0.2: "
        "several network cards, or translated addresses; if others cannot reach it, start it with "
        "--advertise 10.0.0.2 or --interface NAME"
    )


def test_a_member_that_another_one_cannot_reach_is_one_event() -> None:
    gate = Gate()
    gate.join(SERVER, "paramserver", "10.0.0.2:4000", "10.0.0.2")
    gate.join(ONE, "worker", "127.0.0.1:5000", "10.0.0.3", "near")
    before = len(gate.events())
    for why in ("connection refused", "no connection within 3 s"):
        counters = {f"unreachable:paramserver-0:{why}": 1.0, "unreachable:worker-9:who": 1.0}
        gate.desk.say(ONE, Heartbeat(0, "training", counters))
    assert gate.events()[before:] == [
        "worker-0 on near cannot reach paramserver-0 on far at 10.0.0.2:4000: connection refused; "
        "see that it listens where others get to (--bind, --interface, --advertise), and that no "
        "firewall is between"
    ]
