"""A file of a web server from some byte on, as it comes. Of a server nothing is believed but bytes.

Only http and https are spoken, also to a proxy of the environment, wherever a server redirects to;
silence ends a transfer. What is wrong is told in a few words, as `Broken`.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib import request
from urllib.error import HTTPError

CONNECT = 5.0
"""Seconds that each of two addresses of a server has for a connection."""
SILENCE = 10.0
"""Seconds without a byte after which a server is given up."""
_CHUNK = 1 << 16


class Broken(Exception):
    """A server failed, in a few words."""


@contextmanager
def open_at(url: str, have: int) -> Iterator[HTTPResponse]:
    """The answer of a server that is asked for a file from byte `have` on.

    Status 206 is an answer from there on; with 200 it is the whole file. Raises `Broken`.
    """
    headers = {"User-Agent": "dualshard"} | ({"Range": f"bytes={have}-"} if have else {})
    asked = request.Request(url, headers=headers)  # noqa: S310 - the opener speaks http alone
    with _network():
        answer = _opener().open(asked, timeout=SILENCE)
    assert isinstance(answer, HTTPResponse), "nothing else is spoken"
    with answer:
        yield answer


def _connect(
    address: tuple[str, int], timeout: float | None = None, source: tuple[str, int] | None = None
) -> socket.socket:
    """As `socket.create_connection`, which would try all of a server's addresses, a dozen for a
    large one, one after the other: here the first of each family."""
    first: dict[socket.AddressFamily, Any] = {}
    for family, *_, where in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        first.setdefault(family, where)
    failed: OSError | None = None
    for kind, where in first.items():
        connection = socket.socket(kind, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT)
            connection.connect(where)
        except OSError as error:
            connection.close()
            failed = error
        else:
            connection.settimeout(SILENCE)
            return connection
    raise failed or OSError(f"{address[0]} has no address")


class _Http(HTTPConnection):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = _connect  # where the standard library lets it be replaced


class _Https(HTTPSConnection):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = _connect


class _HttpHandler(request.HTTPHandler):
    def http_open(self, asked: request.Request) -> HTTPResponse:
        return self.do_open(_Http, asked)


class _HttpsHandler(request.HTTPSHandler):
    def https_open(self, asked: request.Request) -> HTTPResponse:
        return self.do_open(_Https, asked)


def _opener() -> request.OpenerDirector:
    """Speaks http and https, also to a proxy of the environment, and nothing else, wherever a
    server redirects to; urllib's own opens files, too."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.UnknownHandler(),
        _HttpHandler(),
        _HttpsHandler(),
        request.HTTPRedirectHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def chunks(answer: HTTPResponse) -> Iterator[bytes]:
    """What a server sends, as it comes. Raises `Broken`."""
    while True:
        with _network():
            chunk = answer.read1(_CHUNK)
        if not chunk:
            return
        yield chunk


@contextmanager
def _network() -> Iterator[None]:
    """Tells what fails here from what the disk refuses."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise Broken(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)
        words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise Broken(" ".join(words.split())) from None
