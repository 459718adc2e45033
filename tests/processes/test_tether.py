"""`dualshard tether`: a role lives no longer than who started it."""

import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.processes

QUICK = """
import sys
from dualshard.deploy.launch import tether
tether.SILENCE = 0.5
tether.tether(sys.argv[1:])
"""
NOWHERE = ("--", "worker", "--controller", "127.0.0.1:1")
ENDED = (143, 137)
"""By SIGTERM, or a second later by SIGKILL where the machine is busy."""


@pytest.fixture
def tether(tmp_path):
    """Starts a tether that waits half a second for a beat; kills it at the end."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", QUICK, *arguments],
            cwd=tmp_path,
            text=True,
            **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def test_a_role_ends_when_beats_have_come_and_stay_away(tether):
    held = tether(*NOWHERE)
    assert held.stdout.readline().startswith("dualshard tether: ")
    time.sleep(1)  # longer than a silence: nobody has begun to beat
    assert held.poll() is None
    held.stdin.write(".")
    held.stdin.flush()
    began = time.monotonic()
    assert held.wait(10) in ENDED
    assert time.monotonic() - began < 5


def test_a_role_ends_with_its_input_and_hands_on_its_status(tether):
    held = tether(*NOWHERE)
    _, errors = held.communicate(timeout=10)
    assert held.returncode in ENDED
    assert "Traceback" not in errors
    wrong = tether("--near", "/no/such/folder", "--", "worker", "--controller", "nobody")
    wrong.stdout.readline()
    assert wrong.wait(10) == 2
    assert "HOST:PORT" in wrong.stderr.read()


def test_nothing_to_run_is_refused_in_a_line(tether):
    _, errors = tether("worker").communicate(timeout=10)
    assert errors.count("\n") == 1
    assert "expected -- ROLE ARGUMENTS" in errors
