"""A role that is killed is started again where it was, and one that ends by itself is not."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

KEEP = """
import os, sys
from dualshard.deploy.launch.slurm_keep import keep
sys.exit(keep([sys.executable, "-c", *sys.argv[1:]], os.environ, 0.01, 2))
"""
ROLE = """
import os, sys
assert sys.argv[-1] == "--end-with-stdin"
lives = int(open("lives").read()) if os.path.exists("lives") else 0
open("lives", "w").write(str(lives + 1))
{end}
"""


@pytest.fixture
def keep(tmp_path):
    """Runs a role that ends as a line of Python says; status, lives, and what was said."""

    def run(end):
        told = subprocess.run(
            [sys.executable, "-c", KEEP, ROLE.format(end=end)],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return told.returncode, int((tmp_path / "lives").read_text()), told.stderr.splitlines()

    return run


KILLED = "os.kill(os.getpid(), 9)"


def test_a_role_that_is_killed_starts_again(keep):
    again = "dualshard: ended by SIGKILL: starts again in 0.01 s, 1 of 2 times"
    assert keep(f"lives or {KILLED}") == (0, 2, [again])


def test_restarts_come_to_an_end(keep):
    status, lives, said = keep(KILLED)
    assert (status, lives) == (128 + signal.SIGKILL, 3)
    assert said[-1] == "dualshard: ended by SIGKILL: not started again"


def test_a_role_that_ends_by_itself_is_not_started_again(keep):
    assert keep("sys.exit(1)") == (1, 1, [])


def test_it_ends_with_whoever_keeps_it(tmp_path):
    role = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read(); print('over')"
    kept = subprocess.Popen([sys.executable, "-c", KEEP, role], stdout=subprocess.PIPE, text=True)
    assert kept.stdout is not None
    with kept.stdout:
        assert kept.stdout.readline()
        kept.kill()
        kept.wait(10)
        assert kept.stdout.read() == "over\n"
