"""The leak check of the root conftest finds what it is there for."""

import subprocess
import sys
import threading
from types import ModuleType

import zmq


def guard(request) -> ModuleType:  # type: ignore[no-untyped-def]
    """The root conftest as pytest has loaded it."""
    return next(
        plugin
        for plugin in request.config.pluginmanager.get_plugins()
        if hasattr(plugin, "nothing_left_behind")
    )


def test_a_thread_that_does_not_end_is_named(request, monkeypatch) -> None:
    conftest = guard(request)
    monkeypatch.setattr(conftest, "PATIENCE", 0.0)
    before, go_on = set(threading.enumerate()), threading.Event()
    thread = threading.Thread(target=go_on.wait, name="stray")
    thread.start()
    assert conftest.new_threads(before) == ["stray"]
    go_on.set()
    thread.join()
    assert conftest.new_threads(before) == []


def test_an_open_context_is_seen_until_it_is_closed(request) -> None:
    conftest = guard(request)
    before = conftest.open_sockets()
    context = zmq.Context()
    link = context.socket(zmq.DEALER)
    assert conftest.open_sockets() - before
    link.close(0)
    context.term()
    assert conftest.open_sockets() == before


def test_a_child_is_seen_until_it_is_waited_for(request) -> None:
    conftest = guard(request)
    before = conftest.child_processes()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (seen,) = conftest.child_processes() - before
    assert seen.startswith(f"{child.pid}: ")
    child.communicate(b"\n")
    assert conftest.child_processes() == before
