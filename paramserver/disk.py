"""What a parameter server does with its disk: performs the actions of `saving`, one at a time."""

from pathlib import Path

from ..common.errors import describe
from .checkpoint import ServerFile, open_checkpoint
from .recutting import read_cut
from .saving import (
    CloseFile,
    FileClosed,
    NextShard,
    OpenFile,
    Restore,
    Restored,
    WriteShard,
)

DiskAction = OpenFile | WriteShard | CloseFile | Restore


NOT_SHARED = "parameter servers and controller must share the folder of the run"
"""Where checkpoints are wanted: see docs/checkpoints.md."""


class Disk:
    """The file that is being written. Any one thread may call `perform`, in order."""

    def __init__(self) -> None:
        self._file: ServerFile | None = None

    def perform(self, action: DiskAction) -> NextShard | FileClosed | Restored:
        """Do it, and return the event that tells of it.

        A file that cannot be written ends nothing: the event says why.

        Raises:
            UserError: a checkpoint that cannot be read.
        """
        if isinstance(action, Restore):
            checkpoint = open_checkpoint(Path(action.directory), "job.resume")
            return Restored(read_cut(checkpoint, action.cut, action.shards, "job.resume"))
        try:
            return self._write(action)
        except OSError as refused:
            return self._failed(refused.strerror or describe(refused))

    def _write(self, action: OpenFile | WriteShard | CloseFile) -> NextShard | FileClosed:
        if isinstance(action, OpenFile):
            directory = Path(action.directory)
            if not directory.parent.is_dir():
                return self._failed(f"{NOT_SHARED}, and there is no {directory.parent} here")
            self._file = ServerFile(directory, action.rank, action.plan, action.slots)
            return NextShard()
        assert self._file is not None
        if isinstance(action, WriteShard):
            self._file.add(action.copy)
            return NextShard()
        size, checksum = self._file.close()
        self._file = None
        return FileClosed(size, checksum)

    def _failed(self, problem: str) -> FileClosed:
        if self._file is not None:
            self._file.abandon()
            self._file = None
        return FileClosed(problem=problem)
