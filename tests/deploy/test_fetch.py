"""`dualshard data fetch` against a web server on this machine that fails in every way there is."""

import hashlib
import io
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from dualshard.common.locks import Lock
from dualshard.deploy import screen, web
from dualshard.deploy.commands import dualshard
from dualshard.deploy.published import DATA_SETS, DataSet, File

BYTES = {
    "images.gz": np.random.default_rng(1).bytes(200_000),
    "labels.gz": np.random.default_rng(2).bytes(3_000),
}
FILES = tuple(File(name, len(b), hashlib.sha256(b).hexdigest()) for name, b in BYTES.items())
IMAGES, LABELS = FILES
HALF = IMAGES.size // 2


class Mirrors(BaseHTTPRequestHandler):
    """The first part of a path says how the server behaves."""

    server: "Server"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        kind, _, name = self.path[1:].rpartition("/")
        asked = self.headers.get("Range", "")
        self.server.seen.append((kind, name, asked))
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        getattr(self, kind)(BYTES[name], begin)

    def answer(self, data, begin, total=None, sent=None, shown=None):
        total = len(data) if total is None else total
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {shown or begin}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - begin))
        self.end_headers()
        self.wfile.write(data[begin:sent])

    def good(self, data, begin):
        self.answer(data, begin)

    def plain(self, data, begin):
        self.answer(data, 0)

    def half(self, data, begin):
        self.answer(data, begin, sent=begin + (len(data) - begin) // 2)

    def plain_half(self, data, begin):
        self.answer(data, 0, sent=len(data) // 2)

    def wrong(self, data, begin):
        self.answer(bytes(len(data)), begin)

    def longer(self, data, begin):
        self.answer(data, begin, total=len(data) + 5)

    def shifted(self, data, begin):
        self.answer(data, begin, shown=begin + 1)

    def absent(self, data, begin):
        self.send_error(404)

    def elsewhere(self, data, begin):
        self.send_response(302)
        self.send_header("Location", "file:///etc/hostname")
        self.end_headers()

    def moved(self, data, begin):
        self.send_response(301)
        self.send_header("Location", self.path.replace("moved", "good"))
        self.end_headers()

    def endless(self, data, begin):
        """Neither says how long it is nor ends by itself."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data + b"more")
        self.server.released.wait(20)

    def silent(self, data, begin):
        self.server.released.wait(20)

    def stuck(self, data, begin):
        self.answer(data, begin, sent=HALF)
        self.server.released.wait(20)


class Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Mirrors)
        self.seen: list[tuple[str, str, str]] = []
        self.released = threading.Event()
        self.host = f"127.0.0.1:{self.server_port}"


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join(10)


@pytest.fixture
def fetch(server, tmp_path, monkeypatch):
    """Calls the command with mirrors of these kinds in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*kinds, files=FILES, arguments=()):
        mirrors = tuple(kind if ":" in kind else f"http://{server.host}/{kind}/" for kind in kinds)
        monkeypatch.setitem(DATA_SETS, "mnist", DataSet("idx", mirrors, files))
        return CliRunner().invoke(dualshard, ["data", "fetch", "mnist", *arguments])

    return call


def whole(folder, files=FILES):
    """Whether a folder holds the files and nothing else."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found == {file.name: BYTES[file.name] for file in files}


def refusal(result):
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    return line


def put_part(folder, data, name=IMAGES.name):
    (folder / "data/mnist").mkdir(parents=True)
    (folder / f"data/mnist/{name}.part").write_bytes(data)


def test_downloads_once_and_says_how_to_train(fetch, tmp_path, server):
    for _ in range(2):
        result = fetch("good")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == (
            "mnist is whole in data/mnist; train on it with --set data.source=idx:data/mnist\n"
        )
        assert whole(tmp_path / "data/mnist")
        assert server.seen == [("good", IMAGES.name, ""), ("good", LABELS.name, "")]


def test_another_folder_as_a_shell_takes_it(fetch, tmp_path):
    result = fetch("moved", arguments=["--to", "my data"])
    assert result.stdout.endswith(" with --set 'data.source=idx:my data'\n")
    assert whole(tmp_path / "my data")


def test_only_what_is_missing_is_downloaded(fetch, tmp_path, server):
    (tmp_path / "data/mnist").mkdir(parents=True)
    (tmp_path / "data/mnist" / IMAGES.name).write_bytes(BYTES[IMAGES.name])
    assert fetch("good").exit_code == 0
    assert server.seen == [("good", LABELS.name, "")]


def test_another_file_of_that_name_is_left_alone(fetch, tmp_path, server):
    (tmp_path / "data/mnist").mkdir(parents=True)
    (tmp_path / "data/mnist" / LABELS.name).write_bytes(b"mine")
    assert refusal(fetch("good")) == (
        f"dualshard: --to = data/mnist: expected labels.gz (3,000 bytes) with the SHA-256 "
        f"{LABELS.sha256}, it has 4 bytes and the SHA-256 {hashlib.sha256(b'mine').hexdigest()}; "
        f"remove data/mnist/labels.gz, or name another folder"
    )
    assert (tmp_path / "data/mnist" / LABELS.name).read_bytes() == b"mine"
    assert server.seen == []


@pytest.mark.parametrize("kind", ["good", "plain"])
def test_goes_on_where_an_earlier_call_ended(fetch, tmp_path, server, kind):
    """A server without ranges sends everything, and what was there is replaced."""
    put_part(tmp_path, BYTES[IMAGES.name][:HALF])
    assert fetch(kind, files=(IMAGES,)).exit_code == 0
    assert server.seen == [(kind, IMAGES.name, f"bytes={HALF}-")]
    assert whole(tmp_path / "data/mnist", (IMAGES,))


@pytest.mark.parametrize("size", [0, 1, -1])
def test_a_whole_part_takes_its_name_without_the_network(fetch, tmp_path, server, size):
    """One that is too long by `size`, or too short, does not."""
    data = BYTES[LABELS.name]
    put_part(tmp_path, data + b"x" if size > 0 else data[: len(data) + size], LABELS.name)
    assert fetch("good", files=(LABELS,)).exit_code == 0
    asked = {0: [], 1: [("good", LABELS.name, "")], -1: [("good", LABELS.name, "bytes=2999-")]}
    assert server.seen == asked[size]
    assert whole(tmp_path / "data/mnist", (LABELS,))


def test_a_part_of_something_else_is_begun_anew(fetch, tmp_path, server):
    put_part(tmp_path, bytes(HALF))
    result = fetch("good", files=(IMAGES,))
    assert result.exit_code == 0
    assert [asked for *_, asked in server.seen] == [f"bytes={HALF}-", ""]
    assert whole(tmp_path / "data/mnist", (IMAGES,))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("absent", "HTTP 404 Not Found"),
        ("longer", "it offers 200,005 bytes, expected 200,000"),
        ("elsewhere", "HTTP 302 Found - Redirection to url 'file:///etc/hostname' is not allowed"),
        ("silent", "timed out"),
        ("shifted", "it sent bytes from 100001 on, not from 100,000"),
    ],
)
def test_the_next_mirror_is_asked(fetch, tmp_path, server, monkeypatch, kind, reason):
    monkeypatch.setattr(web, "SILENCE", 0.2)
    put_part(tmp_path, BYTES[IMAGES.name][:HALF])
    result = fetch(kind, "good", files=(IMAGES,))
    assert result.exit_code == 0
    assert result.stderr == f"dualshard: images.gz is there, after {server.host}: {reason}\n"
    assert [seen[0] for seen in server.seen] == [kind, "good"]
    assert server.seen[1] == ("good", IMAGES.name, f"bytes={HALF}-")
    assert whole(tmp_path / "data/mnist", (IMAGES,))


@pytest.mark.parametrize("kind", ["half", "stuck"])
def test_a_mirror_that_breaks_off_is_followed_where_it_ended(
    fetch, tmp_path, server, monkeypatch, kind
):
    monkeypatch.setattr(web, "SILENCE", 0.2)
    assert fetch(kind, "good", files=(IMAGES,)).exit_code == 0
    assert server.seen == [(kind, IMAGES.name, ""), ("good", IMAGES.name, f"bytes={HALF}-")]
    assert whole(tmp_path / "data/mnist", (IMAGES,))


def test_a_lone_mirror_is_asked_as_long_as_it_brings_bytes(fetch, tmp_path, server):
    assert fetch("half", files=(LABELS,)).exit_code == 2
    begins = [int(asked[6:-1] or 0) for *_, asked in server.seen]
    assert begins[:3] == [0, 1500, 2250]
    assert begins[-3:] == [2997, 2998, 2999]
    assert (tmp_path / "data/mnist/labels.gz.part").read_bytes() == BYTES[LABELS.name][:2999]


def test_a_mirror_that_always_begins_anew_is_given_up(fetch, server):
    line = refusal(fetch("plain_half", files=(IMAGES,)))
    assert f"images.gz, {server.host}: it ended after 100,000 of 200,000 bytes; " in line
    assert [asked for *_, asked in server.seen] == ["", f"bytes={HALF}-"]


def test_a_wrong_checksum_is_told_and_deleted(fetch, tmp_path, server):
    actual = hashlib.sha256(bytes(IMAGES.size)).hexdigest()
    told = f"{server.host}: SHA-256 {actual}, expected {IMAGES.sha256}, deleted"
    line = refusal(fetch("wrong", files=(IMAGES,)))
    assert line.startswith(
        f"dualshard: data fetch = mnist: expected a mirror that has images.gz, {told}; "
    )
    assert list((tmp_path / "data/mnist").iterdir()) == []
    result = fetch("wrong", "good", files=(IMAGES,))
    assert (result.exit_code, result.stderr) == (
        0,
        f"dualshard: images.gz is there, after {told}\n",
    )
    assert whole(tmp_path / "data/mnist", (IMAGES,))


def test_a_mirror_that_resumes_wrongly_twice_is_given_up(fetch, tmp_path, server):
    """Two that spoil each other's beginnings do not go on for ever."""
    put_part(tmp_path, BYTES[IMAGES.name][:HALF])
    assert fetch("wrong", "half", files=(IMAGES,)).exit_code == 2
    assert 3 <= len(server.seen) < 30


def test_no_more_is_taken_than_the_file_has(fetch, tmp_path, server):
    assert fetch("endless", files=(IMAGES,)).exit_code == 0
    assert whole(tmp_path / "data/mnist", (IMAGES,))


def test_without_network_one_line_says_what_to_put_where(fetch, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        line = refusal(fetch(f"http://{host}/one/", f"http://{host}/two/"))
    assert line == (
        f"dualshard: data fetch = mnist: expected a mirror that has images.gz, {host}: Connection "
        f"refused, {host}: Connection refused; download images.gz (200,000 bytes), labels.gz "
        f"(3,000 bytes) from http://{host}/one/ elsewhere and put them into data/mnist, the same "
        "command then checks what is there"
    )
    for name, data in BYTES.items():
        (tmp_path / "data/mnist" / name).write_bytes(data)
    assert fetch(f"http://{host}/one/").exit_code == 0


@pytest.fixture
def deaf(monkeypatch):
    """The address of a server that lets nobody connect, as behind a firewall."""
    monkeypatch.setattr(web, "CONNECT", 0.1)
    with socket.socket() as full, socket.socket() as only:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        only.connect(full.getsockname())
        yield full.getsockname()


def test_a_server_that_cannot_be_connected_to_is_given_up_soon(fetch, tmp_path, deaf, monkeypatch):
    told = f"dualshard: images.gz is there, after 127.0.0.1:{deaf[1]}: timed out\n"
    mirror = f"http://127.0.0.1:{deaf[1]}/"
    result = fetch(mirror, "good", files=(IMAGES,))
    assert (result.exit_code, result.stderr) == (0, told)
    assert whole(tmp_path / "data/mnist", (IMAGES,))


def test_the_first_address_of_each_family_is_tried(deaf, server, monkeypatch):
    """A server may have a dozen, and none of them may answer."""
    inet = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    other = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 9))
    found = [other, *[(*inet, deaf)] * 3, (*inet, server.server_address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(TimeoutError):
        web._connect(("many.example", 80))
    found = found[::-1]
    with web._connect(("many.example", 80)) as connection:
        assert connection.getpeername() == server.server_address
        assert connection.gettimeout() == web.SILENCE


def test_ctrl_c_keeps_what_has_come(fetch, tmp_path, server, monkeypatch):
    def interrupted(bars, file):
        return lambda have: signal.raise_signal(signal.SIGINT) if have == HALF else None

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr("dualshard.deploy.fetch._bar", interrupted)
        result = fetch("stuck")
    assert (result.exit_code, result.stdout, result.stderr) == (
        128 + signal.SIGINT,
        "",
        "dualshard: stopped; data/mnist keeps images.gz.part (100,000 bytes); the same command "
        "goes on\n",
    )
    assert signal.getsignal(signal.SIGINT) is handler
    assert fetch("good").exit_code == 0
    assert server.seen[1] == ("good", IMAGES.name, f"bytes={HALF}-")
    assert whole(tmp_path / "data/mnist")


def test_a_folder_that_cannot_be_made(fetch, tmp_path, server):
    (tmp_path / "file").write_text("")
    assert refusal(fetch("good", arguments=["--to", "file/in"])) == (
        "dualshard: --to = file/in: expected a folder that can be written; Not a directory: "
        "choose another with --to DIR"
    )
    assert server.seen == []


def test_a_folder_elsewhere_is_none(fetch, tmp_path, server):
    assert refusal(fetch("good", arguments=["--to", "s3://bucket/mnist"])) == (
        "dualshard: --to = s3://bucket/mnist: expected a folder of this machine; give a path"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(fetch, tmp_path):
    (tmp_path / "data/mnist").mkdir(parents=True)
    (tmp_path / "data/mnist/images.gz.part").symlink_to("/dev/full")
    assert refusal(fetch("good")) == (
        "dualshard: --to = data/mnist: expected a folder that can be written; No space left on "
        "device: choose another with --to DIR"
    )


def test_two_do_not_write_one_file(fetch, tmp_path, server):
    put_part(tmp_path, b"")
    lock = Lock.take(tmp_path / "data/mnist/images.gz.part")
    assert refusal(fetch("good")) == (
        "dualshard: --to = data/mnist: expected a folder into which nobody downloads, another "
        "process writes images.gz.part; wait for it, or name another folder"
    )
    lock.release()
    assert fetch("good").exit_code == 0


def test_bars_on_a_terminal(fetch, monkeypatch):
    shown = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})
    monkeypatch.setattr(screen, "console", lambda: shown)
    assert fetch("good").exit_code == 0
    output = shown.file.getvalue()
    assert "images.gz" in output
    assert "200.0/200.0 kB" in output
    assert "3.0/3.0 kB" in output


def test_an_unknown_name(fetch):
    assert "is not one of 'mnist', 'fashion-mnist'" in refusal(
        CliRunner().invoke(dualshard, ["data", "fetch", "imagenet"])
    )


def test_help_that_fits_80_columns_and_names_the_data_sets(fetch):
    lines = CliRunner().invoke(dualshard, ["data", "fetch", "--help"]).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(name in lines[2] for name in DATA_SETS)
