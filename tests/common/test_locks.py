"""A lock on a file: one holder at a time, and none once its process is gone."""

import subprocess
import sys
from pathlib import Path

from dualshard.common.locks import Lock

HOLDER = """
import sys
from pathlib import Path
from dualshard.common.locks import Lock
assert Lock.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    lock = Lock.take(tmp_path / "lock")
    assert lock is not None
    assert Lock.take(tmp_path / "lock") is None
    other = Lock.take(tmp_path / "other")
    assert other is not None
    other.release()
    lock.release()
    again = Lock.take(tmp_path / "lock")
    assert again is not None
    again.release()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert Lock.take(tmp_path / "lock") is None
    holder.kill()
    holder.communicate(timeout=10)
    lock = Lock.take(tmp_path / "lock")
    assert lock is not None
    lock.release()
