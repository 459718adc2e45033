"""Connections with keys, on loopback: who comes in, as whom, and how keys are changed.

Real sockets: few and quick.
"""

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dualshard.common.delivery import Peer, routing_id
from dualshard.common.errors import UserError
from dualshard.common.keys import KeyRing, Pair, read_public, write_pair, write_public
from dualshard.common.messages import AskStatus, Envelope, Form
from dualshard.common.permissions import forbidden
from dualshard.common.transport import Seen, ZmqTransport, new_pair
from dualshard.common.transport.curve import STRANGER
from dualshard.common.types import Role
from dualshard.common.wire import Frames
from dualshard.deploy.keygen import rotate_pair

PATIENCE = 10.0
"""Seconds for what takes less than one unless the machine is very busy."""
TURN = 0.01
"""Seconds of one turn."""
AGAIN = 0.2
"""Seconds after which a question is asked again."""
QUESTION = [b"question", b"x" * 1000]
HALF_OPEN = 200
ROLES = ("controller", "paramserver", "worker", "operator")


class Counts(Counter[str]):
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def count(self, counter: str, by: int = 1) -> None:
        self[counter] += by

    def log_rarely(self, level: str, text: str) -> None:
        self.lines.append(text)


class Noted(ZmqTransport):
    """A transport, what it counts, and what the other transport told it."""

    def __init__(self, folder: Path | None, role: str, incarnation: int, bind: str = "") -> None:
        super().__init__(incarnation, bind, keys=folder and KeyRing(folder, role), lanes=False)
        self.report = self.counts = Counts()
        self.controls: list[tuple[Peer, Frames]] = []

    def _control(self, peer: Peer, frames: Frames) -> None:
        self.controls.append((peer, frames))


