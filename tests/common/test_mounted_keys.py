"""Secret keys that another user owns: files that are mounted, such as a Secret in a pod."""

import os
from pathlib import Path

import pytest

from dualshard.common.errors import UserError
from dualshard.common.keys import Pair, read_pair, write_pair

PAIR = Pair("p" * 40, "s" * 40)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    write_pair(tmp_path, "worker", PAIR)
    return tmp_path / "worker.key"


def test_our_own_file_must_not_be_readable_by_our_group(key: Path) -> None:
    key.chmod(0o440)
    with pytest.raises(UserError, match="not mode 440; chmod 600"):
        read_pair(key)


def test_a_file_of_another_owner_may(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    us = key.stat().st_uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: us)
    key.chmod(0o440)
    assert read_pair(key) == PAIR
    key.chmod(0o444)
    with pytest.raises(UserError, match="not mode 444"):
        read_pair(key)
