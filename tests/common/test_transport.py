"""Real ZeroMQ on loopback: few and quick. And the addresses that users type."""

import gc
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dualshard.common.delivery import Peer, routing_id
from dualshard.common.errors import RemoteError, UserError
from dualshard.common.messages import Envelope, Form, Start
from dualshard.common.transport import ZmqTransport, parse_address, require_keys, unprotected
from dualshard.common.transport.lending import COPY_BELOW, READY_FROM
from dualshard.common.wire import Frames, decode, encode, take_over

Make = Callable[..., ZmqTransport]
PATIENCE = 10.0
"""Seconds for what takes milliseconds unless the machine is very busy."""


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes transports, and closes those that are still open."""
    made: list[ZmqTransport] = []

    def transport(incarnation: int, **options: str) -> ZmqTransport:
        made.append(ZmqTransport(incarnation, **options))
        return made[-1]

    yield transport
    for one in made:
        one.close(0.0)


def take(transport: ZmqTransport) -> tuple[Peer, Frames]:
    """The next message; only one is expected."""
    for _ in range(100):
        messages = transport.receive(PATIENCE / 100)
        if messages:
            (message,) = messages
            return message
    raise AssertionError("nothing came")


def plain(frames: Frames) -> list[bytes]:
    return [bytes(frame) for frame in frames]


def test_both_directions_and_what_the_peers_are_called(make: Make) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    assert (client.address, server.address[:16]) == ("", "tcp://127.0.0.1:")
    assert client.send(server.address, [b"question", b"", b"x" * 10])
    peer, frames = take(server)
    assert (peer, plain(frames)) == (routing_id(2), [b"question", b"", b"x" * 10])
    assert server.send(peer, [b"answer"])
    peer, frames = take(client)
    assert (peer, plain(frames)) == (server.address, [b"answer"])
    assert isinstance(frames[0], bytes)


def test_many_messages_keep_their_order(make: Make) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    sent = [b"%d" % number for number in range(500)]
    for frame in sent:
        assert client.send(server.address, [frame])
    came: list[bytes] = []
    while len(came) < len(sent):
        messages = server.receive(PATIENCE)
        assert messages
        came += [bytes(frames[0]) for _, frames in messages]
    assert came == sent


def test_large_arrays_arrive_whole_as_views(make: Make) -> None:
    """1 MiB and more goes by reference on the way out, and is viewed in place on the way in."""
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    random = np.random.default_rng(3)
    for size in (0, 1, COPY_BELOW // 4 - 1, COPY_BELOW // 4, 262_144, 1_000_003):
        gradient = random.standard_normal(size, np.float32)
        assert client.send(server.address, start(gradient))
        peer, frames = take(server)
        received = decode(frames).message
        assert isinstance(received, Start)
        assert np.array_equal(received.values, gradient)
        assert not received.values.flags.owndata
        assert server.send(peer, frames)
        _, back = take(client)
        echoed = decode(back).message
        assert isinstance(echoed, Start)
        assert np.array_equal(echoed.values, gradient)


def test_a_ring_from_another_thread_ends_the_wait(make: Make) -> None:
    transport = make(1)
    ringer = threading.Thread(target=transport.wake)
    ringer.start()
    messages = transport.receive(PATIENCE)
    ringer.join()
    assert messages == []
    transport.wake()
    transport.wake()
    assert transport.receive(PATIENCE) == []
    assert transport.receive(0.0) == []


def test_a_ring_after_closing_reaches_no_other_file(make: Make, tmp_path: Path) -> None:
    """A thread may finish its work when the role has ended, and its descriptor's number may
    belong to a file by then."""
    transport = make(1)
    transport.close(0.0)
    with open(tmp_path / "file", "wb") as file:
        transport.wake()
        file.flush()
        assert os.fstat(file.fileno()).st_size == 0


def test_nobody_there(make: Make) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    assert server.send(routing_id(99), [b"to nobody"]) is False
    assert client.send(routing_id(1), [b"it does not listen"]) is False
    assert client.send("tcp://127.0.0.1:9", [b"kept until somebody listens"]) is True


def test_a_peer_that_is_gone_is_not_connected_any_more(make: Make) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    client.send(server.address, [b"hello"])
    peer, _ = take(server)
    client.close(0.0)
    for _ in range(1000):
        if not server.send(peer, [b"still there?"]):
            break
        server.receive(PATIENCE / 1000)
    else:
        pytest.fail("the server never noticed")


def test_a_new_life_listens_at_the_same_address(make: Make) -> None:
    """Messages reach whoever listens there, and a forgotten connection is made anew."""
    first, client = make(1, bind="127.0.0.1:0"), make(2)
    address = first.address
    client.send(address, [b"one"])
    take(first)
    first.close(0.0)
    second = make(3, bind=address.removeprefix("tcp://"))
    client.forget(address)
    client.forget(address)
    client.send(address, [b"two"])
    assert plain(take(second)[1]) == [b"two"]


def test_the_newer_of_two_peers_of_one_name_is_the_one(make: Make) -> None:
    """A role that connects anew, before its old connection has died, is heard at once."""
    server, old, new = make(1, bind="127.0.0.1:0"), make(2), make(2)
    old.send(server.address, [b"old"])
    take(server)
    new.send(server.address, [b"new"])
    peer, frames = take(server)
    assert plain(frames) == [b"new"]
    assert server.send(peer, [b"answer"])
    assert plain(take(new)[1]) == [b"answer"]


def test_a_caller_that_does_not_speak_our_language_does_no_harm(make: Make) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    host, _, port = server.address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"\xff" * 100)
        client.send(server.address, [b"hello"])
        peer, frames = take(server)
    assert (peer, plain(frames)) == (routing_id(2), [b"hello"])


# Buffers that need no copy.


def start(gradient: np.ndarray) -> Frames:
    return encode(Envelope(2, Form.REQUEST, 1, 1, Start(1, 0, gradient)))


def values_of(frames: Frames) -> np.ndarray:
    message = decode(frames).message
    assert isinstance(message, Start)
    return message.values


def test_lent_memory_is_sent_as_it_is_now(make: Make) -> None:
    """Slices of one place and several lengths, several times, with other contents each time."""
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    block = np.zeros((2, READY_FROM), np.float32)
    client.lend(block[1])
    for turn in range(3):
        block[:] = turn
        for part in (block[0, : READY_FROM // 2], block[0], block[1, 4:], block[1, :10], block):
            assert client.send(server.address, start(part))
            assert np.array_equal(values_of(take(server)[1]), part)


def test_lent_memory_is_given_back_when_the_transport_closes(make: Make) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    block = np.zeros((2, READY_FROM), np.float32)
    alive = weakref.ref(block)
    client.lend(block)
    client.send(server.address, start(block[1]))
    take(server)
    del block
    assert alive() is not None
    client.close(0.0)
    gc.collect()
    for _ in range(1000):  # pyzmq gives buffers back on a thread of its own
        if alive() is None:
            break
        server.receive(PATIENCE / 1000)
    else:
        pytest.fail("the block is still held")


@pytest.mark.parametrize("size", [5, READY_FROM // 4, 262_144])
def test_the_answer_may_travel_in_the_memory_that_the_question_came_in(
    make: Make, size: int
) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    gradient = np.random.default_rng(3).standard_normal(size, np.float32)
    client.send(server.address, start(gradient))
    peer, frames = take(server)
    received = values_of(frames)
    ours = take_over(received)
    assert ours is not None
    assert np.shares_memory(ours, received)
    ours *= -2.0
    assert server.send(peer, start(ours))
    assert np.array_equal(values_of(take(client)[1]), -2.0 * gradient)


# The way past the network.


def sockets_of(address: str) -> int:
    """Open Unix sockets beside an address: one that listens, one for each connection."""
    name = f"@dualshard-{address.removeprefix('tcp://')}"
    return [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()].count(
        name
    )


def test_a_shortcut_leads_to_the_same_peer(make: Make) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    assert client.shortcut(server.address) is True
    assert client.shortcut(server.address) is True
    gradient = np.random.default_rng(3).standard_normal(1_000_003, np.float32)
    assert client.send(server.address, start(gradient))
    peer, frames = take(server)
    assert peer == routing_id(2)
    assert np.array_equal(values_of(frames), gradient)
    assert sockets_of(server.address) == 2
    assert server.send(peer, frames)
    peer, frames = take(client)
    assert peer == server.address
    assert np.array_equal(values_of(frames), gradient)


def test_a_shortcut_may_be_taken_later_and_is_forgotten_with_the_address(make: Make) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    client.send(server.address, [b"by tcp"])
    take(server)
    assert client.shortcut(server.address)
    client.send(server.address, [b"past it"])
    peer, frames = take(server)
    assert (peer, plain(frames)) == (routing_id(2), [b"past it"])
    assert server.send(peer, [b"answer"])
    assert take(client) == (server.address, [b"answer"])
    client.forget(server.address)
    client.send(server.address, [b"by tcp again"])
    assert plain(take(server)[1]) == [b"by tcp again"]


def test_a_shortcut_leaves_nothing_behind(make: Make) -> None:
    server = make(1, bind="127.0.0.1:0")
    address = server.address
    assert sockets_of(address) == 1
    server.close(0.0)
    assert sockets_of(address) == 0
    assert make(2).shortcut(address) is False


@pytest.mark.parametrize(
    "address",
    [
        "tcp://10.0.0.1:7077",
        "tcp://localhost:7077",
        "tcp://node7:1",
        "tcp://::1:1",
        "tcp://nowhere",
    ],
)
def test_only_loopback_addresses_have_a_shortcut(make: Make, address: str) -> None:
    assert make(1).shortcut(address) is False


def test_who_listens_everywhere_has_no_shortcut(make: Make) -> None:
    port = make(1, bind="0.0.0.0:0").address.rpartition(":")[2]
    assert sockets_of(f"tcp://0.0.0.0:{port}") == 0
    assert make(2).shortcut(f"tcp://127.0.0.1:{port}") is False


def test_a_name_that_is_taken_stops_no_server_and_misleads_no_client(make: Make) -> None:
    first = make(1, bind="127.0.0.1:0")
    address = first.address
    first.close(0.0)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"\0dualshard-{address.removeprefix('tcp://')}")
        server, client = make(2, bind=address.removeprefix("tcp://")), make(3)
        assert client.shortcut(address) is False
        client.send(address, [b"by tcp"])
        assert plain(take(server)[1]) == [b"by tcp"]


def test_a_shortcut_of_another_user_is_not_taken(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = make(1, bind="127.0.0.1:0"), make(2)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert client.shortcut(server.address) is False


# Strangers.


def random_message(random: np.random.Generator, valid: list[bytes]) -> list[bytes]:
    """Frames of noise, or a real message with one frame damaged."""
    if random.random() < 0.5:
        return [random.bytes(int(size)) for size in random.integers(0, 300, random.integers(1, 5))]
    frames, at = list(valid), int(random.integers(len(valid)))
    damaged = bytearray(frames[at])
    damaged[int(random.integers(len(damaged)))] ^= int(random.integers(1, 256))
    frames[at] = bytes(damaged[: random.integers(1, len(damaged) + 1)])
    return frames


def test_a_client_is_served_while_another_sends_nonsense(make: Make) -> None:
    server, client, stranger = make(1, bind="127.0.0.1:0"), make(2), make(3)
    random = np.random.default_rng(11)
    valid = plain(start(np.arange(9, dtype=np.float32)))
    refused = 0
    for turn in range(400):
        for _ in range(20):
            assert stranger.send(server.address, random_message(random, valid))
        asked = np.full(3 + turn % 5, turn, np.float32)
        client.send(server.address, start(asked))
        served = False
        while not served:
            came = server.receive(PATIENCE)
            assert came
            for peer, frames in came:
                try:
                    decode(frames)
                except RemoteError:
                    refused += 1
                served = served or peer == routing_id(2)
                if peer == routing_id(2):
                    server.send(peer, frames)
        assert np.array_equal(values_of(take(client)[1]), asked)
    assert refused > 1000


# Addresses.


def test_a_port_in_use_is_one_sentence_with_the_flag(make: Make) -> None:
    taken = make(1, bind="127.0.0.1:0").address.removeprefix("tcp://")
    with pytest.raises(UserError) as refused:
        ZmqTransport(2, bind=taken)
    assert str(refused.value) == (
        f"--bind = {taken}: expected an address of this machine that is free; Address already "
        "in use: choose another with --bind HOST:PORT (port 0 takes any free one)"
    )


@pytest.mark.parametrize("bind", ["127.0.0.1:99999", "127.0.0.1", "127.0.0.1:x", ":1"])
def test_what_is_no_address_to_bind_is_refused_and_leaves_nothing_open(bind: str) -> None:
    """ZeroMQ would bind 99999 as 34463."""
    with pytest.raises(UserError) as refused:
        ZmqTransport(2, bind=bind)
    assert str(refused.value) == (
        f"--bind = {bind}: expected HOST:PORT with a port from 0 to 65535; "
        "for example --bind 127.0.0.1:7077"
    )


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        ZmqTransport(2, bind="192.0.2.1:0")
    assert str(refused.value) == (
        "--bind = 192.0.2.1:0: expected an address of this machine that is free; Cannot assign "
        "requested address: choose another with --bind HOST:PORT (port 0 takes any free one)"
    )


@pytest.mark.parametrize(
    ("advertise", "host", "port"),
    [
        ("node7:0", "node7", ""),
        ("node7:", "node7", ""),
        ("node7", "node7", ""),
        ("node7:7078", "node7", "7078"),
    ],
)
def test_the_advertised_address_is_what_others_are_told(
    make: Make, advertise: str, host: str, port: str
) -> None:
    bound = make(1, bind="127.0.0.1:0", advertise=advertise)
    shown, _, number = bound.address.removeprefix("tcp://").rpartition(":")
    assert shown == host
    assert number == port or (not port and int(number) > 0)


def test_listening_everywhere_is_advertised_by_the_hosts_name(make: Make) -> None:
    bound = make(1, bind="0.0.0.0:0")
    assert bound.address.startswith(f"tcp://{socket.gethostname()}:")


@pytest.mark.parametrize("advertise", ["node7:x", ":7077", "node7:65536"])
def test_a_bad_advertised_address_is_refused(advertise: str) -> None:
    with pytest.raises(UserError) as refused:
        ZmqTransport(1, bind="127.0.0.1:0", advertise=advertise)
    assert str(refused.value) == (
        f"--advertise = {advertise}: expected HOST:PORT with a port from 1 to 65535; "
        "for example --advertise 127.0.0.1:7077"
    )


def test_an_address_that_is_none_is_refused_when_it_is_first_used(make: Make) -> None:
    with pytest.raises(UserError) as refused:
        make(1).send("tcp://nowhere", [b""])
    assert str(refused.value) == (
        "--controller = nowhere: expected HOST:PORT; "
        "Invalid argument: give the address that the role printed"
    )


@pytest.mark.parametrize("text", ["host:1", "10.0.0.1:7077", "h:65535", "tcp://host:1"])
def test_addresses(text: str) -> None:
    assert parse_address(text, "--controller") == "tcp://" + text.removeprefix("tcp://")


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":7077", "host:0", "host:65536", "host:-1", "host:1.5", "host:²"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_address(text, "--controller")
    shown = text or "''"
    assert str(refused.value) == (
        f"--controller = {shown}: expected HOST:PORT with a port from 1 to 65535; "
        "for example --controller 127.0.0.1:7077"
    )


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "localhost:7077", "127.8.9.10:1", "::1:1"])
def test_loopback_needs_no_leave(bind: str) -> None:
    require_keys(bind, keyed=False, insecure=False)


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:0", "*:0", "10.0.0.1:1", "host:1", "127.evil.example:1", "7077", ""]
)
def test_anything_else_needs_leave(bind: str) -> None:
    require_keys(bind, keyed=False, insecure=True)
    require_keys(bind, keyed=True, insecure=False)
    with pytest.raises(UserError) as refused:
        require_keys(bind, keyed=False, insecure=False)
    shown = bind or "''"
    assert str(refused.value) == (
        f"--bind = {shown}: expected a loopback address such as 127.0.0.1:0, or keys; beyond "
        "this machine everyone could join: make keys with `dualshard keygen DIR` and give "
        "--keys DIR, or, on a network that you trust, --insecure"
    )


def test_who_listens_beyond_this_machine_without_keys_is_warned() -> None:
    assert unprotected("10.0.0.5:7077", keyed=False) == (
        "listening at 10.0.0.5:7077 without keys (--insecure): whoever reaches this port can read, "
        "change and end the job"
    )
    assert unprotected("10.0.0.5:7077", keyed=True) == ""
    assert unprotected("localhost:7077", keyed=False) == ""