Make = Callable[..., Noted]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualshard.common.transport.zeromq.LOOK_EVERY", 0.05)
    monkeypatch.setattr("dualshard.common.transport.zeromq.WARN_AFTER", 0.1)
    monkeypatch.setattr("dualshard.common.transport.zeromq.HANDSHAKE_LIMIT", 0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for role in ROLES:
        write_pair(tmp_path / "keys", role, new_pair())
    return tmp_path / "keys"


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Makes transports, with keys unless told otherwise, and closes them."""
    made: list[Noted] = []

    def transport(role: str, incarnation: int, bind: str = "", keys: Path | None = folder) -> Noted:
        made.append(Noted(keys, role, incarnation, bind))
        return made[-1]

    yield transport
    for one in made:
        one.close(0.0)


@pytest.fixture
def server(make: Make) -> Noted:
    return make("controller", 1, "127.0.0.1:0")


@pytest.fixture
def client(make: Make, server: Noted) -> Noted:
    made = make("worker", 2)
    made.expect(server.address, Role.CONTROLLER)
    return made


def until(done: Callable[[], object], *transports: Noted) -> None:
    """Let all take their turns until something holds; what comes is left over from `talk`."""
    for _ in range(int(PATIENCE / TURN)):
        for transport in transports:
            transport.receive(TURN / len(transports))
        if done():
            return
    raise AssertionError(f"not within {PATIENCE} s: {[one.counts for one in transports]}")


def take(receiver: Noted, *others: Noted) -> tuple[Peer, list[bytes]]:
    """The next message; the others, to whom none comes, do their part."""
    for _ in range(int(PATIENCE / TURN)):
        for other in others:
            other.receive(0)
        if came := receiver.receive(TURN):
            ((peer, frames),) = came
            return peer, [bytes(frame) for frame in frames]
    raise AssertionError(f"nothing came within {PATIENCE} s: {receiver.counts}")


def talk(server: Noted, client: Noted, *others: Noted) -> Peer:
    """A question and its answer; whom the server heard. What gets lost is sent again."""
    for _ in range(int(PATIENCE / AGAIN)):
        client.send(server.address, QUESTION)
        for _ in range(int(AGAIN / TURN)):
            heard = server.receive(0)
            for peer, frames in heard:
                assert [bytes(frame) for frame in frames] == QUESTION
                assert isinstance(frames[0], bytes)
                server.send(peer, [b"answer"])
            for other in others:
                other.receive(0)
            if came := client.receive(TURN):
                assert came[0] == (server.address, [b"answer"])
                return name_of(client)
    raise AssertionError(f"no answer: {server.counts} {client.counts}")


def name_of(client: Noted) -> bytes:
    return client._name


def key_of(folder: Path, name: str) -> str:
    return read_public(folder / "public" / f"{name}.pub")


def other_folder(folder: Path, at: Path, *names: str) -> Path:
    """A host's folder of its own: everyone's public keys, and the pairs of these names."""
    for path in (folder / "public").iterdir():
        write_public(at, path.stem, read_public(path))
    for name in names:
        pair = new_pair()
        write_pair(at, name, pair)
        write_public(folder, name, pair.public)
    return at


def test_both_directions_and_what_each_knows_of_the_other(
    server: Noted, client: Noted, folder: Path
) -> None:
    peer = talk(server, client)
    assert peer == routing_id(2)
    assert server.seen(peer) == Seen("worker", key_of(folder, "worker"), "127.0.0.1")
    theirs = Seen("controller", key_of(folder, "controller"), "127.0.0.1")
    assert client.seen(server.address) == theirs
    assert not server.counts + client.counts


def test_who_is_not_known_has_no_role_and_no_way_leads_there(server: Noted, client: Noted) -> None:
    """Without keys an unknown peer is nobody, who may send everything; here it must be a stranger,
    who may send nothing."""
    assert server.seen(routing_id(9)) == client.seen("tcp://127.0.0.1:1") == STRANGER
    assert forbidden(STRANGER.role, Envelope(9, Form.REQUEST, 1, 1, AskStatus()))
    assert not server.send(routing_id(9), [b"answer"])
    assert not client.send("tcp://127.0.0.1:1", QUESTION)


def test_several_frames_and_large_ones_arrive_whole(server: Noted, client: Noted) -> None:
    sent = [b"header", b"", bytes(range(256)) * 8000, b"x" * 3]
    assert client.send(server.address, sent)
    peer, frames = take(server, client)
    assert frames == sent
    assert server.send(peer, sent)
    assert take(client, server) == (server.address, sent)


def test_a_client_without_keys_hears_what_to_do(make: Make, server: Noted) -> None:
    plain = make("worker", 3, keys=None)
    plain.expect(server.address, Role.CONTROLLER)
    plain.send(server.address, QUESTION)
    advice = "it takes only connections with keys: give --keys DIR, see `dualshard keygen`"
    until(lambda: plain.trouble(server.address) == advice, server, plain)
    until(lambda: server.counts, server)
    assert set(server.counts) <= {"failed_handshakes", "unfinished_handshakes"}
    until(lambda: any(advice in line for line in plain.counts.lines), plain)


def test_a_server_without_keys_hears_nothing(make: Make) -> None:
    plain, client = make("controller", 1, "127.0.0.1:0", keys=None), make("worker", 2)
    client.expect(plain.address, Role.CONTROLLER)
    client.send(plain.address, QUESTION)
    advice = "it has no keys: start it with --keys DIR, or leave --keys out here"
    until(lambda: client.trouble(plain.address) == advice, plain, client)


def test_an_unknown_key_is_refused_and_both_sides_say_so(
    make: Make, server: Noted, folder: Path, tmp_path: Path
) -> None:
    mine = other_folder(folder, tmp_path / "mine", "worker-new")
    (folder / "public" / "worker-new.pub").unlink()
    client = make("worker", 2, keys=mine)
    client.expect(server.address, Role.CONTROLLER)
    client.send(server.address, QUESTION)
    until(lambda: server.counts and client.trouble(server.address), server, client)
    assert set(server.counts) == {"unknown_keys"}
    assert server.counts.lines[0].startswith("refused 127.0.0.1: its key ")
    assert client.trouble(server.address) == (
        f"it does not know our key: copy {mine / 'public'} to its host: there the file of "
        "worker-new is missing, or another"
    )
    write_public(folder, "worker-new", key_of(mine, "worker-new"))
    assert talk(server, client) == routing_id(2)  # without a restart, once the key is there
    assert client.trouble(server.address) == ""


def test_a_server_with_another_key_gets_no_word(
    make: Make, server: Noted, folder: Path, tmp_path: Path
) -> None:
    mine = other_folder(folder, tmp_path / "mine", "worker")
    write_public(mine, "controller", new_pair().public)
    client = make("worker", 2, keys=mine)
    client.expect(server.address, Role.CONTROLLER)
    client.send(server.address, QUESTION)
    until(lambda: server.counts and client.trouble(server.address), server, client)
    assert client.trouble(server.address) == (
        f"it breaks off; perhaps its key is no controller key of {mine / 'public'}: copy that from "
        "its host"
    )


def test_of_several_keys_of_the_role_the_right_one_is_found(
    make: Make, folder: Path, client: Noted, tmp_path: Path
) -> None:
    mine = other_folder(folder, tmp_path / "mine", "controller-z")
    server = make("controller", 1, "127.0.0.1:0", keys=mine)
    client.expect(server.address, Role.CONTROLLER)
    until(lambda: len(client._curve.ring.keys_of(role="controller")) == 2, client)
    talk(server, client)
    assert client.seen(server.address).key == key_of(mine, "controller-z")


def test_a_key_of_another_role_is_no_controller(make: Make, folder: Path, client: Noted) -> None:
    impostor = make("worker", 1, "127.0.0.1:0")
    client.expect(impostor.address, Role.CONTROLLER)
    client.send(impostor.address, QUESTION)
    until(lambda: client.trouble(impostor.address), impostor, client)
    until(lambda: impostor.counts["failed_handshakes"], impostor)


def test_a_name_is_of_whoever_bore_it_first(
    make: Make, server: Noted, client: Noted, folder: Path, tmp_path: Path
) -> None:
    thief = make("worker", 2, keys=other_folder(folder, tmp_path / "mine", "worker-thief"))
    thief.expect(server.address, Role.CONTROLLER)
    peer = talk(server, client)
    for _ in range(3):
        until(lambda: thief.send(server.address, QUESTION), thief)
    until(lambda: server.counts["foreign_names"] == 3, server, thief)
    assert server.counts.lines[-1] == "worker-thief speaks under the name of another"
    assert server.seen(peer).key == key_of(folder, "worker")
    assert server.send(peer, [b"answer"])
    assert take(client, server, thief) == (server.address, [b"answer"])


def test_the_view_says_whose_a_name_is_whoever_came_first(
    make: Make, server: Noted, client: Noted, folder: Path, tmp_path: Path
) -> None:
    thief = make("worker", 2, keys=other_folder(folder, tmp_path / "mine", "worker-thief"))
    thief.expect(server.address, Role.CONTROLLER)
    until(lambda: key_of(folder, "worker-thief") in server._curve.ring.holders, server)
    talk(server, thief)
    server.trust(routing_id(2), key_of(folder, "worker"))
    assert not server.send(routing_id(2), [b"for the thief"])
    talk(server, client)
    thief.send(server.address, QUESTION)
    until(lambda: server.counts["foreign_names"] == 1, server, thief)


def test_no_member_of_the_view_stands_in_for_the_controller(
    server: Noted, client: Noted, folder: Path
) -> None:
    talk(server, client)
    client.trust(server.address, key_of(folder, "worker"))
    talk(server, client)
    assert client.seen(server.address).role == "controller"


def test_what_is_no_message_is_counted(server: Noted, client: Noted) -> None:
    talk(server, client)
    link = client._dealers[server.address]
    link.send(client._name)
    link.send_multipart([b"\x02" + bytes(8), b"header"])
    link.send_multipart([b"short", b"header"])
    until(lambda: server.counts["malformed_frames"] == 3, server)
    talk(server, client)


def test_a_message_of_the_transports_own_goes_no_farther(server: Noted, client: Noted) -> None:
    talk(server, client)
    client.send(server.address, [b"\xc1 port?", b"random"])
    until(lambda: server.controls, server)
    ((peer, frames),) = server.controls
    assert (peer, [bytes(f) for f in frames]) == (routing_id(2), [b"\xc1 port?", b"random"])
    server.send(peer, [b"\xc1 7078"])
    until(lambda: client.controls, client)
    assert client.controls == [(server.address, [b"\xc1 7078"])]


def test_a_withdrawn_key_counts_no_more_on_a_connection_that_stands(
    server: Noted, client: Noted, folder: Path
) -> None:
    peer = talk(server, client)
    (folder / "public" / "worker.pub").unlink()
    until(lambda: not server.send(peer, [b"answer"]), server)
    client.send(server.address, QUESTION)
    until(lambda: server.counts["withdrawn_keys"] == 1, server)
    assert server.seen(peer) == STRANGER


def test_a_client_hangs_up_on_a_withdrawn_key(server: Noted, client: Noted, folder: Path) -> None:
    talk(server, client)
    (folder / "public" / "controller.pub").unlink()
    until(lambda: not client._dealers, client)
    assert not client.send(server.address, QUESTION)
    assert client.seen(server.address) == STRANGER


def test_files_with_a_mistake_leave_the_keys_of_before(
    server: Noted, client: Noted, folder: Path
) -> None:
    talk(server, client)
    (folder / "public" / "worker.pub").write_text("public = short\n")
    until(lambda: server.counts["unread_keys"], server)
    assert "the keys of before hold: --keys = " in server.counts.lines[0]
    talk(server, client)


@pytest.mark.parametrize("name", ["controller", "worker"])
def test_a_pair_is_changed_without_a_restart(
    name: str, server: Noted, client: Noted, folder: Path
) -> None:
    """Every question is answered, though what is on its way when connections end may be lost."""
    peer = talk(server, client)
    old = key_of(folder, name)
    rotate_pair(folder, name)
    asked = 0
    seen = (lambda: server.seen(peer)) if name == "worker" else lambda: client.seen(server.address)
    while seen().key == old:
        talk(server, client)
        asked += 1
        assert asked < 100_000
    assert seen().key == key_of(folder, name)
    for _ in range(3):
        assert talk(server, client) == peer
    assert not server.counts["foreign_names"] + server.counts["withdrawn_keys"]


def test_a_server_beside_keeps_its_shortcut_with_keys(server: Noted, client: Noted) -> None:
    assert client.shortcut(server.address)
    peer = talk(server, client)
    assert server.seen(peer).role == "worker"
    assert server.seen(peer).address == ""
    assert not server.counts


def test_half_open_connections_leave_the_port_usable(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualshard.common.transport.curve.HANDSHAKE_LIMIT", 0.5)
    monkeypatch.setattr("dualshard.common.transport.zeromq.HANDSHAKE_LIMIT", 5.0)
    server, client = make("controller", 1, "127.0.0.1:0"), make("worker", 2)
    client.expect(server.address, Role.CONTROLLER)
    host, port = server.address.removeprefix("tcp://").split(":")
    flood = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(HALF_OPEN)]
    try:
        talk(server, client)
        until(lambda: server.counts["unfinished_handshakes"] == HALF_OPEN, server, client)
    finally:
        for half in flood:
            half.close()
    talk(server, client)


@pytest.mark.parametrize("bad", [b"GET / HTTP/1.1\r\n\r\n" + bytes(64), None], ids=["web", "huge"])
def test_what_is_no_handshake_ends_its_connection(
    bad: bytes | None, server: Noted, client: Noted
) -> None:
    """Noise, and a frame of a terabyte where the handshake should be."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + bytes(32)
    huge = greeting + b"\x06" + (1 << 40).to_bytes(8, "big") + b"x" * 100
    host, port = server.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as raw:
        raw.sendall(huge if bad is None else bad)
        raw.settimeout(PATIENCE)
        talk(server, client)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
    until(lambda: server.counts, server)
    assert server.counts == {"failed_handshakes": 1}


class Relay:
    """Whoever sits between a client and a server, and keeps what the client says."""

    def __init__(self, server: Noted) -> None:
        host, port = server.address.removeprefix("tcp://").split(":")
        self.server = host, int(port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.ways: list[tuple[socket.socket, socket.socket, bytearray]] = []

    def pump(self) -> None:
        """Hand on what is there, either way."""
        with contextlib.suppress(BlockingIOError):
            near = self.listener.accept()[0]
            far = socket.create_connection(self.server, PATIENCE)
            for end in (near, far):
                end.setblocking(False)
            self.ways += [(near, far, bytearray()), (far, near, bytearray())]
        for source, target, kept in self.ways:
            try:
                said = source.recv(1 << 16)
                target.sendall(said)
            except BlockingIOError:
                continue
            except OSError:
                said = b""
            kept += said
            if not said:  # one end has hung up
                source.close()
                target.close()

    def close(self) -> None:
        self.listener.close()
        for near, _, _ in self.ways:
            near.close()


def test_what_was_recorded_is_secret_and_worth_nothing(make: Make, server: Noted) -> None:
    client = make("worker", 2)
    relay = Relay(server)
    client.expect(relay.address, Role.CONTROLLER)
    heard: list[bytes] = []

    def turn() -> None:
        relay.pump()
        heard.extend(bytes(frames[1]) for _, frames in server.receive(TURN))
        client.receive(0)

    def turns_until(done: Callable[[], object]) -> None:
        for _ in range(int(PATIENCE / TURN)):
            turn()
            if done():
                return
        raise AssertionError(f"not within {PATIENCE} s: {heard} {server.counts}")

    try:
        client.send(relay.address, [b"header", b"a secret" * 10])
        turns_until(lambda: heard)
        _, far, kept = relay.ways[0]
        assert b"secret" not in kept
        assert client._name not in kept
        with socket.create_connection(relay.server, PATIENCE) as again:  # all of it, anew
            again.sendall(kept)
            turns_until(lambda: server.counts["failed_handshakes"] == 1)
        last = kept.rindex(b"\x07MESSAGE") - 2  # and the last frame, on the connection that stands
        far.sendall(kept[last:])
        client.send(relay.address, [b"header", b"another"])
        turns_until(lambda: len(relay.ways) == 4)  # the client had to come back
        client.send(relay.address, [b"header", b"another"])
        turns_until(lambda: b"another" in heard)
        near = relay.ways[2][0]
        near.sendall(b"\x00\x20\x07MESSAGE" + bytes(24))  # a forged one, towards the client
        turns_until(lambda: len(relay.ways) == 6)
        client.send(relay.address, [b"header", b"the last"])
        turns_until(lambda: b"the last" in heard)
        assert heard.count(b"a secret" * 10) == 1
    finally:
        relay.close()


def test_who_met_something_else_at_an_address_tries_again(make: Make, server: Noted) -> None:
    """As where another program listened before the controller did; with keys and without."""
    plain_server = make("controller", 3, "127.0.0.1:0", keys=None)
    for there, client in ((server, make("worker", 2)), (plain_server, make("w", 4, keys=None))):
        relay = Relay(there)
        client.expect(relay.address, Role.CONTROLLER)
        try:
            client.send(relay.address, QUESTION)
            relay.listener.setblocking(True)
            other, _ = relay.listener.accept()
            other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64))
            relay.listener.setblocking(False)
            for _ in range(int(PATIENCE / TURN)):
                relay.pump()
                client.send(relay.address, QUESTION)
                client.receive(TURN)
                if there.receive(TURN):
                    break
            else:
                raise AssertionError(f"it did not come back: {client.counts}")
            other.close()
        finally:
            relay.close()


def test_a_pair_whose_halves_do_not_fit_is_refused(make: Make, folder: Path) -> None:
    write_pair(folder, "worker", Pair(new_pair().public, new_pair().secret))
    with pytest.raises(UserError, match="expected a public key that belongs to its secret; copy"):
        make("worker", 2)
