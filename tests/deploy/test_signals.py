"""Signals that are remembered, and those that end the process."""

import os
import signal
import subprocess
import sys

import pytest

from dualshard.deploy.signals import ENDING, Signals, signal_name


@pytest.fixture(autouse=True)
def handlers():
    """The handlers of the test run come back."""
    kept = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_signals_are_remembered_in_order():
    with Signals() as signals:
        assert (signals.first, signals.urgent) == (0, False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (signals.first, signals.urgent) == (signal.SIGTERM, False)
        os.kill(os.getpid(), signal.SIGINT)
        assert (signals.first, signals.urgent) == (signal.SIGTERM, True)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_whoever_started_us_ignores_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    with Signals() as signals:
        os.kill(os.getpid(), number)
        assert signals.first == 0
    assert signal.getsignal(number) == signal.SIG_IGN


def test_ctrl_c_is_heard_by_what_a_shell_has_started_in_the_background():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.first == signal.SIGINT


@pytest.mark.parametrize("number", ENDING)
def test_before_anything_is_started_a_signal_ends_the_process(number):
    code = (
        "import os, signal\n"
        "from dualshard.deploy.signals import end_at_once\n"
        f"signal.signal({int(number)}, signal.SIG_DFL)\n"
        "end_at_once()\n"
        f"os.kill(os.getpid(), {int(number)})\n"
        "print('still here')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, b"", b"")


def test_names():
    assert signal_name(9) == "SIGKILL"
    assert signal_name(99) == "signal 99"
