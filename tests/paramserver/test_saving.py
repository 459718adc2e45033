"""A server's part in a checkpoint, one event at a time."""

import errno
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dualshard.common.delivery import Courier, Send
from dualshard.common.job import Job
from dualshard.common.messages import Ack, Envelope, Form, Message, Refused, Snapshot, Written
from dualshard.common.node import Action, Note
from dualshard.paramserver.checkpoint import ServerFile
from dualshard.paramserver.disk import Disk, DiskAction
from dualshard.paramserver.saving import CloseFile, FileClosed, NextShard, OpenFile, WriteShard
from dualshard.paramserver.state import ParameterServer

CONTROLLER = "tcp://there:1"


class Desk:
    """A server that holds three shards of momentum, and its controller as far as words go."""

    def __init__(self) -> None:
        facts = {"host": "here", "pid": 1, "versions": {}, "address": "tcp://here:2"}
        self.server = ParameterServer(Courier(7), controller=CONTROLLER, **facts)
        self.server.rank = 2
        self.server.configure(Job.from_dict({"optimizer": {"rule": "momentum"}}))
        assert self.server.store is not None
        self.store = self.server.store
        for shard in (1, 4, 6):
            self.store.start(shard, np.full(3, shard, np.float32), ())
        self.actions: list[Action] = []
        self._sequence = 0

    def change(self, shard: int) -> None:
        """As a push would."""
        self.store.before_change(shard)
        held = self.store.shards[shard]
        held.values += 100
        held.state.slots["velocity"] -= 1
        held.state.steps += 1
        held.version += 1
        held.minibatches += 2

    def ask(self, number: int, directory: Path) -> Message:
        self._sequence += 1
        snapshot = Snapshot(number, str(directory))
        envelope = Envelope(1, Form.REQUEST, self._sequence, self._sequence, snapshot)
        self.actions = self.server.receive(CONTROLLER, envelope, 0.0)
        return self.sent()[0]

    def happen(self, event: object) -> None:
        self.actions = self.server.local(event, 0.0)

    def sent(self) -> list[Message]:
        return [a.envelope.message for a in self.actions if isinstance(a, Send)]

    def work(self) -> DiskAction:
        """The one thing that the disk is to do now."""
        (action,) = (a for a in self.actions if isinstance(a, DiskAction))
        return action


def test_the_file_holds_the_moment_of_the_snapshot(tmp_path: Path) -> None:
    desk, disk = Desk(), Disk()
    desk.change(4)
    assert desk.ask(5, tmp_path / "000005") == Ack()
    opening = desk.work()
    assert opening == OpenFile(str(tmp_path / "000005"), 2, ((1, 3), (4, 3), (6, 3)), ("velocity",))
    desk.happen(disk.perform(opening))
    for shard in (1, 4, 6):
        desk.change(shard)
        action = desk.work()
        assert isinstance(action, WriteShard)
        assert action.copy.shard == shard
        desk.happen(disk.perform(action))
    assert desk.work() == CloseFile()
    desk.happen(disk.perform(CloseFile()))
    (written,) = desk.sent()
    assert isinstance(written, Written)
    assert (written.number, written.file, written.problem) == (5, "server-2.safetensors", "")
    assert written.shards == [[1, 0, 0, 0], [4, 1, 2, 1], [6, 0, 0, 0]]
    tensors = load_file(tmp_path / "000005" / "server-2.safetensors")
    for shard, value, velocity in ((1, 1, 0), (4, 104, -1), (6, 6, 0)):
        np.testing.assert_array_equal(tensors[f"shard.{shard}.values"], np.full(3, value))
        np.testing.assert_array_equal(tensors[f"shard.{shard}.velocity"], np.full(3, velocity))


def test_a_shard_that_does_not_change_is_copied_when_it_is_written(tmp_path: Path) -> None:
    desk = Desk()
    desk.ask(1, tmp_path / "000001")
    assert desk.server.copies.waiting == 0
    desk.change(6)
    desk.change(6)
    assert desk.server.copies.waiting == 1
    for _ in range(3):
        desk.happen(NextShard())
    action = desk.work()
    assert isinstance(action, WriteShard)
    np.testing.assert_array_equal(action.copy.values, [6, 6, 6])
    assert desk.server.copies.done


def test_one_at_a_time(tmp_path: Path) -> None:
    desk = Desk()
    desk.ask(1, tmp_path / "000001")
    refused = desk.ask(2, tmp_path / "000002")
    assert refused == Refused("busy", "checkpoint 1 is being written")


def test_a_failed_file_is_told_and_the_next_one_begins_afresh(tmp_path: Path) -> None:
    desk, disk = Desk(), Disk()
    desk.ask(1, tmp_path / "not shared" / "000001")
    desk.change(1)
    desk.happen(disk.perform(desk.work()))
    (written,) = desk.sent()
    assert isinstance(written, Written)
    assert (written.number, written.problem) == (
        1,
        "parameter servers and controller must share the folder of the run, and there is no "
        f"{tmp_path / 'not shared'} here",
    )
    assert any(isinstance(action, Note) for action in desk.actions)
    assert desk.server.copies.waiting == 0
    assert desk.ask(2, tmp_path / "000002") == Ack()


def test_a_disk_that_fills_up_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, disk = Desk(), Disk()
    desk.ask(1, tmp_path / "000001")
    desk.happen(disk.perform(desk.work()))

    def full(file: ServerFile, copy: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ServerFile, "add", full)
    event = disk.perform(desk.work())
    assert event == FileClosed(problem="No space left on device")
    assert list((tmp_path / "000001").iterdir()) == []
