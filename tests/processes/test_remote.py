"""The roles of a launch as seen from the launcher, with commands of this machine in ssh's place."""

import sys

import pytest

from dualshard.common.clock import SystemClock
from dualshard.common.types import Role
from dualshard.deploy.launch.commands import Command
from dualshard.deploy.launch.hostfile import Host
from dualshard.deploy.launch.placement import Placed
from dualshard.deploy.launch.remote import LOGINS, Remotes
from dualshard.deploy.launch.tether import STARTED

pytestmark = pytest.mark.processes

LOGS_IN = f"""
import sys
print('{STARTED}77 on b')
print('one')
print('two', flush=True)
sys.exit(sys.stdin.read() != '')
"""
NEVER = "input()"


@pytest.fixture
def remotes(tmp_path):
    """Makes `Remotes` whose roles run a line of Python, what they said, and ends them."""
    made, said = [], []

    def make(code):
        fresh = Remotes(
            tmp_path,
            SystemClock(),
            lambda command: [sys.executable, "-c", code],
            lambda remote, line: said.append(f"{remote.name} {line}"),
        )
        made.append(fresh)
        return fresh, said

    yield make
    for one in made:
        one.end(0, lambda: True)
        one.close()
        assert one.running == []


def workers(count):
    return [Command(Placed(Role.WORKER, rank, Host("bob@b")), ()) for rank in range(count)]


def turn_until(remotes, condition):
    for _ in range(200):
        if condition():
            return
        remotes.turn(0.05)
    raise AssertionError([remote.log.read_text() for remote in remotes.all if remote.log.exists()])


def test_what_a_role_says_is_kept_and_shown_with_its_name_and_host(remotes, tmp_path):
    one, said = remotes(LOGS_IN)
    one.start(workers(1))
    turn_until(one, lambda: len(said) == 2)
    assert said == ["worker-0@b one", "worker-0@b two"]
    assert (tmp_path / "worker-0.log").read_text() == "one\ntwo\n"
    (remote,) = one.running
    assert (remote.ran, remote.pid, remote.nodename) == (True, 77, "b")
    one.end(0, lambda: False)
    assert [ended.status for ended in one.ended()] == [1], "it had beats"


def test_a_host_is_asked_for_a_few_logins_at_a_time(remotes):
    slow, _ = remotes(NEVER)
    slow.start(workers(LOGINS + 2))
    for _ in range(3):
        slow.turn(0.01)
    assert len(slow.all) == LOGINS
    quick, _ = remotes(LOGS_IN)
    quick.start(workers(LOGINS + 2))
    turn_until(quick, lambda: len(quick.all) == LOGINS + 2)
