"""Checkpoints: controller and parameter server. Pure."""

from dataclasses import dataclass

from .envelope import Message


@dataclass(frozen=True, slots=True)
class Snapshot(Message):
    """Request, controller to parameter server: save all shards as they are now, in a file in
    `directory`, for checkpoint `number`. Answered by `Ack` at once; `Written` follows."""

    number: int
    directory: str


@dataclass(frozen=True, slots=True)
class Written(Message):
    """Request, parameter server to controller: its file of checkpoint `number` is on disk; `Ack`.

    `size` in bytes, `checksum` the SHA-256 in hexadecimal, `shards` rows of (shard, version,
    minibatches, steps of the rule). With a `problem` there is no file, and this says why.
    """

    number: int
    file: str
    size: int
    checksum: str
    shards: list[list[int]]
    problem: str
