"""Ctrl-C, SIGTERM and SIGKILL of the launcher: at every moment, nothing is left behind."""

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.processes

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
LIMIT = 10.0


@pytest.fixture
def bystander():
    """A process of somebody else's, beside the cluster."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield other
    assert other.poll() is None, "a process that is not ours was signalled"
    other.communicate(b"\n", timeout=10)
    assert other.returncode == 0


def interrupt(command, number, commands):
    """Send the signal; all processes are gone within the limit; the seconds that it took."""
    began = time.monotonic()
    command.children()
    command.popen.send_signal(number)
    assert command.wait(LIMIT) == STATUS[number]
    commands.until(lambda: not command.left(), LIMIT - (time.monotonic() - began))
    assert "Traceback" not in command.err
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_the_command_without_a_word(number, commands, tmp_path):
    train = commands.start("train", "--out", tmp_path / "new" / "run", python=("-X", "importtime"))
    commands.until(lambda: "click.types" in train.err, 30)
    train.popen.send_signal(number)
    assert train.wait(LIMIT) == STATUS[number]
    assert "Traceback" not in train.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_while_the_roles_start_leaves_no_process(number, commands, bystander, tmp_path):
    train = commands.start("train", "--out", tmp_path / "new" / "run")
    commands.until(lambda: len(train.children()) >= 6, 30)
    interrupt(train, number, commands)
    assert len(train.seen) == 6
    if number != signal.SIGKILL:
        assert train.err == (f"dualshard: stopped by {number.name} before the cluster stood\n")
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_in_mid_training_leaves_no_process(
    number, training, commands, bystander, tmp_path
):
    train = training()
    interrupt(train, number, commands)
    assert len(train.seen) == 6
    if number != signal.SIGKILL:
        run = tmp_path / "run"
        assert train.err == f"dualshard: stopped by {number.name}; run directory: {run}\n"
        assert f"stopped by {number.name}" in (run / "metrics.jsonl").read_text()


def test_a_role_that_hangs_does_not_hold_up_the_end(training, commands):
    train = training("--workers", 1)
    (worker,) = train.roles("worker")
    worker.send(signal.SIGSTOP)
    assert interrupt(train, signal.SIGINT, commands) < LIMIT


def test_a_second_signal_ends_everything_at_once(training, commands):
    train = training("--workers", 1)
    (worker,) = train.roles("worker")
    worker.send(signal.SIGSTOP)
    train.popen.send_signal(signal.SIGINT)
    commands.until(lambda: "stopping all roles" in train.out, 5)
    assert interrupt(train, signal.SIGINT, commands) < 3.0
