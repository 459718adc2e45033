"""Shards of samples in tar files, as WebDataset has them: `KEY.jpg` (png, ...) beside `KEY.cls`,
which holds the class as digits.

A place is a pattern of tars (`shard-{000..009}.tar`, `shard-*.tar`), or a folder: of its tars
those whose names begin with test or val are the test part, where others begin with train. A tar
is read through once when it is opened, for its labels and where each image lies.
"""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...common.data_sections import DataSection
from .decoding import SUFFIXES
from .encoded import EncodedSamples, open_encoded
from .places import Place
from .samples import Origin, Part
from .tars import AGAIN, tar_members


@dataclass(slots=True)
class TarFiles:
    """Images inside tars: for each its tar, its name there, and its bytes [begin, begin + size)."""

    tars: list[Place] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def fetch(self, row: int) -> bytes:
        """As `Files.fetch`."""
        return self.tars[row].read(self.begins[row], self.sizes[row])

    def name(self, row: int) -> str:
        """As `Files.name`."""
        return f"{self.members[row]} of {self.tars[row].name} (at byte {self.begins[row]:,})"


def read_webdataset(
    origin: Origin, place: str, part: Part, data: DataSection
) -> EncodedSamples | None:
    """A part of a set of tars; None if there is no test part.

    Raises:
        UserError: no such tars, one that ends early, an image without a class or two of them, a
            class that is no number, a damaged image among those that are looked at.
    """
    tars = of_part(find_shards(origin, place, (".tar",)), part)
    if not tars:
        return None
    files, labels = TarFiles(), list[int]()
    for tar in tars:
        _index(origin, files, labels, tar)
    if not labels:
        raise origin.error(
            f"images in {tars[0].name}, there are none",
            f"give it members KEY{SUFFIXES[0]} and KEY.cls",
        )
    return open_encoded(files, labels, (place, f"the .cls of {place}"), data, origin)


def find_shards(origin: Origin, text: str, suffixes: tuple[str, ...]) -> list[Place]:
    """The files of these kinds that a pattern or a folder names. Raises `UserError`: none."""
    if text.endswith(suffixes) or "*" in text or "{" in text:
        found = [shard for one in expand(text) for shard in _matching(Place.of(origin, one))]
    else:
        found = [file for file in Place.of(origin, text).walk() if file.name.endswith(suffixes)]
    if not found:
        raise origin.error(
            f"{suffixes[0]} files, {text} has none", "name a folder or a pattern that has some"
        )
    return found


def _matching(place: Place) -> Sequence[Place]:
    return place.glob() if "*" in place.text or "?" in place.name else [place]


def expand(text: str) -> list[str]:
    """`a-{08..10}.tar` as a-08.tar, a-09.tar, a-10.tar; `{x,y}` as x and y; as it is without."""
    before, brace, rest = text.partition("{")
    inner, closed, after = rest.partition("}")
    if not (brace and closed):
        return [text]
    first, dots, last = inner.partition("..")
    if dots and first.isdigit() and last.isdigit():
        middles = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    else:
        middles = inner.split(",")
    return [before + middle + end for middle in middles for end in expand(after)]


def of_part(shards: list[Place], part: Part) -> list[Place]:
    """Those of the shards that are of a part, by the beginning of their file names."""
    tests = [shard for shard in shards if shard.name.startswith(("test", "val"))]
    trains = [shard for shard in shards if shard.name.startswith("train")]
    if not (tests and trains):
        return shards if part == "train" else []
    return trains if part == "train" else tests


def _index(origin: Origin, files: TarFiles, labels: list[int], tar: Place) -> None:
    """Append the images and labels of one tar, in the order of its images."""
    name, data = tar.name, tar.read()
    images: dict[str, tarfile.TarInfo] = {}
    classes: dict[str, int] = {}
    for member in tar_members(origin, name, data):
        key, suffix = _split(member.name)
        if suffix == ".cls":
            raw = data[member.offset_data : member.offset_data + member.size]
            classes[key] = _number(origin, f"{member.name} of {name}", raw)
        elif suffix in SUFFIXES:
            if key in images:
                raise origin.error(f"one image a key, {name} has two of {key}", AGAIN)
            images[key] = member
    for key, member in images.items():
        if key not in classes:
            raise origin.error(
                f"a class for every image, {name} has {member.name} (at byte "
                f"{member.offset_data:,}) and no {key}.cls",
                "write the class as digits to that member",
            )
        files.tars.append(tar)
        files.members.append(member.name)
        files.begins.append(member.offset_data)
        files.sizes.append(member.size)
        labels.append(classes[key])


def _split(name: str) -> tuple[str, str]:
    """A member's key, and its suffix in small letters, which begins at the first dot."""
    folder, slash, last = name.rpartition("/")
    key, dot, suffix = last.partition(".")
    return folder + slash + key, (dot + suffix).lower()


def _number(origin: Origin, what: str, raw: bytes) -> int:
    text = raw.strip()
    if not (text.isdigit() and len(text) <= 9):
        shown = text[:20].decode("ascii", "backslashreplace")
        raise origin.error(f"{what} to hold a class number, it holds {shown!r}", "write digits")
    return int(text)
