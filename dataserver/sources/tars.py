"""Tar files, whole in memory and plain or in gzip: what is in them, and whether they are whole."""

import io
import tarfile
import zlib

from .places import GZIP, Place
from .samples import Origin

AGAIN = "write or download that file again"
_BLOCK = 512


def tar_members(origin: Origin, name: str, data: bytes) -> list[tarfile.TarInfo]:
    """The files in a plain tar. Raises `UserError` where it is damaged or ends early."""
    end, members = 0, list[tarfile.TarInfo]()
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            while (member := archive.next()) is not None:
                end = member.offset_data + member.size
                members += [member] if member.isfile() else []
                if end > len(data):
                    break
    except tarfile.TarError as error:
        raise origin.error(
            f"a whole tar {name}, after byte {end:,} it is damaged ({error})", AGAIN
        ) from error
    if end > len(data):
        raise origin.error(
            f"a whole tar {name}, it ends early: {members[-1].name} should end at byte {end:,}, "
            f"the file has {len(data):,}",
            AGAIN,
        )
    # A tar ends with two blocks of zeros: without them it may have been cut between two members.
    padded = -(-end // _BLOCK) * _BLOCK
    if len(data) < padded + 2 * _BLOCK:
        raise origin.error(
            f"a whole tar {name}, it ends early, at byte {len(data):,} without two blocks of zeros",
            AGAIN,
        )
    return members


def read_tar(tar: Place) -> dict[str, memoryview]:
    """The files in a tar, plain or in gzip, by the last part of their names.

    Raises:
        UserError: it is not there, damaged or ends early; then with the bytes that it should have.
    """
    name, data = tar.name, tar.read()
    if data[:2] != GZIP:
        return _by_name(tar_members(tar.origin, name, data), data)
    packed, stream = len(data), zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        data = stream.decompress(data)
    except zlib.error as error:
        expected = f"{name} to be a whole gzip file, it is damaged ({error})"
        raise tar.origin.error(expected, AGAIN) from error
    members = tar_members(tar.origin, f"{name} (unpacked)", data)
    if not stream.eof:
        expected = f"{name} to be a whole gzip file, it ends early, after {packed:,} bytes"
        raise tar.origin.error(expected, AGAIN)
    return _by_name(members, data)


def _by_name(members: list[tarfile.TarInfo], data: bytes) -> dict[str, memoryview]:
    view = memoryview(data)
    return {
        member.name.rpartition("/")[2]: view[member.offset_data : member.offset_data + member.size]
        for member in members
    }
